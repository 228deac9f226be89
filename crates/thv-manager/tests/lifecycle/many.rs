//! Batches, lists, and engines that are down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thv_core::WorkloadStatus;
use thv_manager::{
    Error, ListOptions, LogRequest, RunOptions, RunRequest, StartOptions, StopOptions, WaitFor,
};
use thv_runtime::{Call, MemoryRuntime};

use crate::support::*;

const ALL: ListOptions = ListOptions {
    all: true,
    selector: None,
    group: None,
};

#[tokio::test(start_paused = true)]
async fn a_batch_answers_for_each_name_in_its_order_and_cancels_nobody() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "a").await;
    run(&manager, "c").await;
    let names = ["c", "missing", "../a", "a"].map(str::to_owned).to_vec();
    let results = manager.stop_all(names, StopOptions::default()).await;
    let told: Vec<_> = results
        .iter()
        .map(|one| {
            (
                one.name.as_str(),
                one.result.as_ref().map_or_else(Error::code, |_| "stopped"),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("c", "stopped"),
            ("missing", "not_found"),
            ("../a", "invalid_name"),
            ("a", "stopped")
        ]
    );
    world.assert_stopped(&name("a")).await;
    world.assert_stopped(&name("c")).await;
    let names = ["a", "missing", "c"].map(str::to_owned).to_vec();
    let results = manager.delete_all(names, StopOptions::default()).await;
    assert!(results.iter().all(|one| one.result.is_ok()), "{results:?}");
    world.assert_nothing_of(&name("a")).await;
    world.assert_nothing_of(&name("c")).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_runs_is_named_as_its_requests_are() {
    let world = World::new();
    let manager = world.manager();
    let nameless = RunRequest {
        name: None,
        ..request("c")
    };
    let server = nameless.server.clone();
    let broken = RunRequest {
        env: vec!["no assignment".into()],
        ..request("b")
    };
    let results = manager
        .run_all(vec![request("a"), broken, nameless], until_ready())
        .await;
    let told: Vec<_> = results
        .iter()
        .map(|one| (one.name.as_str(), one.result.is_ok()))
        .collect();
    assert_eq!(told, [("a", true), ("b", false), (server.as_str(), true)]);
    assert!(world.runs(&name("a")).await);
    let derived = &results[2].result.as_ref().unwrap().name;
    assert!(world.runs(derived).await);
    world.assert_nothing_of(&name("b")).await;
}

#[tokio::test(start_paused = true)]
async fn at_most_eight_are_worked_on_at_once() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (now.clone(), most.clone());
    // A server counts as worked on until it answers; that takes it a second.
    let world = World::on(MemoryRuntime::new().with_server(move |server| {
        let (now, most) = counted.clone();
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            now.fetch_sub(1, Ordering::Relaxed);
            mcp_server(server).await
        }
    }));
    let manager = world.manager();
    let names: Vec<_> = (0..30).map(|number| format!("w{number}")).collect();
    for name in &names {
        run(&manager, name).await;
    }
    let stopped = manager.stop_all(names.clone(), StopOptions::default()).await;
    assert!(stopped.iter().all(|one| one.result.is_ok()), "{stopped:?}");
    most.store(0, Ordering::Relaxed);
    let results = manager.start_all(names, start_until_ready()).await;
    assert!(
        results
            .iter()
            .all(|one| one.result.as_ref().is_ok_and(|run| run.ready)),
        "{results:?}"
    );
    assert_eq!(most.load(Ordering::Relaxed), 8);
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_handle_is_dropped_goes_on() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "a").await;
    run(&manager, "b").await;
    drop(manager.stop_all(vec!["a".into(), "b".into()], StopOptions::default()));
    world.until(&name("a"), WorkloadStatus::Stopped).await;
    world.until(&name("b"), WorkloadStatus::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_given_up_after_five_minutes_and_holds_nobody_up() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "a").await;
    world.runtime.delay(Call::Inspect, Duration::from_secs(3600));
    let began = tokio::time::Instant::now();
    let results = manager.stop_all(vec!["a".into()], StopOptions::default()).await;
    assert!(
        matches!(results[0].result, Err(Error::TimedOut { .. })),
        "{results:?}"
    );
    assert!(
        began.elapsed() <= Duration::from_secs(301),
        "{:?}",
        began.elapsed()
    );
    // What it held is free again.
    world.runtime.delay(Call::Inspect, Duration::ZERO);
    manager.stop(&name("a"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("a")).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_with_the_engine_down_says_so_and_writes_nothing() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "alive").await;
    let killed = world.manager();
    run(&killed, "dead").await;
    drop(killed);
    world.until_unowned(&name("dead")).await;
    world.runtime.set_down(true);
    let before = [
        world.snapshot(&name("alive")).await,
        world.snapshot(&name("dead")).await,
    ];
    let listed = manager.list(ALL).await.unwrap();
    assert!(
        listed.warnings.iter().any(|warning| warning.contains("set down")),
        "{:?}",
        listed.warnings
    );
    let told: Vec<_> = listed
        .workloads
        .iter()
        .map(|workload| (workload.name.as_str(), workload.status))
        .collect();
    assert_eq!(
        told,
        [
            ("alive", WorkloadStatus::Unknown),
            ("dead", WorkloadStatus::Unhealthy)
        ]
    );
    for workload in &listed.workloads {
        assert!(
            workload.status_context.contains("set down"),
            "{}",
            workload.status_context
        );
    }
    let after = [
        world.snapshot(&name("alive")).await,
        world.snapshot(&name("dead")).await,
    ];
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(
            (&before.companion, &before.status),
            (&after.companion, &after.status)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_down_is_an_answer_and_no_wait() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world.runtime.set_down(true);
    let began = tokio::time::Instant::now();
    assert!(manager.logs(&name("echo"), LogRequest::default()).await.is_err());
    assert!(matches!(
        manager.get(&name("other")).await,
        Err(Error::NotFound { .. })
    ));
    assert_eq!(
        manager.get(&name("echo")).await.unwrap().status,
        WorkloadStatus::Unknown
    );
    assert!(manager.status(&name("echo")).await.is_ok());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_nobody_needs_may_be_down() {
    let world = World::new();
    world.runtime.set_down(true);
    let listed = world.manager().list(ALL).await.unwrap();
    assert_eq!(listed.warnings, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn verbs_on_one_name_wait_for_each_other() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world.runtime.delay(Call::Stop, Duration::from_secs(5));
    let restart = || async {
        manager
            .restart(&name("echo"), StopOptions::default(), start_until_ready())
            .await
            .map(|_| ())
    };
    let other = world.manager_of("thv");
    let (echo, stopped) = (name("echo"), StopOptions::default());
    let (one, two, three) = tokio::join!(restart(), other.stop(&echo, stopped), restart());
    two.unwrap();
    for result in [one, three] {
        // A start that lost to a stop says so; nothing else goes wrong.
        if let Err(error) = result {
            assert!(matches!(error, Error::Conflict { .. }), "{error}");
        }
    }
    let companion = world.companion(&name("echo")).await;
    assert_eq!(companion.pending, None);
    let runs = companion.desired == thv_status::Desired::Running;
    assert_eq!(world.runs(&name("echo")).await, runs);
}

#[tokio::test(start_paused = true)]
async fn starts_at_once_bring_up_one_supervisor() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    let before = world.runtime.calls(Call::Deploy);
    let managers: Vec<_> = (0..5).map(|_| world.manager()).collect();
    let starts = managers
        .iter()
        .map(|manager| async { manager.start(&name("echo"), start_until_ready()).await });
    let outcomes = futures_util::future::join_all(starts).await;
    let fresh = outcomes
        .iter()
        .filter(|outcome| !outcome.as_ref().unwrap().already_running)
        .count();
    assert_eq!(fresh, 1, "{outcomes:?}");
    assert_eq!(world.runtime.calls(Call::Deploy), before + 1);
}

/// Every verb may be dropped at any moment: what it holds is free, and the next verb goes on from there.
#[tokio::test(start_paused = true)]
async fn a_verb_that_is_dropped_holds_nothing() {
    for call in [Call::Inspect, Call::Deploy, Call::Stop, Call::Remove] {
        let world = World::new();
        let manager = world.manager();
        let dropped = Duration::from_secs(2);
        for _ in 0..2 {
            world.runtime.delay(call, Duration::from_secs(10));
            let _ = tokio::time::timeout(dropped, manager.run(request("echo"), until_ready())).await;
            let _ = tokio::time::timeout(dropped, manager.stop(&name("echo"), StopOptions::default())).await;
            let _ =
                tokio::time::timeout(dropped, manager.start(&name("echo"), StartOptions::default())).await;
            let _ =
                tokio::time::timeout(dropped, manager.delete(&name("echo"), StopOptions::default())).await;
            world.runtime.delay(call, Duration::ZERO);
            manager
                .delete(&name("echo"), StopOptions::default())
                .await
                .unwrap();
            world.assert_nothing_of(&name("echo")).await;
        }
        run(&manager, "echo").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_launch_window_that_is_over_is_no_failure() {
    let world = World::new();
    world.runtime.delay(Call::Deploy, Duration::from_secs(20));
    let manager = world.manager();
    let began = tokio::time::Instant::now();
    let outcome = manager.run(request("echo"), RunOptions::default()).await.unwrap();
    assert!(!outcome.ready);
    assert_eq!(began.elapsed().as_secs(), 3);
    let options = RunOptions {
        wait: WaitFor::Ready(Duration::from_secs(5)),
        replace: true,
        ..RunOptions::default()
    };
    let error = manager.run(request("echo"), options).await.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }), "{error}");
    world
        .until_running_within(&name("echo"), Duration::from_secs(60))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_says_how_far_it_has_come() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "a").await;
    run(&manager, "b").await;
    let names = ["a", "missing", "b"].map(str::to_owned).to_vec();
    let batch = manager.restart_all(names, StopOptions::default(), start_until_ready());
    let mut finished = batch.finished();
    assert!(!batch.is_done());
    assert!(finished.wait_for(|finished| *finished == 3).await.is_ok());
    let results = batch.await;
    let ok: Vec<_> = results.iter().map(|one| one.result.is_ok()).collect();
    assert_eq!(ok, [true, false, true], "{results:?}");
    assert_eq!(world.runtime.calls(Call::Deploy), 4);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_needed_is_waited_for_and_no_longer_than_said() {
    let world = World::new();
    let manager = world.manager();
    let nothing = manager.wait_for_runtimes(Duration::from_secs(60)).await.unwrap();
    assert!(nothing.is_empty(), "{nothing:?}");
    run(&manager, "echo").await;
    // As after a boot: nobody supervises it, and the engine is not up.
    drop(manager);
    world.until_unowned(&name("echo")).await;
    world.runtime.set_down(true);
    let manager = world.manager();
    let began = tokio::time::Instant::now();
    let limit = Duration::from_secs(120);
    let down = manager.wait_for_runtimes(limit).await.unwrap();
    assert_eq!(down.len(), 1, "{down:?}");
    assert_eq!(began.elapsed(), limit);
    let engine = world.runtime.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        engine.set_down(false);
    });
    let began = tokio::time::Instant::now();
    assert!(manager.wait_for_runtimes(limit).await.unwrap().is_empty());
    assert!(began.elapsed() < Duration::from_secs(32), "{:?}", began.elapsed());
    // What was stopped needs no engine.
    world.runtime.set_down(false);
    manager.start(&name("echo"), start_until_ready()).await.unwrap();
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.runtime.set_down(true);
    assert!(manager.wait_for_runtimes(limit).await.unwrap().is_empty());
}
