//! Drill: stopped means stopped. After exit 0 nothing lives and the port can be bound.

use std::process::ExitStatus;

use rustix::process::Signal;
use thv::core::WorkloadStatus;
use thv_tests::{Machine, WAIT, docker, eventually};
use tokio::process::Child;

use crate::drill::{self, exec, run, signal, token_of, with_token};

/// A grace that no test outlives: who is not killed before it is over has ended by itself.
const PATIENT: [&str; 2] = ["--timeout", "3600"];

#[tokio::test]
async fn a_local_server_that_ignores_sigterm_ends_with_its_stdin() {
    let machine = Machine::new();
    let name = machine.name("deaf");
    let workload = run(
        &machine,
        &name,
        &exec(),
        &["--transport", "stdio", "--", "--ignore-sigterm"],
    )
    .await;
    let token = token_of(&workload).await;
    assert_eq!(with_token(&token).len(), 1);

    machine.thv(["stop", &name].iter().chain(&PATIENT)).await.ok();
    assert_eq!(with_token(&token), [0; 0]);
    machine.assert_nothing_lives(&[workload.port]);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    machine.thv(["stop", &name]).await.ok();
}

#[tokio::test]
async fn a_container_that_ignores_sigterm_ends_with_its_stdin() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let name = machine.name("deaf");
    let args = ["--transport", "stdio", "--", "--ignore-sigterm"];
    let workload = run(&machine, &name, docker.image(), &args).await;
    machine.thv(["stop", &name].iter().chain(&PATIENT)).await.ok();
    let instance = docker.instance(&name).await.expect("it is kept");
    assert_eq!(instance.state, thv::runtime::InstanceState::Stopped);
    machine.assert_nothing_lives(&[workload.port]);
}

