//! Drill: the engine restarts again and again; the workload is there afterwards, and nobody hangs meanwhile. Another engine
//! takes its place: nothing is done to what it does not have.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use thv::core::WorkloadStatus;
use thv_tests::{Client, Machine, PrivateEngine, docker, eventually, post};

/// How long a workload may take to come back. Its engine answers by then.
const BACK: Duration = Duration::from_mins(3);

/// What a call is told that was waited for to the end of its time.
const TOO_LATE: &str = "did not answer in time";

/// How often the engine restarts: `THV_TEST_ENGINE_RESTARTS`, by default twice.
fn restarts() -> u32 {
    let given = std::env::var("THV_TEST_ENGINE_RESTARTS").ok();
    given.map_or(2, |number| number.parse().expect("a number"))
}

/// A call as a client without a session makes it, and its answer.
async fn asked(port: u16) -> Value {
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
    post(port, &[], hello.to_string()).await.json()
}

#[tokio::test]
async fn a_workload_outlives_restarts_of_its_engine() {
    let Some(engine) = PrivateEngine::start().await else {
        return;
    };
    let machine = Machine::with_docker(engine.docker());
    let name = machine.name("restarts");
    let run = [
        "run",
        engine.docker().image(),
        "--name",
        &name,
        "--transport",
        "stdio",
    ];
    let alone = ["--isolate-network=false", "--wait=1m"];
    machine.thv(run.iter().chain(&alone)).await.ok();
    let workload = machine.workload(&name).await;

    for restart in 1..=restarts() {
        let client = Client::connect(&workload.url).await;
        assert_eq!(client.call("echo", json!({ "text": "hello" })).await, "hello");
        // A call that is under way when the engine goes.
        let under_way = tokio::spawn(async move { client.try_call("slow", json!({ "ms": 600_000 })).await });
        engine.stop().await;
        let ended = under_way
            .await
            .expect("no panic")
            .expect_err("its server is gone");
        assert!(!ended.contains(TOO_LATE), "restart {restart}: {ended}");
        let answer = asked(workload.port).await;
        let told = answer["error"]["message"].as_str();
        assert!(
            told.is_some_and(|told| !told.contains(TOO_LATE)),
            "restart {restart}: {answer}"
        );
        engine.start_again().await;
        eventually(BACK, "the server answers again", async || {
            asked(workload.port).await["result"].is_object().then_some(())
        })
        .await;
    }
    let seen = machine.workload(&name).await;
    assert_eq!((seen.status, seen.port), (WorkloadStatus::Running, workload.port));
    let client = Client::connect(&workload.url).await;
    assert_eq!(client.call("echo", json!({ "text": "again" })).await, "again");
    client.close().await;
    machine.thv(["rm", &name]).await.ok();
}

/// Every file of ours and ToolHive's about workloads, with its content; locks and logs have none that counts.
fn records(machine: &Machine) -> BTreeMap<PathBuf, Vec<u8>> {
    let dirs = machine.dirs();
    let folders = [dirs.runconfigs(), dirs.statuses(), dirs.lifecycle()];
    let entries = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("a folder"));
    let files = entries.map(|entry| entry.expect("an entry").path());
    files
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .map(|path| (path.clone(), std::fs::read(path).expect("a file")))
        .collect()
}

#[tokio::test]
async fn a_workload_of_another_engine_is_shown_and_left_alone() {
    let Some(other) = PrivateEngine::start().await else {
        return;
    };
    let docker = docker().await.expect("the one of the script runs");
    let mut machine = Machine::with_docker(&docker);
    let name = machine.name("theirs");
    let run = ["run", docker.image(), "--name", &name, "--transport", "stdio"];
    let alone = ["--isolate-network=false", "--wait=1m"];
    machine.thv(run.iter().chain(&alone)).await.ok();
    let client = Client::connect(&machine.workload(&name).await.url).await;
    let (before, instance) = (records(&machine), docker.instance(&name).await);

    machine.set("DOCKER_HOST", other.docker().host());
    let place = docker.host().trim_start_matches("unix://").to_owned();
    let list = ["list", "--all", "--format", "json"];
    for show in [&list[..], &list[..2], &["status", &name]] {
        let shown = machine.thv(show).await.ok();
        assert!(shown.stdout.contains(&name), "{shown}");
        let reason = [&shown.stdout, &shown.stderr].map(|text| text.contains(&place));
        assert!(reason.contains(&true), "it is not said where it is: {shown}");
    }
    for verb in ["stop", "rm", "restart"] {
        let refused = machine.thv([verb, &name]).await.failed();
        refused.says([&*place, "DOCKER_HOST"]);
    }
    assert_eq!(records(&machine), before, "nothing has changed");
    assert!(other.docker().instance(&name).await.is_none());
    let still = docker.instance(&name).await;
    assert_eq!(still.map(|it| it.id), instance.map(|it| it.id));
    assert_eq!(client.call("echo", json!({ "text": "on" })).await, "on");
    client.close().await;

    machine.set("DOCKER_HOST", docker.host());
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}
