//! Drill: a secret reaches the server, and nothing else.

use std::path::PathBuf;

use serde_json::json;
use thv_tests::{Client, Docker, Machine, docker};

use crate::drill::{exec, files_below, run};

/// Not a word that anything else contains.
fn secret() -> String {
    format!("hunter2-{}-{:p}", std::process::id(), &raw const STAMP)
}

static STAMP: u8 = 0;

/// The value is in no file of the machine, in no argument of its processes, and in nothing that commands say.
fn assert_kept(machine: &Machine, value: &str, said: &[String]) {
    let has = |bytes: &[u8]| bytes.windows(value.len()).any(|part| part == value.as_bytes());
    let files = files_below(machine.folder());
    assert!(files.len() > 5, "there is something to search: {files:?}");
    let leaks: Vec<PathBuf> = files
        .into_iter()
        .filter(|(path, (_, _, bytes))| {
            bytes.as_deref().is_some_and(has) || has(path.as_os_str().as_encoded_bytes())
        })
        .map(|(path, _)| path)
        .collect();
    assert!(leaks.is_empty(), "the secret is in {leaks:?}");
    for pid in machine.processes() {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(
            !has(&line),
            "the secret is an argument of {}",
            String::from_utf8_lossy(&line)
        );
    }
    for text in said {
        assert!(!has(text.as_bytes()), "a command says it: {text}");
    }
}

async fn is_kept(machine: &mut Machine, server: &str, transport: &str, docker: Option<&Docker>) {
    let value = secret();
    let name = machine.name("secret");
    machine.set("TOOLHIVE_SECRET_apikey", &value);
    let args = [
        "--debug",
        "--transport",
        transport,
        "--secret",
        "apikey,target=API_KEY",
    ];
    run(machine, &name, server, &args).await;
    let mut said = Vec::new();
    let export = machine.folder().join("export.json");
    let export = export.to_str().expect("UTF-8");
    for command in [
        &["list", "--all", "--format", "json"][..],
        &["status", &name, "--format", "json"],
        &["logs", &name],
        &["logs", &name, "--proxy"],
        &["export", &name, export],
        &["--debug", "restart", &name, "--wait=1m"],
        &["--debug", "list", "--all"],
    ] {
        let output = machine.thv(command).await.ok();
        said.extend([output.stdout, output.stderr]);
    }
    if let Some(docker) = docker {
        let instance = docker.instance(&name).await.expect("a container");
        said.push(format!("{:?}", instance.labels));
    }
    assert_kept(machine, &value, &said);

    // Only now: what a server itself says on its stdout is in an engine's log of it.
    let workload = machine.workload(&name).await;
    let client = Client::connect(&workload.url).await;
    assert_eq!(
        client.call("env", json!({ "name": "API_KEY" })).await,
        value,
        "it reaches the server"
    );
    client.close().await;
    machine.thv(["--debug", "stop", &name]).await.ok();
    assert_kept(machine, &value, &said);

    // A failed start keeps it too, and a secret that is not there is named before anything is touched.
    let failing = machine.name("failing");
    let run = [
        "--debug",
        "run",
        "--wait=1m",
        server,
        "--name",
        &failing,
        "--transport",
        transport,
        "--secret",
    ];
    let exits = [
        "apikey,target=API_KEY",
        "--",
        "--exit-at-start",
        "3",
        "--stderr-at-start",
        "cannot",
    ];
    let failed = machine.thv(run.iter().chain(&exits)).await.failed();
    assert_kept(machine, &value, &[failed.stdout, failed.stderr]);
    let absent = machine.name("absent");
    let run = [
        "run",
        server,
        "--name",
        &absent,
        "--secret",
        "no-such-secret,target=API_KEY",
    ];
    machine.thv(run).await.failed().says(["no-such-secret"]);
    assert!(
        machine
            .workloads()
            .await
            .iter()
            .all(|workload| workload.name != absent)
    );
    for name in [&name, &failing] {
        machine.thv(["rm", name]).await.ok();
    }
}

#[tokio::test]
async fn a_secret_of_a_local_server_is_kept() {
    for transport in ["stdio", "streamable-http"] {
        is_kept(&mut Machine::new(), &exec(), transport, None).await;
    }
}

#[tokio::test]
async fn a_secret_of_a_container_is_kept() {
    let Some(docker) = docker().await else { return };
    for transport in ["stdio", "streamable-http"] {
        let mut machine = Machine::with_docker(&docker);
        is_kept(&mut machine, docker.image(), transport, Some(&docker)).await;
    }
}
