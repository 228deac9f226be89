//! Other programs on the same files: ToolHive above all.

use thv_core::WorkloadStatus;
use thv_manager::{Error, ListOptions, Override, ReconcileAction, ShutdownMode, StopOptions};
use thv_process::MemoryProcess;
use thv_runtime::{Call, MemoryRuntime, Runtime};
use thv_state::StateStoreExt;
use thv_status::Desired;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_foreign_stop_stops_what_an_application_runs() {
    for status in [
        WorkloadStatus::Stopping,
        WorkloadStatus::Stopped,
        WorkloadStatus::Removing,
        WorkloadStatus::PolicyStopped,
    ] {
        let world = World::new();
        let manager = world.manager();
        run(&manager, "echo").await;
        world.toolhive_writes(&name("echo"), status, 0);
        world.until_unowned(&name("echo")).await;
        assert!(!world.runs(&name("echo")).await, "{status}");
        let snapshot = world.snapshot(&name("echo")).await;
        assert_eq!(snapshot.desired(), Desired::Stopped, "{status}");
        tokio::time::sleep(std::time::Duration::from_secs(600)).await;
        assert!(!world.runs(&name("echo")).await, "{status}");
        drop(manager);
        assert!(
            world
                .manager()
                .reconcile(start_until_ready())
                .await
                .unwrap()
                .iter()
                .all(|done| matches!(done.action, ReconcileAction::Stopped))
        );
        assert!(!world.runs(&name("echo")).await, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_stop_between_an_exit_and_its_restart_counts() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    // ToolHive stops the container and says so.
    world.toolhive_writes(&name("echo"), WorkloadStatus::Stopped, 0);
    assert!(world.runtime.exit(&name("echo"), 0));
    world.until_unowned(&name("echo")).await;
    world.assert_stopped(&name("echo")).await;
    assert_eq!(world.runtime.calls(Call::Deploy), 1);
}

#[tokio::test(start_paused = true)]
async fn a_status_file_that_is_gone_means_stopped() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world.status.write_status_file(&name("echo"), None);
    world.until_unowned(&name("echo")).await;
    assert!(!world.runs(&name("echo")).await);
    assert_eq!(world.snapshot(&name("echo")).await.desired(), Desired::Stopped);
}

#[tokio::test(start_paused = true)]
async fn what_toolhive_removed_does_not_exist() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.status.write_status_file(&name("echo"), None);
    world.state.delete_run_config(&name("echo")).await.unwrap();
    world.runtime.vanish(&name("echo"));
    let listed = manager
        .list(ListOptions {
            all: true,
            ..ListOptions::default()
        })
        .await
        .unwrap();
    assert!(listed.workloads.is_empty(), "{:?}", listed.workloads);
    assert_eq!(listed.warnings, Vec::<String>::new());
    let error = manager
        .stop(&name("echo"), StopOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let error = manager.get(&name("echo")).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    run(&manager, "echo").await;
    assert_eq!(world.companion(&name("echo")).await.desired, Desired::Running);
}

#[tokio::test(start_paused = true)]
async fn the_record_of_what_toolhive_removed_goes_with_the_next_change() {
    for reconcile in [true, false] {
        let world = World::new();
        let manager = world.manager();
        run(&manager, "echo").await;
        manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
        world.status.write_status_file(&name("echo"), None);
        world.state.delete_run_config(&name("echo")).await.unwrap();
        world.runtime.vanish(&name("echo"));
        if reconcile {
            manager.reconcile(start_until_ready()).await.unwrap();
        } else {
            manager
                .delete(&name("echo"), StopOptions::default())
                .await
                .unwrap();
        }
        world.assert_nothing_of(&name("echo")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_running_with_a_strangers_pid_is_ignored_and_nobody_is_signalled() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    let stranger = world
        .processes
        .add(MemoryProcess::new("/usr/bin/editor").args(["notes"]));
    world.toolhive_writes(&name("echo"), WorkloadStatus::Running, i64::from(stranger.pid));
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(world.runs(&name("echo")).await);
    let workload = manager.get(&name("echo")).await.unwrap();
    assert_eq!(workload.status, WorkloadStatus::Running);
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("echo")).await;
    assert_eq!(world.processes.signals(), []);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_unhealthy_is_ignored_while_both_live() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world.toolhive_writes(&name("echo"), WorkloadStatus::Unhealthy, 0);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(world.runs(&name("echo")).await);
    let workload = manager.get(&name("echo")).await.unwrap();
    assert_eq!(
        workload.status,
        WorkloadStatus::Running,
        "{}",
        workload.status_context
    );
    assert_eq!(world.snapshot(&name("echo")).await.desired(), Desired::Running);
}

#[tokio::test(start_paused = true)]
async fn any_other_foreign_status_is_shown_and_changes_nothing() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world.toolhive_writes(&name("echo"), WorkloadStatus::Error, 0);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(world.runs(&name("echo")).await);
    let workload = manager.get(&name("echo")).await.unwrap();
    assert_eq!(workload.status, WorkloadStatus::Error);
    assert_eq!(world.snapshot(&name("echo")).await.desired(), Desired::Running);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_status_file_hides_nothing_and_can_be_stopped() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world
        .status
        .write_status_file(&name("echo"), Some(b"{\"status\": \"runn".to_vec()));
    let listed = manager
        .list(ListOptions {
            all: true,
            ..ListOptions::default()
        })
        .await
        .unwrap();
    assert_eq!(listed.workloads.len(), 1);
    assert!(
        listed.warnings.iter().any(|warning| warning.contains("echo")),
        "{:?}",
        listed.warnings
    );
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("echo")).await;
}

