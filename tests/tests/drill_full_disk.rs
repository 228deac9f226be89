//! Drill: the disk is full, and what frees space works: stop and rm.

mod drill;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use drill::{assert_no_files_of, exec, run, run_echo};
use thv::core::WorkloadStatus;
use thv_tests::{Machine, Upstream, docker, small_disk};

/// Stops and removes workloads whose records are on a full disk.
async fn stop_and_remove(machine: &Machine, names: &[&str], ports: &[u16]) {
    for name in names {
        machine.thv(["stop", name]).await.ok();
        assert_eq!(machine.workload(name).await.status, WorkloadStatus::Stopped);
    }
    machine.assert_nothing_lives(ports);
    for name in names {
        machine.thv(["rm", name]).await.ok();
        assert_no_files_of(machine, name);
    }
    assert_eq!(machine.thv(["reconcile"]).await.ok().stderr, "");
}

#[tokio::test]
async fn what_runs_is_stopped_and_removed() {
    let Some(disk) = small_disk("what_runs_is_stopped_and_removed").await else {
        return;
    };
    let (machine, elsewhere) = (Machine::new(), Machine::new());
    let upstream = Upstream::echo(&elsewhere).await;
    let (local, http, remote) = (
        machine.name("local"),
        machine.name("http"),
        machine.name("remote"),
    );
    let one = run_echo(&machine, &local).await;
    let two = run(&machine, &http, &exec(), &["--transport", "streamable-http"]).await;
    let three = run(&machine, &remote, &upstream.url(), &[]).await;
    disk.fill();
    let ports = [one.port, two.port, three.port];
    stop_and_remove(&machine, &[&local, &http, &remote], &ports).await;
}

#[tokio::test]
async fn a_container_is_stopped_and_removed() {
    let Some(docker) = docker().await else { return };
    let Some(disk) = small_disk("a_container_is_stopped_and_removed").await else {
        return;
    };
    let machine = Machine::with_docker(&docker);
    let name = machine.name("contained");
    let workload = run(&machine, &name, docker.image(), &["--transport", "stdio"]).await;
    disk.fill();
    stop_and_remove(&machine, &[&name], &[workload.port]).await;
    assert!(docker.instance(&name).await.is_none());
}

#[tokio::test]
async fn what_is_freed_and_taken_at_once_by_somebody_else_is_not_needed() {
    let Some(disk) = small_disk("what_is_freed_and_taken_at_once_by_somebody_else_is_not_needed").await
    else {
        return;
    };
    let machine = Machine::new();
    let name = machine.name("beside");
    let workload = run_echo(&machine, &name).await;
    disk.fill();
    let done = Arc::new(AtomicBool::new(false));
    let greedy = std::thread::spawn({
        let (disk, done) = (disk.clone(), done.clone());
        move || {
            while !done.load(Ordering::Relaxed) {
                disk.fill();
            }
        }
    });
    machine.thv(["stop", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    machine.thv(["rm", &name]).await.ok();
    done.store(true, Ordering::Relaxed);
    greedy.join().expect("the disk is just full");
    assert_no_files_of(&machine, &name);
}

#[tokio::test]
async fn a_run_says_which_disk_is_full_and_leaves_nothing() {
    let Some(disk) = small_disk("a_run_says_which_disk_is_full_and_leaves_nothing").await else {
        return;
    };
    let machine = Machine::new();
    let (first, second) = (machine.name("first"), machine.name("second"));
    run_echo(&machine, &first).await;
    disk.fill();
    let server = exec();
    let args = [
        "run",
        "--wait=1m",
        &server,
        "--name",
        &second,
        "--transport",
        "stdio",
    ];
    let folder = machine.dirs().state.display().to_string();
    let says = ["no space left", &folder, "make room"];
    machine.thv(args).await.failed().says(says);
    assert_no_files_of(&machine, &second);
    disk.clear();
    machine.thv(args).await.ok();
}
