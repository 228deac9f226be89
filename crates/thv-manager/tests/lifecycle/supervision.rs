//! Supervisors: restarts, claims, and what becomes of a workload whose manager is gone.

use std::time::Duration;

use thv_core::WorkloadStatus;
use thv_manager::{Error, ListOptions, ReconcileAction, RunOptions, ShutdownMode, StartOptions, StopOptions};
use thv_runtime::{Call, MemoryRuntime};
use thv_status::{Authority, ClaimId, Desired, Draft, Operation, OwnerState, StatusManager};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn what_was_ready_once_is_restarted_with_back_off() {
    let world = World::new();
    let manager = world.manager();
    let url = run(&manager, "echo").await.url;
    let began = tokio::time::Instant::now();
    assert!(world.runtime.exit(&name("echo"), 1));
    world.until(&name("echo"), WorkloadStatus::Starting).await;
    let (_, context) = world.status_of(&name("echo")).await;
    assert!(context.contains("code 1"), "{context}");
    world.until(&name("echo"), WorkloadStatus::Running).await;
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(world.runtime.calls(Call::Deploy), 2);
    assert_eq!(manager.get(&name("echo")).await.unwrap().url, url);
}

/// An engine may need a moment to say how a server ended that is dead.
#[tokio::test(start_paused = true)]
async fn a_death_is_written_before_it_is_known_how_it_came() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    assert!(world.runtime.tell_ending(&name("echo")));
    world.until(&name("echo"), WorkloadStatus::Unhealthy).await;
    let (_, context) = world.status_of(&name("echo")).await;
    assert_eq!(context, "the server ended");
    assert!(world.runtime.exit(&name("echo"), 3));
    world.until(&name("echo"), WorkloadStatus::Starting).await;
    let (_, context) = world.status_of(&name("echo")).await;
    assert!(context.contains("code 3"), "{context}");
    world.until(&name("echo"), WorkloadStatus::Running).await;
    // Somebody else's restart is seen for what it is, once the engine is asked again.
    assert!(world.runtime.tell_ending(&name("echo")));
    world.until(&name("echo"), WorkloadStatus::Unhealthy).await;
    let deploys = world.runtime.calls(Call::Deploy);
    world.runtime.set_down(true);
    world.runtime.set_down(false);
    world.until(&name("echo"), WorkloadStatus::Running).await;
    assert_eq!(world.runtime.calls(Call::Deploy), deploys);
}

#[tokio::test(start_paused = true)]
async fn a_death_that_somebody_wished_is_no_failure() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    // As ToolHive's `stop` begins.
    world.toolhive_writes(&name("echo"), WorkloadStatus::Stopping, 0);
    assert!(world.runtime.tell_ending(&name("echo")));
    assert!(world.runtime.exit(&name("echo"), 0));
    world.until_unowned(&name("echo")).await;
    assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Stopped);
}

#[tokio::test(start_paused = true)]
async fn after_ten_tries_it_is_an_error_and_nothing_runs() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    // From now on it cannot be brought up.
    world.runtime.memory_images().only([]);
    let began = tokio::time::Instant::now();
    assert!(world.runtime.exit(&name("echo"), 1));
    while world.status_of(&name("echo")).await.0 != WorkloadStatus::Error {
        assert!(began.elapsed() < Duration::from_secs(3600), "it never gives up");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // 5 + 10 + 20 + 40 + 5 × 60 seconds lie between ten tries. Virtual time may run on while a socket is waited for.
    let waited = began.elapsed().as_secs();
    assert!(waited >= 375, "{waited} s");
    world.until_unowned(&name("echo")).await;
    let (_, context) = world.status_of(&name("echo")).await;
    assert!(context.contains("10 attempts"), "{context}");
    assert!(
        world.instance(&name("echo")).await.is_none(),
        "an instance is left"
    );
    assert_can_bind(world.config(&name("echo")).await.unwrap().port);
    assert_eq!(world.companion(&name("echo")).await.desired, Desired::Running);
}

