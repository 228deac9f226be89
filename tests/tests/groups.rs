//! Groups, with programs of this host.

use serde_json::{Value, json};
use thv::core::WorkloadStatus;
use thv_tests::{Machine, echo_server};

async fn run_in(machine: &Machine, name: &str, group: &str) {
    let server = format!("exec://{}", echo_server().display());
    let args = [
        "run",
        &server,
        "--name",
        name,
        "--group",
        group,
        "--transport",
        "stdio",
        "--wait=1m",
    ];
    machine.thv(args).await.ok();
}

async fn names_in(machine: &Machine, group: &str) -> Vec<String> {
    let listed = machine
        .thv(["list", "--all", "--group", group, "--format", "json"])
        .await
        .ok()
        .json();
    let listed = listed.as_array().cloned().unwrap_or_default();
    listed
        .iter()
        .filter_map(|workload| workload["name"].as_str().map(str::to_owned))
        .collect()
}

async fn groups(machine: &Machine) -> Value {
    machine
        .thv(["group", "list", "--format", "json"])
        .await
        .ok()
        .json()
}

#[tokio::test]
async fn servers_are_started_moved_and_stopped_by_group() {
    let machine = Machine::new();
    let (a, b) = (machine.name("a"), machine.name("b"));
    let no_group = ["run", "exec:///bin/true", "--group", "team"];
    machine
        .thv(no_group)
        .await
        .failed()
        .says(["group \"team\" not found"]);
    machine.thv(["group", "create", "team"]).await.ok();
    machine
        .thv(["group", "create", "team"])
        .await
        .failed()
        .says(["group \"team\" already exists"]);
    machine
        .thv(["group", "create", "Team"])
        .await
        .failed()
        .says(["invalid group name"]);
    let empty = |name: &str| json!({ "name": name, "registered_clients": [] });
    assert_eq!(groups(&machine).await, json!([empty("default"), empty("team")]));

    run_in(&machine, &a, "team").await;
    run_in(&machine, &b, "default").await;
    assert_eq!(names_in(&machine, "team").await, [a.as_str()]);
    let before = machine.workload(&b).await;
    machine.thv(["group", "move", &b, "--to", "team"]).await.ok();
    assert_eq!(names_in(&machine, "team").await, [a.as_str(), b.as_str()]);
    let moved = machine.workload(&b).await;
    assert_eq!(
        (moved.status, moved.port, moved.started_at),
        (WorkloadStatus::Running, before.port, before.started_at),
        "it ran on"
    );
    machine
        .thv(["group", "move", &b, "--to", "nowhere"])
        .await
        .failed()
        .says(["group \"nowhere\" not found"]);

    machine.thv(["group", "move", &b, "--to", "default"]).await.ok();
    machine.thv(["stop", "--group", "team"]).await.ok();
    assert_eq!(machine.workload(&a).await.status, WorkloadStatus::Stopped);
    assert_eq!(machine.workload(&b).await.status, WorkloadStatus::Running);

    machine.thv(["group", "rm", "team"]).await.ok();
    assert_eq!(groups(&machine).await, json!([empty("default")]));
    assert_eq!(
        names_in(&machine, "default").await,
        [a.as_str(), b.as_str()],
        "nothing is lost"
    );
}

#[tokio::test]
async fn a_group_goes_with_its_servers_only_when_that_is_said() {
    let machine = Machine::new();
    let (a, b) = (machine.name("a"), machine.name("b"));
    machine.thv(["group", "create", "team"]).await.ok();
    run_in(&machine, &a, "team").await;
    run_in(&machine, &b, "default").await;
    let port = machine.workload(&a).await.port;
    machine
        .thv(["group", "rm", "team", "--with-workloads"])
        .await
        .failed()
        .says([a.as_str(), "--yes"]);
    assert_eq!(machine.workload(&a).await.status, WorkloadStatus::Running);
    machine
        .thv(["group", "rm", "team", "--with-workloads", "--yes"])
        .await
        .ok();
    assert_eq!(machine.find(&a).await, None);
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    assert_eq!(machine.workload(&b).await.status, WorkloadStatus::Running);
    machine
        .thv(["group", "rm", "team"])
        .await
        .failed()
        .says(["group \"team\" not found"]);
    machine
        .thv(["group", "rm", "default"])
        .await
        .failed()
        .says(["always exists"]);
}