#[tokio::test]
async fn a_server_that_ignores_everything_is_killed_after_its_grace() {
    let machine = Machine::new();
    let name = machine.name("stubborn");
    let args = ["--transport", "stdio", "--", "--ignore-sigterm", "--ignore-eof"];
    let workload = run(&machine, &name, &exec(), &args).await;
    machine.thv(["stop", &name, "--timeout", "1"]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
}

#[tokio::test]
async fn a_stop_with_the_status_file_deleted_stops() {
    let machine = Machine::new();
    let name = machine.name("forgotten");
    let workload = drill::run_echo(&machine, &name).await;
    std::fs::remove_file(drill::status_file(&machine, &name)).expect("it was there");
    machine.thv(["stop", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    assert_eq!(machine.workload(&name).await.port, workload.port);
}

#[tokio::test]
async fn a_stop_ends_the_sleep_between_two_attempts_and_nothing_revives_it() {
    let machine = Machine::new();
    let name = machine.name("asleep");
    let workload = drill::run_echo(&machine, &name).await;
    for pid in with_token(&token_of(&workload).await) {
        drill::kill_9(pid);
    }
    eventually(WAIT, "its supervisor sleeps", async || {
        (drill::written(&machine, &name)?["status"] == "starting").then_some(())
    })
    .await;
    machine.thv(["stop", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
}

#[tokio::test]
async fn a_stop_after_the_proxy_was_killed_ends_its_server() {
    let machine = Machine::new();
    let name = machine.name("unhealthy");
    let args = ["--transport", "streamable-http"];
    let workload = run(&machine, &name, &exec(), &args).await;
    let token = token_of(&workload).await;
    drill::kill_9(drill::proxy_pid(&machine, &name).await);
    assert_eq!(
        with_token(&token).len(),
        1,
        "a server that speaks HTTP outlives it"
    );
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Unhealthy);
    machine.thv(["stop", &name]).await.ok();
    assert_eq!(with_token(&token), [0; 0]);
    machine.assert_nothing_lives(&[workload.port]);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
}

#[tokio::test]
async fn a_stop_stops_whatever_the_status_file_says() {
    let machine = Machine::new();
    for status in [
        "starting",
        "auth_retrying",
        "unhealthy",
        "stopped",
        "error",
        "unknown",
    ] {
        let name = machine.name(&status.replace('_', "-"));
        let workload = drill::run_echo(&machine, &name).await;
        drill::toolhive_writes(&machine, &name, status, 0);
        machine.thv(["stop", &name]).await.ok();
        machine.assert_nothing_lives(&[workload.port]);
        assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    }
}

#[tokio::test]
async fn a_stop_of_one_that_still_starts_stops_it() {
    let machine = Machine::new();
    let name = machine.name("starting");
    let run = [
        "run",
        &exec(),
        "--name",
        &name,
        "--transport",
        "stdio",
        "--no-wait",
    ];
    machine.thv(run.iter().chain(&["--", "--no-answer"])).await.ok();
    let workload = machine.workload(&name).await;
    assert_eq!(workload.status, WorkloadStatus::Starting);
    machine.thv(["stop", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
}

#[tokio::test]
async fn a_stop_of_one_that_hangs_stops_it() {
    let machine = Machine::new();
    let name = machine.name("hangs");
    let args = ["--transport", "streamable-http"];
    let workload = run(&machine, &name, &exec(), &args).await;
    for pid in with_token(&token_of(&workload).await) {
        signal(pid, Signal::STOP);
    }
    machine.thv(["stop", &name, "--timeout", "1"]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
}

#[tokio::test]
async fn a_proxy_that_hangs_is_killed_after_its_grace() {
    let machine = Machine::new();
    let name = machine.name("halted");
    let workload = drill::run_echo(&machine, &name).await;
    signal(drill::proxy_pid(&machine, &name).await, Signal::STOP);
    machine.thv(["stop", &name, "--timeout", "0"]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    assert_eq!(machine.workload(&name).await.port, workload.port);
}

#[tokio::test]
async fn a_stop_after_the_container_was_removed_by_hand_leaves_none() {
    let Some(docker) = docker().await else { return };
    for transport in ["stdio", "streamable-http"] {
        let machine = Machine::with_docker(&docker);
        let name = machine.name("removed");
        let workload = run(&machine, &name, docker.image(), &["--transport", transport]).await;
        docker.remove(&name).await;
        machine.thv(["stop", &name]).await.ok();
        machine.assert_nothing_lives(&[workload.port]);
        let left = docker.instance(&name).await;
        assert!(
            left.is_none_or(|left| left.state == thv::runtime::InstanceState::Stopped),
            "it was revived"
        );
        assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
        machine.thv(["rm", &name]).await.ok();
        docker.assert_gone(&name).await;
    }
}

/// `thv run --foreground`, ready.
async fn foreground(machine: &Machine, name: &str, args: &[&str]) -> (Child, u16) {
    let run = foreground_args(name);
    let mut command = machine.command(run.iter().map(String::as_str).chain(args.iter().copied()));
    let child = command.spawn().expect("it starts");
    (child, runs(machine, name).await)
}

fn foreground_args(name: &str) -> Vec<String> {
    let server = exec();
    let args = [
        "run",
        &server,
        "--name",
        name,
        "--transport",
        "stdio",
        "--foreground",
    ];
    args.map(str::to_owned).into()
}

/// Its port, as soon as it runs.
async fn runs(machine: &Machine, name: &str) -> u16 {
    let port = eventually(WAIT, "it runs", async || {
        let all = machine.workloads().await;
        let found = all.into_iter().find(|workload| workload.name == name)?;
        (found.status == WorkloadStatus::Running).then_some(found.port)
    });
    port.await
}

async fn ends(child: &mut Child) -> ExitStatus {
    let ended = tokio::time::timeout(WAIT, child.wait()).await;
    ended.expect("it ends").expect("it was there")
}

#[tokio::test]
async fn a_signal_ends_and_deletes_what_runs_in_the_foreground() {
    for end in [Signal::INT, Signal::TERM, Signal::QUIT] {
        let machine = Machine::new();
        let name = machine.name("foreground");
        let (mut child, port) = foreground(&machine, &name, &[]).await;
        signal(child.id().expect("it runs"), end);
        assert!(ends(&mut child).await.success());
        assert_eq!(machine.workloads().await, [], "{end:?}");
        machine.assert_nothing_lives(&[port]);
    }
}

#[tokio::test]
async fn a_closed_terminal_ends_what_runs_in_the_foreground() {
    let machine = Machine::new();
    let name = machine.name("hung-up");
    // These tests may have been started under nohup themselves, and no shell takes that back.
    let mut command = machine.program("env");
    command.args(["--default-signal=HUP", "--"]);
    command.arg(thv_tests::thv()).args(foreground_args(&name));
    let mut child = command.spawn().expect("it starts");
    let port = runs(&machine, &name).await;
    signal(child.id().expect("it runs"), Signal::HUP);
    assert!(ends(&mut child).await.success());
    assert_eq!(machine.workloads().await, []);
    machine.assert_nothing_lives(&[port]);
}

#[tokio::test]
async fn what_was_started_to_outlive_its_terminal_does() {
    let machine = Machine::new();
    let name = machine.name("nohup");
    let mut shell = machine.program("/bin/sh");
    let script = r#"trap "" HUP; exec "$@""#;
    shell.args(["-c", script, "sh"]);
    shell.arg(thv_tests::thv()).args(foreground_args(&name));
    let mut child = shell.spawn().expect("it starts");
    let port = runs(&machine, &name).await;
    let pid = child.id().expect("it runs");
    // Its state is looked at, not what a signal does: that would be waiting for nothing to happen.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .expect("a mask");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a mask");
    assert_eq!(ignored & 1, 1, "SIGHUP is ignored");
    signal(pid, Signal::TERM);
    assert!(ends(&mut child).await.success());
    machine.assert_nothing_lives(&[port]);
}

#[tokio::test]
async fn a_signal_stops_and_keeps_what_is_to_be_kept() {
    let machine = Machine::new();
    let name = machine.name("kept");
    let (mut child, port) = foreground(&machine, &name, &["--keep"]).await;
    signal(child.id().expect("it runs"), Signal::INT);
    assert!(ends(&mut child).await.success());
    machine.assert_nothing_lives(&[port]);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    assert_eq!(machine.workload(&name).await.port, port);
}

#[tokio::test]
async fn a_stop_from_another_terminal_keeps_what_runs_in_the_foreground() {
    let machine = Machine::new();
    let name = machine.name("elsewhere");
    let (mut child, port) = foreground(&machine, &name, &[]).await;
    machine.thv(["stop", &name]).await.ok();
    let status = ends(&mut child).await;
    assert!(status.success(), "{status:?}");
    machine.assert_nothing_lives(&[port]);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    assert_eq!(machine.workload(&name).await.port, port);
}

#[tokio::test]
async fn a_signal_to_a_start_in_the_foreground_deletes_nothing() {
    let machine = Machine::new();
    let name = machine.name("started");
    let (mut child, port) = foreground(&machine, &name, &["--keep"]).await;
    machine.thv(["stop", &name]).await.ok();
    ends(&mut child).await;
    let mut child = machine
        .command(["start", &name, "--foreground"])
        .spawn()
        .expect("it starts");
    eventually(WAIT, "it runs", async || {
        (machine.workload(&name).await.status == WorkloadStatus::Running).then_some(())
    })
    .await;
    signal(child.id().expect("it runs"), Signal::INT);
    assert!(ends(&mut child).await.success());
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    machine.assert_nothing_lives(&[port]);
}
