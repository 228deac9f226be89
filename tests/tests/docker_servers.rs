//! Images as workloads on a real engine.

mod drill;

use drill::{kill_9, proxy_pid};
use serde_json::json;
use thv::core::WorkloadStatus;
use thv::runtime::InstanceState;
use thv_tests::{Client, Docker, Machine, Registry, RegistryAnswer, WAIT, docker, eventually};

async fn version(machine: &Machine, name: &str) -> String {
    let client = Client::connect(&machine.workload(name).await.url).await;
    let version = client.call("version", json!({})).await;
    client.close().await;
    version
}

/// A line of standard error, which has its way to go.
async fn is_logged(machine: &Machine, name: &str, line: &str) {
    let shown = async || {
        let log = machine.thv(["logs", name]).await.ok();
        log.stdout.contains(line).then_some(())
    };
    eventually(WAIT, "the line in the log", shown).await;
}

/// What a stdio server answers is its users': neither the engine keeps it nor we.
async fn is_logged_by_nobody_else(machine: &Machine, docker: &Docker, name: &str) {
    let about = docker.get(&format!("/containers/{name}/json")).await;
    assert!(about.contains(r#""LogConfig":{"Type":"none""#), "{about}");
    let logs = format!("/containers/{name}/logs?stdout=true&stderr=true");
    let kept = docker.get(&logs).await;
    assert!(
        !kept.contains("jsonrpc") && !kept.contains("for the log"),
        "{kept}"
    );
    let ours = machine.dirs().server_logs().join(format!("{name}.log"));
    let ours = std::fs::read_to_string(ours).expect("a log");
    assert!(!ours.contains("jsonrpc"), "{ours}");
}

async fn lives_its_whole_life(docker: &Docker, transport: &str) {
    let machine = Machine::with_docker(docker);
    let name = machine.name(transport);
    let run = [
        "run",
        "--wait=1m",
        docker.image(),
        "--name",
        &name,
        "--transport",
        transport,
    ];
    machine
        .thv(run.iter().chain(&["--env", "GIVEN=1", "--label", "team=a"]))
        .await
        .ok();
    let workload = machine.workload(&name).await;
    assert_eq!(workload.status, WorkloadStatus::Running, "{workload:?}");
    assert_eq!(workload.package, docker.image());
    assert_eq!(workload.thv.runtime.as_deref(), Some("docker"));
    let instance = docker.instance(&name).await.expect("a container");
    assert_eq!(instance.state, InstanceState::Running);
    assert_eq!(instance.labels["team"], "a");
    assert_eq!(instance.labels["toolhive-transport"], transport);

    let status = machine
        .thv(["status", &name, "--format", "json"])
        .await
        .ok()
        .json();
    let pid_file = machine.dirs().pids().join(format!("toolhive-{name}.pid"));
    let pid = std::fs::read_to_string(&pid_file).expect("a PID file");
    assert_eq!(pid.trim(), status["thv"]["proxy_pid"].to_string());

    let client = Client::connect(&workload.url).await;
    assert!(client.tools().await.contains(&"echo".to_owned()));
    assert_eq!(client.call("env", json!({ "name": "GIVEN" })).await, "1");
    assert_eq!(
        client.call("stderr", json!({ "text": "for the log" })).await,
        "written"
    );
    client.ping().await;
    client.close().await;
    is_logged(&machine, &name, "for the log").await;
    if transport == "stdio" {
        is_logged_by_nobody_else(&machine, docker, &name).await;
    }

    machine.thv(["stop", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    assert!(!pid_file.exists(), "a stale PID is somebody else's one day");
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    assert_ne!(
        docker.instance(&name).await.map(|it| it.state),
        Some(InstanceState::Running)
    );

    machine.thv(["start", "--wait=1m", &name]).await.ok();
    let again = machine.workload(&name).await;
    assert_eq!(
        (again.status, again.port),
        (WorkloadStatus::Running, workload.port)
    );
    assert_eq!(version(&machine, &name).await, "1");
    is_logged(&machine, &name, "for the log").await;

    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    assert!(!machine.dirs().server_logs().join(format!("{name}.log")).exists());
    docker.assert_gone(&name).await;
    assert_eq!(machine.find(&name).await, None);
}

#[tokio::test]
async fn a_stdio_image_lives_its_whole_life() {
    let Some(docker) = docker().await else { return };
    lives_its_whole_life(&docker, "stdio").await;
}

#[tokio::test]
async fn a_server_that_ignores_its_signal_ends_with_its_input_and_is_not_killed() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let name = machine.name("stubborn");
    let run = [
        "run",
        "--wait=1m",
        docker.image(),
        "--name",
        &name,
        "--transport",
        "stdio",
    ];
    machine
        .thv(run.iter().chain(&["--", "--ignore-sigterm"]))
        .await
        .ok();
    machine.thv(["stop", &name]).await.ok();
    let stopped = docker.instance(&name).await.expect("stopped, not removed");
    assert_eq!(
        (stopped.state, stopped.exit_code),
        (InstanceState::Stopped, Some(0))
    );

    machine.thv(["start", "--wait=1m", &name]).await.ok();
    kill_9(proxy_pid(&machine, &name).await);
    let ended = async || {
        let seen = docker.instance(&name).await.expect("nobody removes it");
        (seen.state == InstanceState::Stopped).then_some(seen.exit_code)
    };
    let code = eventually(WAIT, "the end of the server of a proxy that died", ended).await;
    assert_eq!(code, Some(0), "nobody is there to kill it");
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}

#[tokio::test]
async fn a_streamable_http_image_lives_its_whole_life() {
    let Some(docker) = docker().await else { return };
    lives_its_whole_life(&docker, "streamable-http").await;
}

/// As `docker restart` does.
#[tokio::test]
async fn a_container_that_somebody_starts_anew_is_served_on_by_the_same_proxy() {
    let Some(docker) = docker().await else { return };
    for transport in ["stdio", "streamable-http"] {
        let machine = Machine::with_docker(&docker);
        let name = machine.name("anew");
        let run = ["run", docker.image(), "--name", &name, "--transport", transport];
        machine.thv(run).await.ok();
        let (workload, proxy) = (machine.workload(&name).await, proxy_pid(&machine, &name).await);
        let first = docker.pid(&name).await;
        let answer = docker.post(&format!("/containers/{name}/restart?t=5")).await;
        assert!(answer.contains(" 204 "), "{answer}");
        eventually(WAIT, "the server of another process", async || {
            let client = Client::try_connect(&workload.url).await.ok()?;
            client.try_call("version", json!({})).await.ok()?;
            let seen = machine.workload(&name).await;
            (seen.status == WorkloadStatus::Running && docker.pid(&name).await != first).then_some(())
        })
        .await;
        assert_eq!(proxy_pid(&machine, &name).await, proxy, "{transport}");
        machine.thv(["rm", &name]).await.ok();
        docker.assert_gone(&name).await;
    }
}

#[tokio::test]
async fn an_sse_image_is_proxied() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let name = machine.name("sse");
    machine
        .thv([
            "run",
            "--wait=1m",
            docker.image(),
            "--name",
            &name,
            "--transport",
            "sse",
        ])
        .await
        .ok();
    let mut session = thv_tests::SseSession::open(machine.workload(&name).await.port).await;
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
    assert!(session.ask(&hello).await["result"]["serverInfo"].is_object());
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}

#[tokio::test]
async fn a_container_that_ends_at_once_fails_run_and_is_not_left() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    for transport in ["stdio", "streamable-http"] {
        let name = machine.name("exits");
        let run = [
            "run",
            docker.image(),
            "--name",
            &name,
            "--transport",
            transport,
            "--wait=1m",
        ];
        let fault = [
            "--",
            "--stderr-at-start",
            "the key is missing",
            "--exit-at-start",
            "3",
        ];
        let output = machine.thv(run.iter().chain(&fault)).await.failed();
        output.says([name.as_str(), "code 3", "the key is missing"]);
        let workload = machine.workload(&name).await;
        assert_eq!(workload.status, WorkloadStatus::Error, "{workload:?}");
        assert!(workload.status_context.contains("code 3"), "{workload:?}");
        machine.assert_nothing_lives(&[workload.port]);
        docker.assert_gone(&name).await;
    }
}

#[tokio::test]
async fn an_image_that_does_not_exist_leaves_nothing() {
    let Some(docker) = docker().await else { return };
    let registry = Registry::start(RegistryAnswer::NotFound).await;
    let machine = Machine::with_docker(&docker);
    let name = machine.name("missing");
    let image = format!("{}:1", registry.repository("no/such"));
    machine
        .thv(["run", &image, "--name", &name])
        .await
        .failed()
        .says([image.as_str()]);
    assert_eq!(machine.find(&name).await, None);
    docker.assert_gone(&name).await;
    machine.assert_nothing_lives(&[]);
    let dirs = machine.dirs();
    let lifecycle = dirs.lifecycle();
    for folder in [
        dirs.runconfigs(),
        dirs.statuses(),
        dirs.pids(),
        dirs.proxy_logs(),
        lifecycle.clone(),
        lifecycle.join("logs"),
    ] {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let left: Vec<_> = entries
            .map(|it| it.path())
            .filter(|it| {
                it.file_name()
                    .is_some_and(|file| file.to_string_lossy().contains(&*name))
            })
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

#[tokio::test]
async fn a_name_that_the_engine_cannot_take_is_refused_before_anything_is_touched() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    for (name, rule) in [
        ("x", "a container's name has at least two characters"),
        ("_under", "a container's name starts with a letter or a digit"),
    ] {
        machine
            .thv(["run", docker.image(), "--name", name])
            .await
            .failed()
            .says([&*format!("cannot take the name \"{name}\""), rule]);
        assert_eq!(machine.find(name).await, None);
        machine.assert_nothing_lives(&[]);
    }
    let state = machine.dirs().runconfigs();
    assert!(
        !state.exists() || state.read_dir().is_ok_and(|mut it| it.next().is_none()),
        "{state:?} has files"
    );
}

#[tokio::test]
async fn an_image_built_here_wins_whatever_its_registry_says() {
    let Some(docker) = docker().await else { return };
    for answer in [
        RegistryAnswer::NotFound,
        RegistryAnswer::Unauthorized,
        RegistryAnswer::Echo("from the registry"),
    ] {
        let registry = Registry::start(answer).await;
        let image = format!("{}:dev", registry.repository("me/tool"));
        docker.build_as(&image, "built here").await;
        let machine = Machine::with_docker(&docker);
        let name = machine.name("mine");
        machine
            .thv([
                "run",
                "--wait=1m",
                &image,
                "--name",
                &name,
                "--transport",
                "stdio",
            ])
            .await
            .ok();
        assert_eq!(version(&machine, &name).await, "built here", "{answer:?}");
        assert_eq!(registry.requests(), [""; 0], "nobody was asked");
        machine.thv(["restart", "--wait=1m", &name]).await.ok();
        assert_eq!(version(&machine, &name).await, "built here", "{answer:?}");
        machine.thv(["rm", &name]).await.ok();
    }
}

#[tokio::test]
async fn an_image_that_is_not_here_is_pulled() {
    let Some(docker) = docker().await else { return };
    let registry = Registry::start(RegistryAnswer::Echo("pulled")).await;
    let machine = Machine::with_docker(&docker);
    let name = machine.name("pulled");
    let image = format!("{}:1", registry.repository("their/tool"));
    docker.passes(&image);
    machine
        .thv([
            "run",
            &image,
            "--name",
            &name,
            "--transport",
            "stdio",
            "--wait=1m",
        ])
        .await
        .ok()
        // No terminal: lines.
        .says(["pulling 127.0.0.1:", "pulled 127.0.0.1:"]);
    assert_eq!(version(&machine, &name).await, "pulled");
    machine.thv(["rm", &name]).await.ok();
}