#[tokio::test(start_paused = true)]
async fn a_stable_run_forgets_earlier_failures() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert!(world.runtime.exit(&name("echo"), 1));
        let deploys = world.runtime.calls(Call::Deploy);
        let again = eventually(|| async { world.runtime.calls(Call::Deploy) > deploys });
        assert!(again.await, "it was not restarted");
        world.until(&name("echo"), WorkloadStatus::Running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_waits_for_an_engine_that_restarts() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world.runtime.set_down(true);
    world.runtime.vanish(&name("echo"));
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.runtime.set_down(false);
    let restarted = async {
        while !world.runs(&name("echo")).await {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), restarted)
        .await
        .expect("it is restarted");
    world.until(&name("echo"), WorkloadStatus::Running).await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_for_hours_is_waited_for_and_costs_no_attempt() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world.runtime.set_down(true);
    world.runtime.vanish(&name("echo"));
    tokio::time::sleep(Duration::from_secs(4 * 3600)).await;
    let (status, context) = world.status_of(&name("echo")).await;
    assert_eq!(status, WorkloadStatus::Starting, "{context}");
    world.runtime.set_down(false);
    world.until(&name("echo"), WorkloadStatus::Running).await;
    assert!(world.runs(&name("echo")).await);
    // Told to stop in an outage, it stops waiting.
    world.runtime.set_down(true);
    world.runtime.vanish(&name("echo"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let _the_engine_is_away = manager.stop(&name("echo"), StopOptions::default()).await;
    world.until_unowned(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn any_number_of_engine_restarts_in_a_row_is_survived() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    for restart in 0..20 {
        // Its servers end first, then it is away.
        assert!(world.runtime.exit(&name("echo"), 137), "restart {restart}");
        world.until(&name("echo"), WorkloadStatus::Starting).await;
        world.runtime.set_down(true);
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.runtime.set_down(false);
        let began = tokio::time::Instant::now();
        world.until(&name("echo"), WorkloadStatus::Running).await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(30), "restart {restart}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_whose_answer_is_lost_leaves_no_instance() {
    let world = World::new();
    world.runtime.lose_answer(
        Call::Deploy,
        thv_runtime::Error::Denied {
            runtime: "memory".into(),
            detail: "lost".into(),
        },
    );
    let error = world
        .manager()
        .run(request("echo"), until_ready())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::StartFailed { .. }), "{error}");
    assert!(
        world.instance(&name("echo")).await.is_none(),
        "the instance is left"
    );
}

/// Gives the workload's record a new claim, as another owner would who could not wait.
async fn take_claim(
    world: &World,
    workload: &str,
    change: impl FnOnce(&mut Draft) + Send + 'static,
) -> ClaimId {
    let name = name(workload);
    let claim = ClaimId::random();
    let op = world
        .status
        .lock_op(&name, Operation::Start, Duration::from_secs(60))
        .await
        .unwrap();
    let new = claim.clone();
    let change = Box::new(move |draft: &mut Draft| {
        draft.companion.claim = new;
        change(draft);
    });
    world
        .status
        .update(&name, Authority::Verb(&op), change)
        .await
        .unwrap();
    claim
}

#[tokio::test(start_paused = true)]
async fn a_claim_lost_while_deploying_undoes_the_deployment() {
    let world = World::new();
    world.runtime.delay(Call::Deploy, Duration::from_secs(20));
    let manager = world.manager();
    manager.run(request("echo"), RunOptions::default()).await.unwrap();
    assert_eq!(world.runtime.calls(Call::Deploy), 1, "the first is deploying");
    let claim = take_claim(&world, "echo", |_| {}).await;
    let before = world.snapshot(&name("echo")).await;
    world.until_unowned(&name("echo")).await;
    assert!(
        world.instance(&name("echo")).await.is_none(),
        "the late one's instance is left"
    );
    let after = world.snapshot(&name("echo")).await;
    assert_eq!(after.companion, before.companion);
    assert_eq!(after.companion.unwrap().claim, claim);
    assert_eq!(after.status, before.status);
}

#[tokio::test(start_paused = true)]
async fn a_claim_lost_while_deploying_spares_the_instance_that_the_record_names() {
    let world = World::new();
    world.runtime.delay(Call::Deploy, Duration::from_secs(20));
    let manager = world.manager();
    manager.run(request("echo"), RunOptions::default()).await.unwrap();
    // The first instance of a memory runtime.
    take_claim(&world, "echo", |draft| {
        draft.companion.instance = Some(thv_runtime::InstanceId::new("memory-1"));
    })
    .await;
    world.until_unowned(&name("echo")).await;
    assert!(world.runs(&name("echo")).await, "it belongs to the new owner");
}

#[tokio::test(start_paused = true)]
async fn a_late_supervisor_writes_nothing_and_touches_no_instance() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    take_claim(&world, "echo", |_| {}).await;
    let before = world.snapshot(&name("echo")).await;
    world.until_unowned(&name("echo")).await;
    let after = world.snapshot(&name("echo")).await;
    assert_eq!((after.companion, after.status), (before.companion, before.status));
    // What serves a stdio server is its connection: it may end with it, but nobody asked it to.
    let touched = (world.runtime.calls(Call::Stop), world.runtime.calls(Call::Remove));
    assert_eq!(touched, (0, 0), "the new owner's instance was touched");
    assert_can_bind(world.config(&name("echo")).await.unwrap().port);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_hears_of_nothing_does_not_restart_under_a_lost_claim() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    assert!(world.runtime.exit(&name("echo"), 1));
    world.until(&name("echo"), WorkloadStatus::Starting).await;
    take_claim(&world, "echo", |_| {}).await;
    let before = world.companion(&name("echo")).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.runtime.calls(Call::Deploy), 1);
    assert_eq!(world.companion(&name("echo")).await, before);
    assert_eq!(world.owner(&name("echo")).await, OwnerState::Dead);
}

