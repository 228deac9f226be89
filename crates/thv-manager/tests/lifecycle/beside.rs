//! Beside ToolHive and other installations, which go on without asking.

use std::sync::Arc;
use std::time::Duration;

use thv_core::WorkloadStatus;
use thv_manager::{Error, ForegroundEnd, ForegroundOptions, Manager, ReconcileAction, StopOptions};
use thv_process::{Exit, MemoryProcess, Processes, Signal};
use thv_runtime::Call;
use thv_state::StateStoreExt;
use thv_status::{Authority, Desired, Draft, Operation, Pending, StatusManager};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::*;

/// A detached proxy of ToolHive's for `echo`.
fn toolhive_proxy(world: &World) -> i64 {
    let proxy = world.processes.add(
        MemoryProcess::new("/usr/local/bin/thv")
            .args(["start", "echo"])
            .env("TOOLHIVE_DETACHED", "1"),
    );
    i64::from(proxy.pid)
}

/// `echo`, stopped by us and then started by ToolHive.
async fn started_by_toolhive() -> (World, Manager, i64) {
    let world = World::new();
    let manager = world.manager_of("thv");
    run(&manager, "echo").await;
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    let pid = toolhive_proxy(&world);
    world.toolhive_writes_now(&name("echo"), WorkloadStatus::Running, pid);
    (world, manager, pid)
}

#[tokio::test(start_paused = true)]
async fn what_toolhive_starts_after_our_stop_is_not_reconciled_away() {
    let (world, manager, _) = started_by_toolhive().await;
    assert!(manager.status(&name("echo")).await.unwrap().desired_running);
    let done = manager.reconcile(start_until_ready()).await.unwrap();
    assert!(done.is_empty(), "{done:?}");
    assert_eq!(world.processes.signals(), []);
    // The first changing verb takes it in, and a stop is one.
    let outcome = manager.start(&name("echo"), start_until_ready()).await.unwrap();
    assert!(outcome.already_running);
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    assert_eq!(world.processes.signals().len(), 1, "ToolHive's proxy is ended");
    assert!(!manager.status(&name("echo")).await.unwrap().desired_running);
}

/// A reboot, or a kill: what ToolHive started last is what is wanted, also where our own record says otherwise.
#[tokio::test(start_paused = true)]
async fn what_toolhive_started_after_our_stop_is_brought_back_when_its_proxy_is_gone() {
    let (world, manager, pid) = started_by_toolhive().await;
    assert_brought_back_without(pid, &world, &manager).await;
}

async fn assert_brought_back_without(pid: i64, world: &World, manager: &Manager) {
    world.processes.exit(u32::try_from(pid).unwrap(), Exit::Signal(9));
    assert!(manager.status(&name("echo")).await.unwrap().desired_running);
    let done = manager.reconcile(start_until_ready()).await.unwrap();
    assert!(matches!(done[0].action, ReconcileAction::Started), "{done:?}");
    assert!(world.runs(&name("echo")).await);
    assert!(manager.reconcile(start_until_ready()).await.unwrap().is_empty());
}

/// The same in the middle of its start: who was starting it is gone, which its file would say for ever.
#[tokio::test(start_paused = true)]
async fn what_toolhive_was_starting_is_brought_back_when_its_process_is_gone() {
    for stopped_before in [true, false] {
        let (world, manager, pid) = started_by_toolhive().await;
        if !stopped_before {
            manager.start(&name("echo"), start_until_ready()).await.unwrap();
        }
        world.toolhive_writes_now(&name("echo"), WorkloadStatus::Starting, pid);
        let done = manager.reconcile(start_until_ready()).await.unwrap();
        assert!(done.is_empty(), "it lives: {done:?}");
        assert_brought_back_without(pid, &world, &manager).await;
    }
}

/// It is just beginning, for all that anybody can tell.
#[tokio::test(start_paused = true)]
async fn what_toolhive_starts_in_no_process_yet_is_left_to_it() {
    let (world, manager, pid) = started_by_toolhive().await;
    world.processes.exit(u32::try_from(pid).unwrap(), Exit::Signal(9));
    world.toolhive_writes_now(&name("echo"), WorkloadStatus::Starting, 0);
    let done = manager.reconcile(start_until_ready()).await.unwrap();
    assert!(done.is_empty(), "{done:?}");
    assert!(!world.runs(&name("echo")).await);
}

