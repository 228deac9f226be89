//! Drill: `kill -9` of a command at any moment. The same command, once more, brings it to its end.

use std::time::Duration;

use thv::core::WorkloadStatus;
use thv_tests::{Machine, WAIT, eventually};

use crate::drill::{self, answers, exec, run_echo};

/// From before its first effect to after its last, on a fast machine and on a slow one.
const MOMENTS: [u64; 10] = [2, 5, 10, 15, 25, 40, 70, 120, 250, 500];

/// Starts a command and kills it after so many milliseconds, unless it ended before.
async fn cut_off(machine: &Machine, args: &[&str], millis: u64) {
    let mut command = machine.command(args).spawn().expect("it starts");
    // Not a wait for something: the moment is the input of the drill.
    if tokio::time::timeout(Duration::from_millis(millis), command.wait())
        .await
        .is_err()
    {
        command.kill().await.expect("it is a child");
    }
    machine.thv(["list", "--all"]).await.ok();
}

/// A proxy that was launched for the command takes a moment to go.
async fn nothing_lives(machine: &Machine, ports: &[u16]) {
    eventually(WAIT, "nothing lives", async || {
        machine.processes().is_empty().then_some(())
    })
    .await;
    machine.assert_nothing_lives(ports);
}

#[tokio::test]
async fn a_run_that_was_cut_off_can_be_removed_and_run_again() {
    let server = exec();
    for millis in MOMENTS {
        let machine = Machine::new();
        let name = machine.name("run");
        let run = ["run", &server, "--name", &name, "--transport", "stdio"];
        cut_off(&machine, &run, millis).await;
        machine.thv(["rm", &name]).await.ok();
        nothing_lives(&machine, &[]).await;
        assert_eq!(machine.workloads().await, [], "after {millis} ms");
        answers(&run_echo(&machine, &name).await).await;
    }
}

#[tokio::test]
async fn a_stop_that_was_cut_off_is_finished_by_the_next() {
    let machine = Machine::new();
    let name = machine.name("stop");
    let port = run_echo(&machine, &name).await.port;
    for millis in MOMENTS {
        cut_off(&machine, &["stop", &name], millis).await;
        machine.thv(["stop", &name]).await.ok();
        nothing_lives(&machine, &[port]).await;
        assert_eq!(
            machine.workload(&name).await.status,
            WorkloadStatus::Stopped,
            "after {millis} ms"
        );
        machine.thv(["start", &name, "--wait=1m"]).await.ok();
    }
    answers(&machine.workload(&name).await).await;
}

#[tokio::test]
async fn a_start_that_was_cut_off_is_in_nobodys_way() {
    let machine = Machine::new();
    let name = machine.name("start");
    let port = run_echo(&machine, &name).await.port;
    for millis in MOMENTS {
        machine.thv(["stop", &name]).await.ok();
        nothing_lives(&machine, &[port]).await;
        cut_off(&machine, &["start", &name], millis).await;
        machine.thv(["start", &name, "--wait=1m"]).await.ok();
        // The one that was cut off may have launched it already: then this one waits for that launch.
        let workload = machine.workload(&name).await;
        let seen = (workload.status, workload.port);
        assert_eq!(seen, (WorkloadStatus::Running, port), "after {millis} ms");
        answers(&workload).await;
    }
}

#[tokio::test]
async fn a_removal_that_was_cut_off_is_finished_by_the_next() {
    for millis in MOMENTS {
        let machine = Machine::new();
        let name = machine.name("rm");
        let port = run_echo(&machine, &name).await.port;
        cut_off(&machine, &["rm", &name], millis).await;
        machine.thv(["rm", &name]).await.ok();
        nothing_lives(&machine, &[port]).await;
        assert_eq!(machine.workloads().await, [], "after {millis} ms");
        let left = drill::files_of(&machine);
        let mut left = left.keys().filter(|path| path.to_string_lossy().contains(&name));
        assert!(
            left.all(|path| path.starts_with(machine.dirs().proxy_logs())),
            "after {millis} ms"
        );
    }
}

/// The very end of a removal, which no moment hits for certain: record and configuration are gone, the locks are not.
#[tokio::test]
async fn locks_that_a_removal_left_are_removed_by_the_next() {
    let machine = Machine::new();
    let name = machine.name("rm-locks");
    let lifecycle = machine.dirs().lifecycle();
    std::fs::create_dir_all(&lifecycle).expect("a folder of the test");
    for which in ["op", "owner", "guard"] {
        std::fs::write(lifecycle.join(format!("{name}.{which}")), "").expect("a file of the test");
    }
    machine.thv(["rm", &name]).await.ok();
    let left = drill::files_of(&machine);
    let left: Vec<_> = left
        .keys()
        .filter(|path| path.to_string_lossy().contains(&name))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