/// A workload that ToolHive made: configuration, status file and container, and no record.
async fn made_by_toolhive(world: &World, status: WorkloadStatus, pid: i64) {
    let source = World::new();
    let manager = source.manager();
    run(&manager, "echo").await;
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    let config = source.config(&name("echo")).await.unwrap();
    world
        .state
        .write_run_config(&name("echo"), &config)
        .await
        .unwrap();
    world.toolhive_writes(&name("echo"), status, pid);
}

#[tokio::test(start_paused = true)]
async fn what_toolhive_made_is_listed_started_stopped_and_removed() {
    let world = World::new();
    made_by_toolhive(&world, WorkloadStatus::Stopped, 0).await;
    let manager = world.manager_of("thv");
    let listed = manager
        .list(ListOptions {
            all: true,
            ..ListOptions::default()
        })
        .await
        .unwrap();
    assert_eq!(listed.workloads[0].status, WorkloadStatus::Stopped);
    assert!(
        world.snapshot(&name("echo")).await.companion.is_none(),
        "a list adopts nothing"
    );
    assert!(
        manager
            .start(&name("echo"), start_until_ready())
            .await
            .unwrap()
            .ready
    );
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("echo")).await;
    manager
        .delete(&name("echo"), StopOptions::default())
        .await
        .unwrap();
    world.assert_nothing_of(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn toolhives_proved_proxy_is_ended_by_a_stop_and_a_strangers_is_not() {
    let world = World::new();
    let proxy = world.processes.add(
        MemoryProcess::new("/usr/local/bin/thv")
            .args(["start", "echo", "--foreground"])
            .env("TOOLHIVE_DETACHED", "1"),
    );
    let alike = world.processes.add(
        MemoryProcess::new("/usr/local/bin/thv")
            .args(["start", "echo-two"])
            .env("TOOLHIVE_DETACHED", "1"),
    );
    made_by_toolhive(&world, WorkloadStatus::Running, i64::from(proxy.pid)).await;
    world.toolhive_writes_now(&name("echo"), WorkloadStatus::Running, i64::from(proxy.pid));
    let manager = world.manager_of("thv");
    let outcome = manager.start(&name("echo"), start_until_ready()).await.unwrap();
    assert!(outcome.already_running, "it runs: a start leaves it alone");
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    let signalled: Vec<_> = world
        .processes
        .signals()
        .into_iter()
        .map(|(whom, _)| whom.pid)
        .collect();
    assert_eq!(signalled, [proxy.pid]);
    assert!(!signalled.contains(&alike.pid), "{signalled:?}");
    assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Stopped);
}