/// A forged file, or a pid that somebody else has by now.
#[tokio::test(start_paused = true)]
async fn a_process_that_lives_and_is_no_proxy_is_no_proof_of_a_start() {
    let (world, manager, pid) = started_by_toolhive().await;
    world.processes.exit(u32::try_from(pid).unwrap(), Exit::Signal(9));
    let stranger = world.processes.add(MemoryProcess::new("/usr/bin/editor"));
    world.toolhive_writes_now(&name("echo"), WorkloadStatus::Running, i64::from(stranger.pid));
    assert!(!manager.status(&name("echo")).await.unwrap().desired_running);
    manager.reconcile(start_until_ready()).await.unwrap();
    assert!(!world.runs(&name("echo")).await);
    assert_eq!(world.processes.signals(), []);
}

/// Without a process it is no start: a program that only writes what it sees, or one that is just beginning.
#[tokio::test(start_paused = true)]
async fn a_status_that_names_no_process_starts_nothing() {
    let (world, manager, pid) = started_by_toolhive().await;
    world.processes.exit(u32::try_from(pid).unwrap(), Exit::Signal(9));
    world.toolhive_writes_now(&name("echo"), WorkloadStatus::Running, 0);
    manager.reconcile(start_until_ready()).await.unwrap();
    assert!(!world.runs(&name("echo")).await);
}

/// The stop was cut off before it had its lock: the status file is still the one that ToolHive wrote before it.
#[tokio::test(start_paused = true)]
async fn what_toolhive_started_before_a_stop_that_was_cut_off_stays_stopped() {
    let (world, manager, pid) = started_by_toolhive().await;
    let asked = Box::new(|draft: &mut Draft| draft.companion.desired = Desired::Stopped);
    world
        .status
        .update(&name("echo"), Authority::StopRequest, asked)
        .await
        .unwrap();
    world.processes.exit(u32::try_from(pid).unwrap(), Exit::Signal(9));
    assert!(!manager.status(&name("echo")).await.unwrap().desired_running);
    manager.reconcile(start_until_ready()).await.unwrap();
    assert!(!world.runs(&name("echo")).await);
    // And a start after it counts again.
    let pid = toolhive_proxy(&world);
    world.toolhive_writes_now(&name("echo"), WorkloadStatus::Running, pid);
    world.processes.exit(u32::try_from(pid).unwrap(), Exit::Signal(9));
    manager.reconcile(start_until_ready()).await.unwrap();
    assert!(world.runs(&name("echo")).await);
}

/// A start over it is the last word, whatever our record said before.
#[tokio::test(start_paused = true)]
async fn what_toolhive_runs_and_a_start_found_running_is_brought_back() {
    let (world, manager, pid) = started_by_toolhive().await;
    let outcome = manager.start(&name("echo"), start_until_ready()).await.unwrap();
    assert!(outcome.already_running);
    world.processes.exit(u32::try_from(pid).unwrap(), Exit::Signal(9));
    assert!(manager.status(&name("echo")).await.unwrap().desired_running);
    let done = manager.reconcile(start_until_ready()).await.unwrap();
    assert!(matches!(done[0].action, ReconcileAction::Started), "{done:?}");
    assert!(world.runs(&name("echo")).await);
}

/// Its start and our verb met, and our status file was the last: nothing but the port tells of its proxy.
#[tokio::test]
async fn a_proxy_of_toolhives_that_no_record_speaks_of_gives_way_to_a_start() {
    let world = World::new();
    let manager = world.manager_of("thv");
    run(&manager, "echo").await;
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    let port = world.config(&name("echo")).await.unwrap().port;
    let pid = u32::try_from(toolhive_proxy(&world)).unwrap();
    world.processes.listen(port, pid);
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let identity = world.processes.facts(pid).unwrap().unwrap().identity;
    let proxy = world.processes.open(&identity).unwrap().unwrap();
    tokio::spawn(async move {
        proxy.exited().await.unwrap();
        drop(listener);
    });
    let outcome = manager.start(&name("echo"), start_until_ready()).await.unwrap();
    assert!(outcome.ready && !outcome.already_running);
    assert_eq!(world.processes.signals(), [(identity, Signal::Term)]);
    manager
        .delete(&name("echo"), StopOptions::default())
        .await
        .unwrap();
}

