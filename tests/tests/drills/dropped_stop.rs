//! Drill: a verb whose future is dropped is in nobody's way.

use std::time::Duration;

use serde_json::json;
use thv::core::{Dirs, Env, TransportType, WorkloadName, WorkloadStatus};
use thv::manager::{Manager, RunOptions, RunRequest, StartOptions, StopOptions, WaitFor};
use thv_tests::{Client, Machine, WAIT};

use crate::drill::{answers, exec};

const READY: WaitFor = WaitFor::Ready(Duration::from_secs(60));

fn manager(machine: &Machine) -> Manager {
    let dirs: Dirs = machine.dirs().clone();
    let env = Env::from_vars(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    let builder = thv::manager_in(dirs, env).expect("the usual parts");
    builder
        .launcher_id("com.example.drill")
        .build()
        .expect("a manager")
}

async fn run_in_process(manager: &Manager, name: &WorkloadName, args: &[&str]) {
    let mut request = RunRequest::new(exec());
    request.name = Some(name.to_string());
    request.transport = Some(TransportType::Stdio);
    request.args = args.iter().map(ToString::to_string).collect();
    let options = RunOptions {
        wait: READY,
        ..RunOptions::default()
    };
    Box::pin(manager.run(request, options)).await.expect("it runs");
}

/// A call that is under way for a second: a `stop` lets it end.
async fn busy(url: &str) -> tokio::task::JoinHandle<Result<String, String>> {
    let client = Client::connect(url).await;
    let call = tokio::spawn(async move { client.try_call("slow", json!({ "ms": 1000 })).await });
    // The proxy serves this one after that one.
    let other = Client::connect(url).await;
    other.call("echo", json!({ "text": "x" })).await;
    other.close().await;
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stop_leaves_no_conflict() {
    let machine = Machine::new();
    let manager = manager(&machine);
    let name: WorkloadName = machine.name("dropped").parse().expect("a name");
    run_in_process(&manager, &name, &[]).await;
    // Dropped at its first waits, and while it lets a call end.
    for millis in [0, 1, 3, 10, 30, 100, 300] {
        let workload = manager.get(&name).await.expect("it runs");
        let call = busy(&workload.url).await;
        let stop = manager.stop(&name, StopOptions::default());
        // Early ones may have been cut off, late ones may have come to their end.
        let _ = tokio::time::timeout(Duration::from_millis(millis), stop).await;
        let stopped = manager.stop(&name, StopOptions::default()).await;
        stopped.expect("no conflict");
        assert_eq!(
            manager.get(&name).await.expect("it is kept").status,
            WorkloadStatus::Stopped
        );
        call.abort();

        let options = StartOptions {
            wait: READY,
            ..StartOptions::default()
        };
        let started = Box::pin(manager.start(&name, options)).await;
        started.expect("nothing is in the way of a start");
        answers(&manager.get(&name).await.expect("it runs")).await;
    }
    // Nor is it in the way of another process.
    let stop = manager.stop(&name, StopOptions::default());
    let _ = tokio::time::timeout(Duration::from_millis(1), stop).await;
    machine.thv(["stop", name.as_str()]).await.ok();
    machine.thv(["rm", name.as_str()]).await.ok();
    assert_eq!(machine.workloads().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_was_dropped_in_its_grace_is_finished_by_one_with_less() {
    let machine = Machine::new();
    let manager = manager(&machine);
    let name: WorkloadName = machine.name("stubborn").parse().expect("a name");
    run_in_process(&manager, &name, &["--ignore-sigterm", "--ignore-eof"]).await;
    let patient = StopOptions {
        grace: Duration::from_hours(1),
        ..StopOptions::default()
    };
    let stop = manager.stop(&name, patient);
    let cut_off = tokio::time::timeout(Duration::from_millis(300), stop).await;
    assert!(cut_off.is_err(), "the server is stubborn: {cut_off:?}");
    let impatient = StopOptions {
        grace: Duration::from_millis(100),
        ..StopOptions::default()
    };
    // It waits for nothing that is left of the first one's patience, and its owner reacts.
    let stopped = tokio::time::timeout(WAIT, manager.stop(&name, impatient)).await;
    stopped.expect("it is not as patient").expect("no conflict");
    assert_eq!(
        manager.get(&name).await.expect("it is kept").status,
        WorkloadStatus::Stopped
    );
}