#[tokio::test(start_paused = true)]
async fn reconcile_brings_back_what_toolhive_last_started() {
    let world = World::new();
    made_by_toolhive(&world, WorkloadStatus::Running, 4242).await;
    let app = world.manager();
    let done = app.reconcile(start_until_ready()).await.unwrap();
    assert!(
        matches!(done[0].action, ReconcileAction::BelongsElsewhere { .. }),
        "{done:?}"
    );
    let done = world
        .manager_of("thv")
        .reconcile(start_until_ready())
        .await
        .unwrap();
    assert!(matches!(done[0].action, ReconcileAction::Started), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn what_toolhive_starts_is_left_to_it() {
    for proved in [false, true] {
        let world = World::new();
        let manager = world.manager();
        run(&manager, "echo").await;
        if proved {
            let proxy = world.processes.add(
                MemoryProcess::new("/usr/local/bin/thv")
                    .args(["start", "echo"])
                    .env("TOOLHIVE_DETACHED", "1"),
            );
            world.toolhive_writes_now(&name("echo"), WorkloadStatus::Running, i64::from(proxy.pid));
        } else {
            world.toolhive_writes(&name("echo"), WorkloadStatus::Starting, 0);
        }
        let file = world.snapshot(&name("echo")).await.status;
        world.until_unowned(&name("echo")).await;
        assert_eq!(
            world.snapshot(&name("echo")).await.status,
            file,
            "its file is untouched"
        );
        let touched = (world.runtime.calls(Call::Stop), world.runtime.calls(Call::Remove));
        assert_eq!(touched, (0, 0), "its instance is untouched");
        assert_can_bind(world.config(&name("echo")).await.unwrap().port);
        assert_eq!(world.processes.signals(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_engine_has_is_shown_as_there_and_nothing_changes() {
    let world = World::on(
        MemoryRuntime::new()
            .with_server(mcp_server)
            .with_identity("first"),
    );
    let manager = world.manager();
    run(&manager, "echo").await;
    manager.shutdown(ShutdownMode::Leave).await.unwrap();
    let before = world.companion(&name("echo")).await;
    assert_eq!(
        before.runtime.as_ref().unwrap().engine_id.as_deref(),
        Some("first")
    );

    // The same kind, and another engine.
    let second = MemoryRuntime::new()
        .with_server(mcp_server)
        .with_identity("second");
    let runtimes = thv_runtime::Runtimes::new().with(std::sync::Arc::new(second.clone()));
    let other = world.builder(APP).runtimes(runtimes).build().unwrap();
    let all = ListOptions {
        all: true,
        ..ListOptions::default()
    };
    let listed = other.list(all.clone()).await.unwrap().workloads;
    let context = &listed[0].status_context;
    for part in [
        "belongs to the engine at the place of first",
        "the place of second",
    ] {
        assert!(context.contains(part), "{context}");
    }
    let stopped = other.stop(&name("echo"), StopOptions::default()).await;
    let deleted = other.delete(&name("echo"), StopOptions::default()).await;
    let started = other.start(&name("echo"), start_until_ready()).await;
    for (error, way) in [
        (stopped.unwrap_err(), Override::Force),
        (deleted.unwrap_err(), Override::Force),
        (started.unwrap_err(), Override::TakeOver),
    ] {
        assert!(
            matches!(&error, Error::BelongsElsewhere { option, .. } if *option == way),
            "{error:?}"
        );
        assert!(error.to_string().contains("the place of first"), "{error}");
    }
    assert_eq!(world.companion(&name("echo")).await, before);
    assert!(world.instance(&name("echo")).await.is_some(), "it is left alone");
    assert!(second.inspect(&name("echo")).await.unwrap().is_none());

    // Whoever wants it here says so, and it is here from then on.
    let mut options = start_until_ready();
    options.take_over = true;
    other.start(&name("echo"), options).await.unwrap();
    let record = world.companion(&name("echo")).await.runtime.unwrap();
    assert_eq!(record.engine_id.as_deref(), Some("second"));
    let listed = other.list(all.clone()).await.unwrap().workloads;
    assert_eq!(
        listed[0].status,
        WorkloadStatus::Running,
        "{}",
        listed[0].status_context
    );
    other.delete(&name("echo"), StopOptions::default()).await.unwrap();
}
