//! Records that cannot be read or written.

use std::time::Duration;

use thv_core::WorkloadStatus;
use thv_manager::{RunOptions, StopOptions};
use thv_runtime::{Call, InstanceState};
use thv_state::Keep;
use thv_status::OwnerState;

use crate::mortal::{Fault, Life};
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_for_a_moment_costs_no_server() {
    let world = World::new();
    world.runtime.delay(Call::Deploy, Duration::from_secs(1));
    let manager = world.manager();
    manager.run(request("echo"), RunOptions::default()).await.unwrap();
    run(&manager, "other").await;
    world.runtime.exit(&name("other"), 1);
    world.until(&name("other"), WorkloadStatus::Starting).await;
    world.status.set_full(true);
    tokio::time::sleep(Duration::from_secs(7)).await;
    world.status.set_full(false);
    world.until(&name("other"), WorkloadStatus::Running).await;
    assert!(world.runs(&name("other")).await);
}

#[tokio::test(start_paused = true)]
async fn what_was_deployed_and_cannot_be_recorded_does_not_run_on() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    assert!(world.runtime.exit(&name("echo"), 1));
    world.until(&name("echo"), WorkloadStatus::Starting).await;
    // In its back-off sleep: the next instance is deployed, and no record takes it.
    world.status.set_full(true);
    world.until_unowned(&name("echo")).await;
    let left = world.instance(&name("echo")).await;
    let lives = left.is_some_and(|instance| instance.state == InstanceState::Running);
    assert!(!lives, "nobody supervises it");
    world.status.set_full(false);
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    world.assert_stopped(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_on_a_full_disk_still_stops_the_server() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world.status.set_full(true);
    manager.shutdown(thv_manager::ShutdownMode::Stop).await.unwrap();
    assert!(!world.runs(&name("echo")).await);
    assert_eq!(world.owner(&name("echo")).await, OwnerState::Dead);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_configuration_can_be_stopped_and_removed() {
    for verb in ["stop", "rm"] {
        let world = World::new();
        let manager = world.manager();
        run(&manager, "echo").await;
        let document = (&name("echo")).into();
        let kind = thv_state::DocumentKind::RunConfig;
        thv_state::StateStore::replace(&*world.state, kind, &document, b"{".to_vec(), Keep::nothing())
            .await
            .unwrap();
        if verb == "stop" {
            manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
            assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Stopped);
            assert!(!world.runs(&name("echo")).await);
        }
        manager
            .delete(&name("echo"), StopOptions::default())
            .await
            .unwrap();
        world.assert_nothing_of(&name("echo")).await;
    }
}

/// A run that fails at any of its steps is over: nothing says that it is still on its way, and nobody finishes it later.
#[tokio::test(start_paused = true)]
async fn a_run_that_fails_is_not_finished_later() {
    let mut failed = 0;
    for point in 0..12 {
        let world = World::new();
        let life = Life::with(Some((point, Fault::Fail)));
        let manager = life.manager(&world);
        if manager.run(request("echo"), until_ready()).await.is_ok() {
            continue;
        }
        failed += 1;
        let snapshot = world.snapshot(&name("echo")).await;
        let pending = snapshot.companion.and_then(|companion| companion.pending.clone());
        assert!(pending.is_none(), "{point}: {pending:?}");
        let status = snapshot.status.map(|file| file.status);
        assert_ne!(status, Some(WorkloadStatus::Starting), "{point}");
        if status.is_none() {
            world.assert_nothing_of(&name("echo")).await;
        }
    }
    assert!(failed > 3, "it fails at its steps: {failed}");
}
