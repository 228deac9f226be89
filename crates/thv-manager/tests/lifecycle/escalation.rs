//! `stop --timeout`: the time that somebody gives is the time that it takes, whoever hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use thv_core::WorkloadStatus;
use thv_manager::{Error, ShutdownMode, StopOptions};
use thv_process::{MemoryProcess, ProcessIdentity, Processes, Signal};
use thv_runtime::MemoryRuntime;
use thv_status::{Authority, Desired, Operation, Owner, OwnerGuard, OwnerKind, StatusManager};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::support::*;

/// What waiting for a lock may add.
const LOOK: Duration = Duration::from_millis(200);

fn within(seconds: u64) -> StopOptions {
    StopOptions {
        grace: Duration::from_secs(seconds),
        force: false,
    }
}

/// A machine with a server that nothing but a kill ends, and whether it was asked to.
fn stubborn_server() -> (World, Arc<AtomicBool>) {
    let asked = Arc::new(AtomicBool::new(false));
    let told = asked.clone();
    let world = World::on(MemoryRuntime::new().with_server(move |mut server| {
        let told = told.clone();
        async move {
            let term = server.term.clone();
            loop {
                tokio::select! {
                    () = term.cancelled(), if !told.load(Ordering::Relaxed) => told.store(true, Ordering::Relaxed),
                    line = server.next_line() => match line {
                        Some(line) => if let Some(answer) = answer(&line) {
                            server.write_line(&answer).await;
                        },
                        None => break,
                    },
                }
            }
            term.cancelled().await;
            told.store(true, Ordering::Relaxed);
            std::future::pending().await
        }
    }));
    (world, asked)
}

/// Lets a process of its own that ignores SIGTERM supervise `echo`, which runs. With `ending` it has said that it heard.
async fn hangs(world: &World, ending: bool) -> ProcessIdentity {
    supervised(world, ending, Duration::ZERO).await
}

/// The same, whose lock goes so long after its process.
async fn supervised(world: &World, ending: bool, after: Duration) -> ProcessIdentity {
    let (proxy, owner) = owned(world, ending, OwnerKind::Detached).await;
    // With the process goes its lock.
    let process = world.processes.open(&proxy).unwrap().unwrap();
    tokio::spawn(async move {
        let _ = process.exited().await;
        tokio::time::sleep(after).await;
        drop(owner);
    });
    proxy
}

/// The same, and its lock.
async fn owned(world: &World, ending: bool, kind: OwnerKind) -> (ProcessIdentity, OwnerGuard) {
    let (name, manager) = (&name("echo"), world.manager());
    run(&manager, "echo").await;
    manager.shutdown(ShutdownMode::Leave).await.unwrap();
    let proxy = world.processes.add(MemoryProcess::new("/bin/thv").stubborn());
    let owner = world.status.acquire_owner(name).await.unwrap();
    let recorded = Owner {
        kind,
        identity: proxy.clone(),
        ending,
    };
    let op = world.status.lock_op(name, Operation::Start, Duration::ZERO);
    let op = op.await.unwrap();
    let change = Box::new(move |draft: &mut thv_status::Draft| {
        draft.companion.owner = Some(recorded);
        draft.companion.desired = Desired::Running;
        draft.force_status(WorkloadStatus::Running, "");
    });
    let written = world.status.update(name, Authority::Verb(&op), change);
    written.await.unwrap();
    (proxy, owner)
}

fn was_killed(world: &World, proxy: &ProcessIdentity) -> bool {
    world.processes.signals().contains(&(proxy.clone(), Signal::Kill))
}

