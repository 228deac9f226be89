//! Verbs that meet on one workload, and verbs that refuse before they destroy.

use std::sync::Arc;
use std::time::Duration;

use thv_core::WorkloadStatus;
use thv_manager::{
    Error, ForegroundEnd, ForegroundOptions, ReconcileAction, RunOptions, StartOptions, StopOptions,
    StopOutcome,
};
use thv_runtime::Call;
use thv_status::{Authority, Draft, Operation, OwnerState, StatusManager};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::mortal::{Fault, Life};
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_stop_that_waited_for_a_removal_brings_nothing_back() {
    for round in 0..4 {
        let world = World::new();
        world.runtime.delay(Call::Remove, Duration::from_millis(300));
        let (one, two) = (world.manager(), world.manager());
        run(&one, "echo").await;
        let echo = name("echo");
        let removal = one.delete(&echo, StopOptions::default());
        let late = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if round % 2 == 0 {
                two.stop(&echo, StopOptions::default()).await.map(drop)
            } else {
                two.delete(&echo, StopOptions::default()).await
            }
        };
        let (removed, late) = tokio::join!(removal, late);
        removed.unwrap();
        match late {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        world.assert_nothing_of(&echo).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_cannot_start_stops_nothing() {
    let world = World::new();
    let owner = world.manager();
    run(&owner, "echo").await;
    let stranger = world.manager_of("com.example.other");
    let refused = stranger
        .restart(&name("echo"), StopOptions::default(), StartOptions::default())
        .await;
    assert!(
        matches!(refused, Err(Error::BelongsElsewhere { .. })),
        "{refused:?}"
    );
    assert!(world.runs(&name("echo")).await);
    assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn restart_killed_at_any_step_runs_again() {
    for step in 0..200 {
        let world = World::new();
        let manager = world.manager();
        run(&manager, "echo").await;
        drop(manager);
        world.until_unowned(&name("echo")).await;
        let life = Life::of(step);
        life.live(&world, |manager: thv_manager::Manager| async move {
            manager
                .restart(&name("echo"), StopOptions::default(), start_until_ready())
                .await
                .unwrap();
        })
        .await;
        let over = life.is_over();
        world.manager().reconcile(start_until_ready()).await.unwrap();
        let status = world.status_of(&name("echo")).await;
        // Asked to stop, and cut off before it was a restart: stopped, as a `stop` would have left it.
        let asked = world.companion(&name("echo")).await.desired == thv_status::Desired::Stopped;
        if !asked {
            assert_eq!(status.0, WorkloadStatus::Running, "step {step}: {status:?}");
        }
        assert_eq!(world.companion(&name("echo")).await.pending, None, "step {step}");
        if !over {
            assert!(step > 5);
            return;
        }
    }
    panic!("the verb has no end");
}

#[tokio::test(start_paused = true)]
async fn a_start_over_what_toolhive_was_removing_is_shown_as_running() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.toolhive_writes(&name("echo"), WorkloadStatus::Removing, 0);
    let outcome = manager.start(&name("echo"), start_until_ready()).await.unwrap();
    assert!(outcome.ready);
    assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Running);
    let stopped = manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    assert_eq!(stopped, StopOutcome::Stopped);
    world.assert_stopped(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_replacement_keeps_its_own_port() {
    let world = World::new();
    let (one, two) = (world.manager(), world.manager());
    run(&one, "echo").await;
    let port = world.config(&name("echo")).await.unwrap().port;
    let mut anew = request("echo");
    anew.proxy_port = Some(port);
    anew.args = vec!["--new".into()];
    // From another process, whose request the first one has to hear.
    let outcome = two.run(anew, replacing()).await.unwrap();
    assert!(outcome.ready);
    let config = world.config(&name("echo")).await.unwrap();
    assert_eq!((config.port, config.cmd_args.len()), (port, 1));
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_fails_leaves_the_old_one_as_it_was() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    let config = world.config(&name("echo")).await;
    let ready = world.companion(&name("echo")).await.ready;
    world.runtime.fail_next(
        Call::Remove,
        thv_runtime::Error::Unavailable {
            runtime: "memory".into(),
            detail: "it is down".into(),
            source: None,
        },
    );
    let mut anew = request("echo");
    anew.args = vec!["--new".into()];
    let failed = manager.run(anew, replacing()).await;
    assert!(failed.is_err(), "{failed:?}");
    assert_eq!(world.config(&name("echo")).await, config);
    let companion = world.companion(&name("echo")).await;
    assert_eq!((companion.pending, companion.ready), (None, ready));
    assert_eq!(companion.desired, thv_status::Desired::Running, "as before");
    let done = world.manager().reconcile(start_until_ready()).await.unwrap();
    assert_eq!(done.len(), 1, "{done:?}");
    world.until(&name("echo"), WorkloadStatus::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_foreground_run_deletes_only_what_is_still_its_own() {
    let world = World::new();
    let (cancel, ready) = (CancellationToken::new(), Arc::new(Notify::new()));
    let foreground = tokio::spawn({
        let (manager, cancel, ready) = (world.manager(), cancel.clone(), ready.clone());
        async move {
            let options = ForegroundOptions::default();
            let told = move |_| ready.notify_one();
            manager
                .run_foreground(request("echo"), options, cancel, told)
                .await
        }
    });
    ready.notified().await;
    let other = world.manager();
    let elsewhere = tokio::spawn({
        let manager = other.clone();
        async move {
            let stop = StopOptions::default();
            manager.restart(&name("echo"), stop, start_until_ready()).await
        }
    });
    // What the signal does to a process in the foreground.
    assert!(eventually(|| async { !world.processes.signals().is_empty() }).await);
    cancel.cancel();
    assert!(elsewhere.await.unwrap().unwrap().ready);
    let end = foreground.await.unwrap().unwrap();
    assert_ne!(end, ForegroundEnd::Deleted);
    assert!(world.config(&name("echo")).await.is_some());
    assert!(world.runs(&name("echo")).await);
}

#[tokio::test(start_paused = true)]
async fn a_launch_after_the_shutdown_launches_nothing() {
    let world = World::new();
    let manager = world.manager();
    manager.shutdown(thv_manager::ShutdownMode::Stop).await.unwrap();
    let late = manager.run(request("echo"), RunOptions::default()).await;
    assert!(late.is_err(), "{late:?}");
    assert_eq!(world.owner(&name("echo")).await, OwnerState::Dead);
    assert!(!world.runs(&name("echo")).await);
}

#[tokio::test(start_paused = true)]
async fn a_change_before_anybody_listened_is_heard_too() {
    let world = World::new();
    let manager = world.manager();
    let outcome = manager
        .run(
            request("echo"),
            RunOptions {
                wait: thv_manager::WaitFor::Owned,
                ..RunOptions::default()
            },
        )
        .await
        .unwrap();
    // In the same turn of the scheduler, before the listener had one.
    let op = world
        .status
        .lock_op(&outcome.name, Operation::Stop, Duration::from_secs(10))
        .await
        .unwrap();
    let stop = Box::new(|draft: &mut Draft| draft.companion.desired = thv_status::Desired::Stopped);
    world
        .status
        .update(&outcome.name, Authority::Verb(&op), stop)
        .await
        .unwrap();
    drop(op);
    world.until_unowned(&outcome.name).await;
    assert!(!world.runs(&outcome.name).await);
}

/// Whatever is read late, what was read before it is not held against it.
#[tokio::test(start_paused = true)]
async fn a_list_that_takes_long_tells_no_half_of_a_change() {
    use WorkloadStatus as S;
    for read in 0..3 {
        for starts in [true, false] {
            let world = World::new();
            let manager = world.manager();
            run(&manager, "echo").await;
            let (echo, options) = (name("echo"), StopOptions::default());
            if starts {
                manager.stop(&echo, options).await.unwrap();
            }
            let life = Life::with(None);
            let reader = life.manager(&world);
            life.slow_down(Some((read, Duration::from_secs(10))));
            let all = thv_manager::ListOptions {
                all: true,
                ..Default::default()
            };
            let change = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if starts {
                    manager.start(&echo, start_until_ready()).await.map(drop)
                } else {
                    manager.stop(&echo, options).await.map(drop)
                }
            };
            let (listed, changed) = tokio::join!(reader.list(all), change);
            changed.unwrap();
            let listed = &listed.unwrap().workloads[0];
            assert!(
                matches!(listed.status, S::Running | S::Stopped),
                "{read}, {starts}: {listed:?}"
            );
        }
    }
}

/// Whether `port` can be bound: a proxy that is to end closes it before its server is stopped.
async fn until_free(port: u16) -> std::net::TcpListener {
    let bind = || std::net::TcpListener::bind(("127.0.0.1", port));
    assert!(eventually(|| async { bind().is_ok() }).await, "{port}");
    bind().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_waits_for_a_stop_does_not_hold_its_port() {
    let world = World::new();
    world.runtime.delay(Call::Stop, Duration::from_secs(1));
    let (one, two, echo) = (world.manager(), world.manager(), name("echo"));
    run(&one, "echo").await;
    let port = world.config(&echo).await.unwrap().port;
    let replacement = async {
        drop(until_free(port).await);
        two.run(request("echo"), replacing()).await
    };
    let (stopped, replaced) = tokio::join!(one.stop(&echo, StopOptions::default()), replacement);
    assert_eq!(stopped.unwrap(), StopOutcome::Stopped);
    assert!(replaced.unwrap().ready);
    assert_eq!(world.config(&echo).await.unwrap().port, port);
}

/// As far as anybody can tell whose it is.
#[tokio::test(start_paused = true)]
async fn a_port_that_another_program_takes_at_once_is_no_failed_stop() {
    for is_seen in [true, false] {
        let world = World::new();
        world.runtime.delay(Call::Stop, Duration::from_secs(1));
        let (manager, echo) = (world.manager(), name("echo"));
        run(&manager, "echo").await;
        let port = world.config(&echo).await.unwrap().port;
        let other = world
            .processes
            .add(thv_process::MemoryProcess::new("/usr/sbin/nginx"));
        let takes = async {
            let listener = until_free(port).await;
            if is_seen {
                world.processes.listen(port, other.pid);
            }
            listener
        };
        let (stopped, _listener) = tokio::join!(manager.stop(&echo, StopOptions::default()), takes);
        match stopped {
            Ok(outcome) => assert!(is_seen && outcome == StopOutcome::Stopped, "{outcome:?}"),
            Err(Error::StillRunning { detail, .. }) => {
                assert!(!is_seen && detail.contains(&port.to_string()), "{detail}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// At whatever point of a reconcile its workload is removed, that is no failure; who asks a start under way to give up may see it
/// told as one.
#[tokio::test(start_paused = true)]
async fn what_is_removed_during_a_reconcile_is_gone() {
    let mut gone = 0;
    for point in 0..12 {
        let world = World::new();
        let owner = world.manager();
        run(&owner, "echo").await;
        drop(owner);
        world.until_unowned(&name("echo")).await;
        let life = Life::with(Some((point, Fault::Delay(Duration::from_secs(10)))));
        let (reconciling, other) = (life.manager(&world), world.manager());
        let removal = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            other.delete(&name("echo"), StopOptions::default()).await
        };
        let (done, removed) = tokio::join!(reconciling.reconcile(StartOptions::default()), removal);
        removed.unwrap();
        let done = done.unwrap();
        gone += usize::from(done.is_empty());
        for one in done {
            match one.action {
                ReconcileAction::Failed(Error::Conflict { .. }) => {}
                ReconcileAction::Failed(error) => panic!("{point}: {error}"),
                _ => {}
            }
        }
        world.assert_nothing_of(&name("echo")).await;
    }
    assert!(gone > 0, "none was removed before it was started");
}
