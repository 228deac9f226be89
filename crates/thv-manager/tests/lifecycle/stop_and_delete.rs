//! `stop` and `delete`.

use std::sync::Arc;
use std::time::Duration;

use thv_core::{Dirs, WorkloadStatus};
use thv_manager::{Error, ListOptions, RunOptions, StopOptions, StopOutcome};
use thv_runtime::{Call, MemoryRuntime};
use thv_state::LocalStateStore;
use thv_status::{Desired, FileStatusManager, OwnerState};

use crate::mortal::{Fault, Life};
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn stop_means_stopped() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    let outcome = manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    assert_eq!(outcome, StopOutcome::Stopped);
    world.assert_stopped(&name("echo")).await;
    let companion = world.companion(&name("echo")).await;
    assert_eq!(
        (companion.desired, companion.pending, companion.owner),
        (Desired::Stopped, None, None)
    );
    let again = manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    assert_eq!(again, StopOutcome::NotRunning);
}

#[tokio::test(start_paused = true)]
async fn another_process_stops_what_an_application_runs() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world
        .manager_of("thv")
        .stop(&name("echo"), StopOptions::default())
        .await
        .unwrap();
    world.assert_stopped(&name("echo")).await;
}

/// The proxy of a workload that was asked to stop may be gone before the one who asked has its lock.
#[tokio::test(start_paused = true)]
async fn who_stops_what_ran_is_told_so_whoever_is_faster() {
    for point in 0..4 {
        let world = World::new();
        let owner = world.manager();
        run(&owner, "echo").await;
        let life = Life::with(Some((point, Fault::Delay(Duration::from_secs(5)))));
        let outcome = life
            .manager(&world)
            .stop(&name("echo"), StopOptions::default())
            .await;
        assert_eq!(outcome.unwrap(), StopOutcome::Stopped, "{point}");
        world.assert_stopped(&name("echo")).await;
        let again = world.manager().stop(&name("echo"), StopOptions::default()).await;
        assert_eq!(again.unwrap(), StopOutcome::NotRunning, "{point}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_nothing_is_not_found() {
    let world = World::new();
    let error = world
        .manager()
        .stop(&name("echo"), StopOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    world.assert_nothing_of(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_sleep_between_two_attempts() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    assert!(world.runtime.exit(&name("echo"), 1));
    world.until(&name("echo"), WorkloadStatus::Starting).await;
    let began = tokio::time::Instant::now();
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    world.assert_stopped(&name("echo")).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    world.assert_stopped(&name("echo")).await;
    assert_eq!(world.runtime.calls(Call::Deploy), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_server_is_deployed_wins() {
    let world = World::new();
    world.runtime.delay(Call::Deploy, Duration::from_secs(20));
    let manager = world.manager();
    let outcome = manager.run(request("echo"), RunOptions::default()).await.unwrap();
    assert!(!outcome.ready);
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("echo")).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    world.assert_stopped(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_server_does_not_answer_wins() {
    let world = World::on(MemoryRuntime::new().with_server(|mut server| async move {
        while server.next_line().await.is_some() {}
        0
    }));
    let manager = world.manager();
    manager.run(request("echo"), RunOptions::default()).await.unwrap();
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ignores_the_request_to_end_is_killed() {
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
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_with_the_status_file_deleted_stops() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world.status.write_status_file(&name("echo"), None);
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_with_the_instance_removed_by_hand_stops() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world.runtime.vanish(&name("echo"));
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("echo")).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    world.assert_stopped(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_the_engine_refuses_is_an_error_and_the_next_one_works() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    for _ in 0..2 {
        // The supervisor's own attempt, and the verb's.
        world.runtime.fail_next(
            Call::Stop,
            thv_runtime::Error::Denied {
                runtime: "memory".into(),
                detail: "not today".into(),
            },
        );
    }
    manager
        .stop(&name("echo"), StopOptions::default())
        .await
        .unwrap_err();
    assert_ne!(
        world.status_of(&name("echo")).await.0,
        WorkloadStatus::Stopped,
        "something still runs"
    );
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn delete_leaves_nothing_and_is_repeatable() {
    let world = World::new();
    let manager = world.manager();
    let port = {
        run(&manager, "echo").await;
        world.config(&name("echo")).await.unwrap().port
    };
    manager
        .delete(&name("echo"), StopOptions::default())
        .await
        .unwrap();
    world.assert_nothing_of(&name("echo")).await;
    assert_can_bind(port);
    manager
        .delete(&name("echo"), StopOptions::default())
        .await
        .unwrap();
    world.assert_nothing_of(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn delete_of_a_workload_in_error_leaves_nothing() {
    let world = World::on(MemoryRuntime::new().with_server(|_| async { 1 }));
    let manager = world.manager();
    manager.run(request("echo"), until_ready()).await.unwrap_err();
    manager
        .delete(&name("echo"), StopOptions::default())
        .await
        .unwrap();
    world.assert_nothing_of(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_while_it_starts_does_not_come_back() {
    let world = World::new();
    world.runtime.delay(Call::Deploy, Duration::from_secs(20));
    let manager = world.manager();
    manager.run(request("echo"), RunOptions::default()).await.unwrap();
    manager
        .delete(&name("echo"), StopOptions::default())
        .await
        .unwrap();
    world.assert_nothing_of(&name("echo")).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    world.assert_nothing_of(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_with_the_engine_down_keeps_everything_for_the_next_one() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world.runtime.set_down(true);
    manager
        .delete(&name("echo"), StopOptions::default())
        .await
        .unwrap_err();
    assert!(
        world.config(&name("echo")).await.is_some(),
        "nothing is forgotten that still runs"
    );
    world.runtime.set_down(false);
    manager
        .delete(&name("echo"), StopOptions::default())
        .await
        .unwrap();
    world.assert_nothing_of(&name("echo")).await;
    assert_eq!(world.owner(&name("echo")).await, OwnerState::Dead);
}

#[tokio::test]
async fn the_profile_that_toolhive_wrote_for_one_workload_goes_with_it_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(folder.path());
    let world = World::new();
    let manager = world.builder(APP).dirs(dirs.clone()).build().unwrap();
    let (temp, mine) = (&dirs.temp, folder.path());
    for (at, is_removed) in [
        (temp.join("toolhive-echo-permissions-17.json"), true),
        (temp.join("toolhive-echo-17.json"), false),
        (temp.join("my-toolhive-echo-permissions-17.json"), false),
        (mine.join("toolhive-echo-permissions-17.json"), false),
    ] {
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(&at, "{}").unwrap();
        let mut request = request("echo");
        request.permission_profile = Some(at.display().to_string());
        manager.run(request, until_ready()).await.unwrap();
        let config = world.config(&name("echo")).await.unwrap();
        assert_eq!(config.permission_profile_name_or_path, at.display().to_string());
        manager
            .delete(&name("echo"), StopOptions::default())
            .await
            .unwrap();
        assert_eq!(at.exists(), !is_removed, "{}", at.display());
    }
}

/// On files: in memory nobody has such a name.
#[tokio::test]
async fn what_has_an_old_name_is_listed_marked_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(folder.path());
    let write = |path: std::path::PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let config = dirs.runconfigs().join(".old.json");
    let status = dirs.statuses().join(".old.json");
    write(
        config.clone(),
        r#"{"name": ".old", "base_name": ".old", "image": "x"}"#,
    );
    write(
        status.clone(),
        r#"{"status": "stopped", "status_context": "", "created_at": "2026-08-21T10:12:00Z", "updated_at": "2026-08-21T10:12:00Z"}"#,
    );
    // No document is called so.
    let control = "old\x1b[2J";
    let other = dirs.statuses().join(format!("{control}.json"));
    write(other.clone(), &std::fs::read_to_string(&status).unwrap());
    let world = World::new();
    let manager = world
        .builder(APP)
        .dirs(dirs.clone())
        .state(Arc::new(LocalStateStore::new(&dirs)))
        .status(Arc::new(FileStatusManager::new(&dirs)))
        .build()
        .unwrap();
    let all = ListOptions {
        all: true,
        ..ListOptions::default()
    };
    let listed = manager.list(all.clone()).await.unwrap().workloads;
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!(
        (listed[0].name.as_str(), listed[1].name.as_str()),
        (".old", control)
    );
    assert!(
        listed[0]
            .status_context
            .starts_with("invalid name: it can be removed"),
        "{listed:?}"
    );

    for text in ["../old", ".other", "valid"] {
        manager.delete_misnamed(text).await.unwrap_err();
    }
    assert!(config.exists() && status.exists());
    manager.delete_misnamed(".old").await.unwrap();
    assert!(!config.exists() && !status.exists() && other.exists());
    manager.delete_misnamed(control).await.unwrap();
    assert!(!other.exists());
    assert!(manager.list(all).await.unwrap().workloads.is_empty());
}