#[track_caller]
fn took(began: Instant, expected: Duration) {
    let elapsed = began.elapsed();
    assert!(
        elapsed >= expected && elapsed <= expected + LOOK,
        "{elapsed:?} instead of {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_says_nothing_hangs_and_costs_no_more_than_five_seconds() {
    for (grace, patience) in [(0, 1), (1, 1), (2, 2), (30, 5)] {
        let world = World::new();
        let proxy = hangs(&world, false).await;
        let began = Instant::now();
        world.manager().stop(&name("echo"), within(grace)).await.unwrap();
        took(began, Duration::from_secs(patience));
        assert!(was_killed(&world, &proxy));
        world.assert_stopped(&name("echo")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_of_a_proxy_that_hangs_has_all_its_time() {
    let (world, asked) = stubborn_server();
    let proxy = hangs(&world, false).await;
    let began = Instant::now();
    world.manager().stop(&name("echo"), within(5)).await.unwrap();
    took(began, Duration::from_secs(5 + 5));
    assert!(was_killed(&world, &proxy));
    assert!(asked.load(Ordering::Relaxed), "it was killed without being asked");
    world.assert_stopped(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_about_to_end_has_the_time_of_its_server_and_its_clients() {
    let world = World::new();
    let proxy = hangs(&world, true).await;
    let ends = (world.processes.clone(), proxy.pid);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(11)).await;
        ends.0.exit(ends.1, thv_process::Exit::Code(0));
    });
    world.manager().stop(&name("echo"), within(5)).await.unwrap();
    assert!(
        !was_killed(&world, &proxy),
        "five seconds for clients, five for the server, two to write"
    );
    world.assert_stopped(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_hangs_while_it_ends_is_killed_and_its_server_at_once() {
    let (world, _) = stubborn_server();
    let proxy = hangs(&world, true).await;
    let began = Instant::now();
    world.manager().stop(&name("echo"), within(2)).await.unwrap();
    took(began, Duration::from_secs(2 + 2 + 2));
    assert!(was_killed(&world, &proxy));
    world.assert_stopped(&name("echo")).await;
}

/// Its lock is free before its process is gone: whoever hears that it is stopped finds no process.
#[tokio::test(start_paused = true)]
async fn a_proxy_that_has_given_its_lock_up_is_gone_when_it_is_stopped() {
    for (ends, took_it) in [(Some(3), 3), (None, 5)] {
        let world = World::new();
        let (proxy, owner) = owned(&world, false, OwnerKind::Detached).await;
        let processes = world.processes.clone();
        let dying = proxy.clone();
        tokio::spawn(async move {
            eventually(|| async { !processes.signals().is_empty() }).await;
            drop(owner);
            if let Some(seconds) = ends {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                processes.exit(dying.pid, thv_process::Exit::Code(0));
            }
        });
        let began = Instant::now();
        world.manager().stop(&name("echo"), within(30)).await.unwrap();
        took(began, Duration::from_secs(took_it));
        assert!(world.processes.open(&proxy).unwrap().is_none(), "it lives");
        assert_eq!(was_killed(&world, &proxy), ends.is_none());
    }
}

/// A damaged record is made anew by the very verb that stops, and does not say who owns the workload.
#[tokio::test(start_paused = true)]
async fn a_proxy_that_no_record_names_any_more_is_found_by_its_port() {
    let (world, echo) = (World::new(), name("echo"));
    let (_, owner) = owned(&world, false, OwnerKind::Detached).await;
    let op = world.status.lock_op(&echo, Operation::Start, Duration::ZERO);
    let op = op.await.unwrap();
    let change = Box::new(|draft: &mut thv_status::Draft| draft.companion.owner = None);
    let written = world.status.update(&echo, Authority::Verb(&op), change);
    written.await.unwrap();
    drop(op);
    let proxy = world.processes.add(
        MemoryProcess::new("/usr/local/bin/thv")
            .args(["start", "echo"])
            .env("TOOLHIVE_DETACHED", "1"),
    );
    let port = world.config(&echo).await.unwrap().port;
    world.processes.listen(port, proxy.pid);
    let process = world.processes.open(&proxy).unwrap().unwrap();
    tokio::spawn(async move {
        process.exited().await.unwrap();
        drop(owner);
    });
    let began = Instant::now();
    world.manager().stop(&echo, within(30)).await.unwrap();
    took(began, Duration::ZERO);
    assert_eq!(world.processes.signals(), [(proxy, Signal::Term)]);
    world.assert_stopped(&echo).await;
}

/// A command in a terminal has more to do, for which it may need what its stop holds.
#[tokio::test(start_paused = true)]
async fn a_command_in_the_foreground_is_not_killed_when_it_has_given_its_lock_up() {
    let world = World::new();
    let (command, owner) = owned(&world, false, OwnerKind::Foreground).await;
    let processes = world.processes.clone();
    tokio::spawn(async move {
        eventually(|| async { !processes.signals().is_empty() }).await;
        drop(owner);
    });
    let began = Instant::now();
    world.manager().stop(&name("echo"), within(30)).await.unwrap();
    took(began, Duration::ZERO);
    assert!(world.processes.open(&command).unwrap().is_some(), "it was killed");
}

#[tokio::test(start_paused = true)]
async fn what_survives_a_kill_is_said_and_kept() {
    let world = World::new();
    // It hangs in the kernel for a while.
    let proxy = supervised(&world, false, Duration::from_secs(60)).await;
    let error = world.manager().stop(&name("echo"), within(0)).await.unwrap_err();
    assert!(matches!(error, Error::StillRunning { .. }), "{error}");
    let snapshot = world.snapshot(&name("echo")).await;
    assert_ne!(snapshot.status.unwrap().status, WorkloadStatus::Stopped);
    assert_eq!(
        snapshot.companion.unwrap().owner.as_ref().unwrap().identity,
        proxy
    );
    world.until_unowned(&name("echo")).await;
    world.manager().stop(&name("echo"), within(0)).await.unwrap();
    world.assert_stopped(&name("echo")).await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_says_at_once_that_it_heard_and_cuts_slow_clients_in_time() {
    // A server that never answers a call.
    let called = Arc::new(Notify::new());
    let told = called.clone();
    let world = World::on(MemoryRuntime::new().with_server(move |mut server| {
        let told = told.clone();
        async move {
            while let Some(line) = server.next_line().await {
                if line.contains("tools/call") {
                    told.notify_one();
                } else if let Some(answer) = answer(&line) {
                    server.write_line(&answer).await;
                }
            }
            0
        }
    }));
    let manager = world.manager();
    let url = run(&manager, "echo").await.url;
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}}});
    let still = time_stands_still();
    let client = tokio::spawn(async move { exchange(&url, &call).await });
    called.notified().await;
    drop(still);
    let began = Instant::now();
    let stopping = tokio::spawn(async move { manager.stop(&name("echo"), within(2)).await });
    let heard = eventually(|| async {
        let owner = world.companion(&name("echo")).await.owner;
        owner.is_some_and(|owner| owner.ending)
    });
    assert!(heard.await, "{:?}", world.snapshot(&name("echo")).await);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(world.status_of(&name("echo")).await.0, WorkloadStatus::Stopping);
    stopping.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let _ = client.await.unwrap();
    world.assert_stopped(&name("echo")).await;
}