#[tokio::test(start_paused = true)]
async fn a_removed_workload_is_never_brought_back() {
    let world = World::new();
    let manager = world.manager();
    for delay in [0, 1, 5, 20] {
        world.runtime.delay(Call::Deploy, Duration::from_secs(delay));
        manager.run(request("echo"), RunOptions::default()).await.unwrap();
        // Past its owner, as somebody who deletes the folder by hand.
        world.state_forgets("echo").await;
        world.status.forget(&name("echo"));
        world.until_unowned(&name("echo")).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        let snapshot = world.snapshot(&name("echo")).await;
        assert!(
            snapshot.companion.is_none() && snapshot.status.is_none(),
            "{snapshot:?}"
        );
        assert!(world.config(&name("echo")).await.is_none());
        world.runtime.vanish(&name("echo"));
    }
}

#[tokio::test(start_paused = true)]
async fn rm_and_run_with_late_supervisors_leave_one_workload_at_most() {
    let world = World::new();
    world.runtime.delay(Call::Deploy, Duration::from_millis(700));
    world.runtime.delay(Call::Remove, Duration::from_millis(300));
    let (one, two) = (world.manager(), world.manager());
    for round in 0..50 {
        let (first, second) = if round % 2 == 0 {
            (&one, &two)
        } else {
            (&two, &one)
        };
        first
            .run(
                request("echo"),
                RunOptions {
                    wait: thv_manager::WaitFor::Owned,
                    ..RunOptions::default()
                },
            )
            .await
            .unwrap();
        if round % 3 == 0 {
            world.until(&name("echo"), WorkloadStatus::Running).await;
        }
        second
            .delete(&name("echo"), StopOptions::default())
            .await
            .unwrap();
        world.assert_nothing_of(&name("echo")).await;
    }
    run(&one, "echo").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_is_dropped_is_as_one_that_was_killed() {
    let world = World::new();
    let manager = world.manager();
    let first = run(&manager, "echo").await;
    let before = world.snapshot(&name("echo")).await;
    drop(manager);
    world.until_unowned(&name("echo")).await;
    let after = world.snapshot(&name("echo")).await;
    assert_eq!(
        (&after.companion, &after.status),
        (&before.companion, &before.status),
        "a killed one writes nothing"
    );

    let manager = world.manager();
    let listed = manager
        .list(ListOptions {
            all: true,
            ..ListOptions::default()
        })
        .await
        .unwrap();
    let workload = &listed.workloads[0];
    assert_eq!(workload.status, WorkloadStatus::Unhealthy);
    assert!(
        workload.status_context.contains("proxy"),
        "{}",
        workload.status_context
    );
    let plain = manager.list(ListOptions::default()).await.unwrap();
    assert!(plain.workloads.is_empty());
    assert!(
        plain.warnings[0].contains("\"echo\" should run and does not"),
        "{:?}",
        plain.warnings
    );
    let seen = world.snapshot(&name("echo")).await;
    assert_eq!(
        (seen.companion, seen.status),
        (after.companion, after.status),
        "a list writes nothing"
    );

    let second = manager.start(&name("echo"), start_until_ready()).await.unwrap();
    assert_eq!((second.ready, second.url), (true, first.url));
}

#[tokio::test(start_paused = true)]
async fn both_dead_is_told_and_one_start_restores_it() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    drop(manager);
    world.until_unowned(&name("echo")).await;
    world.runtime.vanish(&name("echo"));
    let manager = world.manager();
    let workload = manager.get(&name("echo")).await.unwrap();
    assert_eq!(workload.status, WorkloadStatus::Unhealthy);
    assert!(
        workload.status_context.contains("gone"),
        "{}",
        workload.status_context
    );
    assert!(
        manager
            .start(&name("echo"), start_until_ready())
            .await
            .unwrap()
            .ready
    );
}