/// Its proxy does not listen yet when somebody replaces the workload: the port is free and is taken, then that proxy ends.
#[tokio::test(start_paused = true)]
async fn what_toolhive_is_just_starting_can_be_replaced() {
    let world = World::new();
    let manager = world.manager_of("thv");
    let first = run(&manager, "echo").await;
    manager.stop(&name("echo"), StopOptions::default()).await.unwrap();
    let pid = toolhive_proxy(&world);
    world.toolhive_writes_now(&name("echo"), WorkloadStatus::Running, pid);
    let again = manager.run(request("echo"), replacing()).await.unwrap();
    assert!(again.ready);
    assert_eq!(again.url, first.url);
    assert_eq!(world.processes.signals().len(), 1, "ToolHive's proxy is ended");
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_hears_of_nothing_leaves_to_toolhive_what_it_starts() {
    for proved in [false, true] {
        let world = World::new();
        let manager = world.manager();
        let (cancel, running) = (CancellationToken::new(), Arc::new(Notify::new()));
        // In the foreground nobody tells it of changes.
        let foreground = tokio::spawn({
            let (cancel, running) = (cancel.clone(), running.clone());
            async move {
                manager
                    .run_foreground(request("echo"), ForegroundOptions::default(), cancel, move |_| {
                        running.notify_one();
                    })
                    .await
            }
        });
        running.notified().await;
        if proved {
            let pid = toolhive_proxy(&world);
            world.toolhive_writes_now(&name("echo"), WorkloadStatus::Running, pid);
        } else {
            world.toolhive_writes(&name("echo"), WorkloadStatus::Starting, 0);
        }
        let file = world.snapshot(&name("echo")).await.status;
        assert!(world.runtime.exit(&name("echo"), 1));
        let end = foreground.await.unwrap().unwrap();
        assert_eq!(end, ForegroundEnd::TakenOver);
        assert_eq!(
            world.snapshot(&name("echo")).await.status,
            file,
            "its file is untouched"
        );
        assert_eq!(
            world.runtime.calls(Call::Deploy),
            1,
            "nothing is deployed under it"
        );
        assert!(world.config(&name("echo")).await.is_some());
    }
}

/// A second installation on the same engine: it sees the instance, and has a status and a configuration of that name.
async fn another_installation(world: &World) -> World {
    let other = World::on(world.runtime.clone());
    let config = world.config(&name("echo")).await.unwrap();
    other
        .state
        .create_run_config(&name("echo"), &config)
        .await
        .unwrap();
    other.toolhive_writes(&name("echo"), WorkloadStatus::Running, 0);
    other
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_another_installation_is_refused_before_anything_is_touched() {
    let world = World::new();
    let owner = world.manager();
    run(&owner, "echo").await;
    let other = another_installation(&world).await;
    let manager = other.manager_of("thv");
    let before = other.snapshot(&name("echo")).await;
    for round in 0..2 {
        let refused = manager.delete(&name("echo"), StopOptions::default()).await;
        assert!(
            matches!(refused, Err(Error::AnotherInstallation { .. })),
            "{round}: {refused:?}"
        );
        let refused = manager.stop(&name("echo"), StopOptions::default()).await;
        assert!(
            matches!(refused, Err(Error::AnotherInstallation { .. })),
            "{round}: {refused:?}"
        );
    }
    let after = other.snapshot(&name("echo")).await;
    assert_eq!((after.status, after.companion), (before.status, before.companion));
    assert!(world.runs(&name("echo")).await);
    assert!(other.config(&name("echo")).await.is_some());
    let force = StopOptions {
        force: true,
        ..StopOptions::default()
    };
    manager.delete(&name("echo"), force).await.unwrap();
    assert!(!world.runs(&name("echo")).await);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_was_cut_off_spares_an_instance_of_another_installation() {
    let world = World::new();
    run(&world.manager(), "echo").await;
    let other = another_installation(&world).await;
    let op = other
        .status
        .lock_op(&name("echo"), Operation::Remove, Duration::ZERO)
        .await
        .unwrap();
    let pending = Pending::new(Operation::Remove, 1, "now");
    let begun = Box::new(move |draft: &mut Draft| draft.companion.pending = Some(pending));
    other
        .status
        .update(&name("echo"), Authority::Verb(&op), begun)
        .await
        .unwrap();
    drop(op);
    other.state_forgets("echo").await;
    other
        .manager_of("thv")
        .reconcile(start_until_ready())
        .await
        .unwrap();
    assert!(world.runs(&name("echo")).await, "it is not that removal's");
}

/// Its supervisor writes how its server ended, over the status file that is gone.
#[tokio::test(start_paused = true)]
async fn what_toolhive_removes_under_its_supervisor_is_removed() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    world.toolhive_removes(&name("echo")).await;
    world.until_unowned(&name("echo")).await;
    manager.reconcile(start_until_ready()).await.unwrap();
    world.assert_nothing_of(&name("echo")).await;
    assert!(manager.reconcile(start_until_ready()).await.unwrap().is_empty());
}
