//! A local HTTP server that hangs is seen, and seen again when it answers.

use rustix::process::{Pid, Signal, kill_process};
use thv::core::WorkloadStatus;
use thv_tests::{Client, Machine, WAIT, echo_server, eventually};

#[tokio::test]
async fn a_local_http_server_that_hangs_is_unhealthy_until_it_answers_again() {
    let mut machine = Machine::new();
    for (name, value) in [
        ("TOOLHIVE_HEALTH_CHECK_INTERVAL", "200ms"),
        ("TOOLHIVE_HEALTH_CHECK_RETRY_DELAY", "100ms"),
        ("TOOLHIVE_HEALTH_CHECK_PING_TIMEOUT", "1s"),
        ("TOOLHIVE_HEALTH_CHECK_FAILURE_THRESHOLD", "2"),
    ] {
        machine.set(name, value);
    }
    let name = machine.name("health");
    let server = format!("exec://{}", echo_server().display());
    let args = [
        "run",
        "--wait=1m",
        &server,
        "--name",
        &name,
        "--transport",
        "streamable-http",
    ];
    machine.thv(args).await.ok();
    let workload = machine.workload(&name).await;
    let client = Client::connect(&workload.url).await;
    let whoami = client.call("whoami", serde_json::json!({})).await;
    let echo = echo_server().file_name().expect("a program has a name");
    let of_server = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim_ascii() == echo.as_encoded_bytes())
    };
    let pids: Vec<_> = machine.processes().into_iter().filter(of_server).collect();
    let signal = |signal| {
        for pid in pids
            .iter()
            .filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?))
        {
            kill_process(pid, signal).expect("it lives");
        }
    };
    let becomes = async |status| {
        eventually(WAIT, "the status changes", async || {
            let now = machine.workload(&name).await.status;
            (now == status).then_some(())
        })
        .await;
    };
    signal(Signal::STOP);
    becomes(WorkloadStatus::Unhealthy).await;
    signal(Signal::CONT);
    becomes(WorkloadStatus::Running).await;
    assert_eq!(
        client.call("whoami", serde_json::json!({})).await,
        whoami,
        "the same server goes on"
    );
    client.close().await;
}