#[tokio::test(start_paused = true)]
async fn another_boot_is_told_and_reconciled() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    drop(manager);
    world.until_unowned(&name("echo")).await;
    world.runtime.vanish(&name("echo"));
    world.processes.reboot("boot-2");
    let manager = world.manager();
    let workload = manager.get(&name("echo")).await.unwrap();
    assert_eq!(workload.status, WorkloadStatus::Stopped);
    assert!(
        workload.status_context.contains("machine restarted"),
        "{}",
        workload.status_context
    );
    let done = manager.reconcile(start_until_ready()).await.unwrap();
    assert!(matches!(done[0].action, ReconcileAction::Started), "{done:?}");
    world.until(&name("echo"), WorkloadStatus::Running).await;
}

#[tokio::test(start_paused = true)]
async fn what_another_application_launched_is_started_there_or_taken_over() {
    let world = World::new();
    for (launcher, other) in [(APP, "thv"), ("thv", APP), (APP, "com.example.other")] {
        let manager = world.manager_of(launcher);
        run(&manager, "echo").await;
        drop(manager);
        world.until_unowned(&name("echo")).await;
        let other = world.manager_of(other);
        let error = other
            .start(&name("echo"), StartOptions::default())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::BelongsElsewhere { launcher: named, .. } if named == launcher),
            "{error}"
        );
        let options = StartOptions {
            take_over: true,
            ..start_until_ready()
        };
        assert!(other.start(&name("echo"), options).await.unwrap().ready);
        // `stop` and `rm` are for all.
        world
            .manager_of(launcher)
            .delete(&name("echo"), StopOptions::default())
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn reconcile_starts_its_own_and_only_what_should_run() {
    let world = World::new();
    let mine = world.manager();
    run(&mine, "mine").await;
    run(&mine, "mine-stopped").await;
    mine.stop(&name("mine-stopped"), StopOptions::default())
        .await
        .unwrap();
    let other = world.manager_of("com.example.other");
    run(&other, "other").await;
    let alive = world.manager();
    run(&alive, "alive").await;
    drop((mine, other));
    world.until_unowned(&name("mine")).await;
    world.until_unowned(&name("other")).await;

    let manager = world.manager();
    let done = manager.reconcile(start_until_ready()).await.unwrap();
    let told: Vec<_> = done
        .iter()
        .map(|done| match &done.action {
            ReconcileAction::Started => format!("{} started", done.name),
            ReconcileAction::BelongsElsewhere { launcher } => format!("{} of {launcher}", done.name),
            other => format!("{} {other:?}", done.name),
        })
        .collect();
    assert_eq!(told, ["mine started", "other of com.example.other"]);
    world.assert_stopped(&name("mine-stopped")).await;
    assert_eq!(world.owner(&name("other")).await, OwnerState::Dead);
    assert_eq!(world.status_of(&name("mine")).await.0, WorkloadStatus::Running);
    let again = manager.reconcile(start_until_ready()).await.unwrap();
    assert!(
        again
            .iter()
            .all(|done| matches!(done.action, ReconcileAction::BelongsElsewhere { .. })),
        "{again:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_stops_everything_and_keeps_what_is_desired() {
    let world = World::new();
    let manager = world.manager();
    for workload in ["a", "b", "c"] {
        run(&manager, workload).await;
    }
    manager.shutdown(ShutdownMode::Stop).await.unwrap();
    for workload in ["a", "b", "c"] {
        world.assert_stopped(&name(workload)).await;
        assert_eq!(world.companion(&name(workload)).await.desired, Desired::Running);
    }
    let done = world.manager().reconcile(start_until_ready()).await.unwrap();
    assert_eq!(done.len(), 3, "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_drains_all_at_once() {
    // Servers that ignore the request to end take the whole grace, 30 seconds.
    let world = World::on(MemoryRuntime::new().with_server(|mut server| async move {
        while let Some(line) = server.next_line().await {
            if let Some(answer) = answer(&line) {
                server.write_line(&answer).await;
            }
        }
        std::future::pending().await
    }));
    let manager = world.manager();
    for workload in ["a", "b", "c"] {
        run(&manager, workload).await;
    }
    let began = tokio::time::Instant::now();
    manager.shutdown(ShutdownMode::Stop).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_was_given_up_goes_on_and_can_be_waited_for_again() {
    let world = World::on(MemoryRuntime::new().with_server(|mut server| async move {
        while let Some(line) = server.next_line().await {
            if let Some(answer) = answer(&line) {
                server.write_line(&answer).await;
            }
        }
        std::future::pending().await
    }));
    let manager = world.manager();
    run(&manager, "a").await;
    run(&manager, "b").await;
    let end = manager.shutdown(ShutdownMode::Stop);
    let given_up = tokio::time::timeout(Duration::from_secs(1), end).await;
    assert!(given_up.is_err(), "its servers take the whole grace");
    let (one, other) = tokio::join!(
        manager.shutdown(ShutdownMode::Stop),
        manager.shutdown(ShutdownMode::Stop)
    );
    one.and(other).unwrap();
    world.assert_stopped(&name("a")).await;
    world.assert_stopped(&name("b")).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_leaves_closes_only_the_proxies() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    manager.shutdown(ShutdownMode::Leave).await.unwrap();
    assert_eq!(world.owner(&name("echo")).await, OwnerState::Dead);
    assert_can_bind(world.config(&name("echo")).await.unwrap().port);
    assert_eq!(world.runtime.calls(Call::Stop), 0);
    assert_eq!(world.companion(&name("echo")).await.desired, Desired::Running);
}

#[tokio::test(start_paused = true)]
async fn a_stop_with_a_short_grace_does_not_wait_for_the_long_one() {
    let world = World::on(MemoryRuntime::new().with_server(|mut server| async move {
        while let Some(line) = server.next_line().await {
            if let Some(answer) = answer(&line) {
                server.write_line(&answer).await;
            }
        }
        std::future::pending().await
    }));
    let manager = world.manager();
    run(&manager, "echo").await;
    let began = tokio::time::Instant::now();
    let options = StopOptions {
        grace: Duration::from_secs(1),
        force: false,
    };
    world
        .manager_of("thv")
        .stop(&name("echo"), options)
        .await
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    world.assert_stopped(&name("echo")).await;
}
