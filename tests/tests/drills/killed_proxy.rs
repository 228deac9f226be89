//! Drill: `kill -9` of the detached proxy, idle and during a call.

use serde_json::json;
use thv::core::WorkloadStatus;
use thv_tests::{Client, Machine, Upstream, WAIT, docker, eventually};

use crate::drill::{self, answers, exec, kill_9, process_state, proxy_pid, run, run_echo};

async fn is_seen_and_repaired_by_one_start(machine: &Machine, server: &str, transport: &str) -> u16 {
    let name = machine.name("killed");
    let before = run(machine, &name, server, &["--transport", transport]).await;
    let client = Client::connect(&before.url).await;
    let pid = proxy_pid(machine, &name).await;
    let slow = tokio::spawn(async move {
        // Longer than any test: it is under way when the proxy dies.
        let answer = client.try_call("slow", json!({ "ms": 600_000 })).await;
        client.close().await;
        answer
    });
    // The proxy serves other sessions meanwhile: when this one has its answers, the slow call is under way too.
    answers(&before).await;

    kill_9(pid);
    let dead = machine.workload(&name).await;
    assert_ne!(dead.status, WorkloadStatus::Running, "{dead:?}");
    assert!(dead.status_context.contains("proxy"), "no reason: {dead:?}");
    let listed = machine.thv(["list"]).await.ok().says([&*name]);
    assert!(!listed.stdout.contains(&name), "{listed}");
    assert!(
        slow.await.expect("no panic").is_err(),
        "a call cannot outlive its proxy"
    );

    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    let after = machine.workload(&name).await;
    assert_eq!((after.status, after.port), (WorkloadStatus::Running, before.port));
    answers(&after).await;
    machine.thv(["rm", &name]).await.ok();
    before.port
}

#[tokio::test]
async fn a_detached_proxy_lets_its_hand_over_go() {
    let machine = Machine::new();
    let name = machine.name("input");
    run_echo(&machine, &name).await;
    let pid = proxy_pid(&machine, &name).await;
    let input = std::fs::read_link(format!("/proc/{pid}/fd/0")).expect("a descriptor");
    assert_eq!(input, std::path::Path::new("/dev/null"));
    machine.thv(["rm", &name]).await.ok();
}

#[tokio::test]
async fn a_local_server_whose_record_is_damaged_is_stopped_started_and_removed() {
    let machine = Machine::new();
    let name = machine.name("damaged");
    let workload = run_echo(&machine, &name).await;
    let record = machine.dirs().lifecycle().join(format!("instances/{name}.json"));
    std::fs::write(&record, "{").expect("the record");
    machine.thv(["stop", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    std::fs::write(&record, "{").expect("the record");
    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    assert!(!record.exists());
}

#[tokio::test]
async fn a_killed_proxy_of_a_local_stdio_server() {
    let machine = Machine::new();
    let port = is_seen_and_repaired_by_one_start(&machine, &exec(), "stdio").await;
    machine.assert_nothing_lives(&[port]);
}

#[tokio::test]
async fn a_killed_proxy_of_a_local_http_server() {
    let machine = Machine::new();
    let port = is_seen_and_repaired_by_one_start(&machine, &exec(), "streamable-http").await;
    machine.assert_nothing_lives(&[port]);
}

#[tokio::test]
async fn a_killed_proxy_of_a_remote_server() {
    let machine = Machine::new();
    let upstream = Upstream::echo(&machine).await;
    is_seen_and_repaired_by_one_start(&machine, &upstream.url(), "streamable-http").await;
    assert!(upstream.answers().await, "the server is somebody else's");
}

#[tokio::test]
async fn a_killed_proxy_of_a_container() {
    let Some(docker) = docker().await else { return };
    for transport in ["stdio", "streamable-http"] {
        let machine = Machine::with_docker(&docker);
        let port = is_seen_and_repaired_by_one_start(&machine, docker.image(), transport).await;
        machine.assert_nothing_lives(&[port]);
    }
}

#[tokio::test]
async fn a_dead_process_that_nobody_has_reaped_counts_as_dead() {
    let machine = Machine::new();
    let name = machine.name("zombie");
    let before = run_echo(&machine, &name).await;
    machine.thv(["stop", &name]).await.ok();
    // A child of this test, which reaps it only at the end.
    let mut proxy = machine.command(["start", &name, "--foreground"]).into_std();
    let mut proxy = proxy.spawn().expect("it starts");
    eventually(WAIT, "it runs", async || {
        (machine.workload(&name).await.status == WorkloadStatus::Running).then_some(())
    })
    .await;

    kill_9(proxy.id());
    eventually(WAIT, "a zombie", async || {
        (process_state(proxy.id()) == Some('Z')).then_some(())
    })
    .await;
    let dead = machine.workload(&name).await;
    assert_ne!(dead.status, WorkloadStatus::Running, "{dead:?}");
    assert!(!dead.status_context.is_empty(), "no reason: {dead:?}");
    // ToolHive's file names the zombie: still dead.
    drill::toolhive_writes(&machine, &name, "running", proxy.id());
    assert_ne!(machine.workload(&name).await.status, WorkloadStatus::Running);

    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    let after = machine.workload(&name).await;
    assert_eq!((after.status, after.port), (WorkloadStatus::Running, before.port));
    answers(&after).await;
    assert_eq!(process_state(proxy.id()), Some('Z'), "it was one all the time");
    proxy.wait().expect("it is reaped");
}
