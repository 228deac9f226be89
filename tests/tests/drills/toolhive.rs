//! Drill: a writer shaped like ToolHive between our writes, and what ToolHive left behind.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::{Value, json};
use thv::core::WorkloadStatus;
use thv_tests::{Docker, HeldPort, Machine, WAIT, docker, eventually};

use crate::drill::{
    self, answers, kill_9, proxy_pid, run_echo, signal, status, status_file, toolhive_writes,
};

async fn should_run(machine: &Machine, name: &str) -> bool {
    let status = status(machine, name).await;
    status["thv"]["desired_running"].as_bool().expect("it is said")
}

async fn starts_where_it_was(machine: &Machine, name: &str, port: u16) {
    machine.thv(["start", name, "--wait=1m"]).await.ok();
    let workload = machine.workload(name).await;
    assert_eq!((workload.status, workload.port), (WorkloadStatus::Running, port));
    answers(&workload).await;
    assert!(should_run(machine, name).await);
}

#[tokio::test]
async fn what_toolhive_stopped_is_stopped() {
    for state in ["stopping", "stopped"] {
        let machine = Machine::new();
        let name = machine.name("stopped");
        let port = run_echo(&machine, &name).await.port;
        let pid = proxy_pid(&machine, &name).await;
        // Its `stop`: a signal to the recorded process, and the status.
        toolhive_writes(&machine, &name, state, pid);
        assert!(!should_run(&machine, &name).await, "{state}");
        signal(pid, Signal::TERM);
        toolhive_writes(&machine, &name, "stopped", 0);
        eventually(WAIT, "the proxy ends, and its server", async || {
            machine.processes().is_empty().then_some(())
        })
        .await;
        machine.assert_nothing_lives(&[port]);
        assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
        machine.thv(["reconcile"]).await.ok();
        machine.assert_nothing_lives(&[port]);
        starts_where_it_was(&machine, &name, port).await;
    }
}

#[tokio::test]
async fn what_toolhive_stopped_after_our_proxy_was_killed_is_stopped() {
    let machine = Machine::new();
    let name = machine.name("stopped");
    let port = run_echo(&machine, &name).await.port;
    kill_9(proxy_pid(&machine, &name).await);
    toolhive_writes(&machine, &name, "stopped", 0);
    assert!(!should_run(&machine, &name).await);
    machine.thv(["reconcile"]).await.ok();
    assert_ne!(
        machine.workload(&name).await.status,
        WorkloadStatus::Running,
        "nothing resurrects it"
    );
    starts_where_it_was(&machine, &name, port).await;
}

#[tokio::test]
async fn a_status_file_that_is_gone_means_stopped() {
    let machine = Machine::new();
    let name = machine.name("gone");
    let port = run_echo(&machine, &name).await.port;
    fs::remove_file(status_file(&machine, &name)).expect("it was there");
    assert!(!should_run(&machine, &name).await);
    machine.thv(["stop", &name]).await.ok();
    machine.assert_nothing_lives(&[port]);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    fs::remove_file(status_file(&machine, &name)).expect("it was there");
    machine.thv(["reconcile"]).await.ok();
    machine.assert_nothing_lives(&[port]);
    starts_where_it_was(&machine, &name, port).await;
    machine.thv(["rm", &name]).await.ok();
    assert_eq!(machine.workloads().await, []);
}

#[tokio::test]
async fn a_start_after_toolhive_stopped_only_the_file_is_the_last_word() {
    let machine = Machine::new();
    let name = machine.name("half");
    let port = run_echo(&machine, &name).await.port;
    for gone in [true, false] {
        let before = proxy_pid(&machine, &name).await;
        if gone {
            fs::remove_file(status_file(&machine, &name)).expect("it was there");
        } else {
            toolhive_writes(&machine, &name, "stopped", 0);
        }
        assert!(!should_run(&machine, &name).await);
        starts_where_it_was(&machine, &name, port).await;
        assert_ne!(proxy_pid(&machine, &name).await, before, "that one was to end");
    }
    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[port]);
}

#[tokio::test]
async fn running_with_a_pid_that_is_not_its_proxy_is_ignored() {
    let machine = Machine::new();
    let name = machine.name("bogus");
    let port = run_echo(&machine, &name).await.port;
    // While ours runs: it still does, and is stopped as ever.
    toolhive_writes(&machine, &name, "running", std::process::id());
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Running);
    answers(&machine.workload(&name).await).await;
    machine.thv(["stop", &name]).await.ok();
    machine.assert_nothing_lives(&[port]);
    // While nothing runs: nothing does.
    toolhive_writes(&machine, &name, "running", std::process::id());
    assert_ne!(machine.workload(&name).await.status, WorkloadStatus::Running);
    assert!(
        !should_run(&machine, &name).await,
        "it was stopped, and this is no proof of a start"
    );
    machine.thv(["reconcile"]).await.ok();
    machine.assert_nothing_lives(&[port]);
    starts_where_it_was(&machine, &name, port).await;
}

/// A reboot, or a kill of its proxy: `reconcile` brings back what it started, though we had stopped it before.
#[tokio::test]
async fn what_toolhive_started_after_our_stop_is_brought_back_when_its_process_is_gone() {
    let machine = Machine::new();
    let name = machine.name("back");
    let port = run_echo(&machine, &name).await.port;
    machine.thv(["stop", &name]).await.ok();
    let mut gone = std::process::Command::new("true").spawn().expect("true runs");
    let pid = gone.id();
    gone.wait().expect("it is a child");
    toolhive_writes(&machine, &name, "running", pid);
    assert!(should_run(&machine, &name).await);
    let done = machine.thv(["reconcile"]).await.ok();
    done.says([&*format!("{name}: started")]);
    starts_where_it_was(&machine, &name, port).await;
    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[port]);
}

#[tokio::test]
async fn unhealthy_is_ignored_while_both_are_alive() {
    let machine = Machine::new();
    let name = machine.name("healthy");
    let port = run_echo(&machine, &name).await.port;
    let pid = proxy_pid(&machine, &name).await;
    // ToolHive writes it into each workload of a runtime that it does not know, whenever it lists.
    toolhive_writes(&machine, &name, "unhealthy", pid);
    let workload = machine.workload(&name).await;
    assert_eq!(workload.status, WorkloadStatus::Running, "{workload:?}");
    assert!(should_run(&machine, &name).await);
    answers(&workload).await;
    machine.thv(["start", &name]).await.ok();
    assert_eq!(proxy_pid(&machine, &name).await, pid, "it runs already");
    // Not while one of them is dead.
    kill_9(pid);
    toolhive_writes(&machine, &name, "unhealthy", pid);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Unhealthy);
    starts_where_it_was(&machine, &name, port).await;
}

#[tokio::test]
async fn a_proxy_that_is_proved_to_be_toolhives_is_believed_and_stopped() {
    let machine = Machine::new();
    let name = machine.name("proved");
    let port = run_echo(&machine, &name).await.port;
    machine.thv(["stop", &name]).await.ok();
    // `<program> start <name>` with TOOLHIVE_DETACHED=1, of the same user, named by the status file.
    fs::write(machine.folder().join("start"), "while :; do sleep 0.05; done\n").expect("written");
    let mut proxy = machine.program("sh");
    proxy
        .args(["start", &name])
        .current_dir(machine.folder())
        .env("TOOLHIVE_DETACHED", "1");
    let mut proxy = proxy.spawn().expect("a shell");
    let pid = proxy.id().expect("it runs");
    toolhive_writes(&machine, &name, "running", pid);

    machine.thv(["start", &name]).await.ok().says(["already"]);
    machine.thv(["stop", &name]).await.ok();
    let ended = tokio::time::timeout(WAIT, proxy.wait()).await;
    ended.expect("it was signalled").expect("it is a child");
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    starts_where_it_was(&machine, &name, port).await;
}

#[tokio::test]
async fn what_ran_under_a_name_that_toolhive_gave_to_a_remote_server_goes_with_it() {
    let machine = Machine::new();
    let name = machine.name("reused");
    let port = run_echo(&machine, &name).await.port;
    machine.thv(["stop", &name]).await.ok();
    // Its `rm`, which knows nothing of local instances, and its `run` of a URL.
    let config = json!({
        "schema_version": "v0.1.0", "remote_url": "http://127.0.0.1:9/mcp", "name": name, "container_name": name,
        "base_name": name, "transport": "streamable-http", "host": "127.0.0.1", "port": port,
        "permission_profile": null, "group": "default",
    });
    let text = serde_json::to_string_pretty(&config).expect("JSON");
    fs::write(machine.dirs().runconfigs().join(format!("{name}.json")), text).expect("written");
    toolhive_writes(&machine, &name, "stopped", 0);
    assert!(machine.workload(&name).await.remote);
    machine.thv(["rm", &name]).await.ok();
    assert_eq!(machine.workloads().await, []);
    drill::assert_no_files_of(&machine, &name);
}

/// Asks the engine itself; what ToolHive did goes past our adapter.
fn engine(docker: &Docker, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let socket = docker.host();
    let socket = socket.strip_prefix("unix://").expect("a socket of this host");
    let mut stream = UnixStream::connect(socket).expect("the engine is there");
    let body = body.to_string();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json");
    let request = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (
        status.expect("a status"),
        serde_json::from_str(body).unwrap_or(Value::Null),
    )
}

/// A container that carries no owner's id, so that no machine cleans it up.
struct Container<'a> {
    docker: &'a Docker,
    name: String,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let path = format!("/containers/{}?force=1", self.name);
        engine(self.docker, "DELETE", &path, &Value::Null);
    }
}

/// The container, files and lock of a workload that ToolHive ran, and whose proxy is dead; its ports are `held`, that of the
/// proxy and that of the server.
fn left_behind<'a>(
    machine: &Machine,
    docker: &'a Docker,
    name: &str,
    transport: &str,
    held: &[HeldPort; 2],
) -> Container<'a> {
    let [port, target] = held.each_ref().map(HeldPort::number);
    let stdio = transport == "stdio";
    let labels = json!({
        "toolhive": "true", "toolhive-basename": name, "toolhive-name": name, "toolhive-port": port.to_string(),
        "toolhive-transport": transport, "toolhive-network-isolation": "false",
    });
    let exposed = format!("{target}/tcp");
    let (exposes, bindings, env) = if stdio {
        (json!({}), json!({}), json!(["MCP_TRANSPORT=stdio"]))
    } else {
        let bound = json!({ &exposed: [{ "HostIp": "127.0.0.1", "HostPort": target.to_string() }] });
        let env = json!([
            format!("MCP_TRANSPORT={transport}"),
            format!("MCP_PORT={target}"),
            format!("FASTMCP_PORT={target}"),
            "MCP_HOST=0.0.0.0",
        ]);
        (json!({ &exposed: {} }), bound, env)
    };
    let container = json!({
        "Image": docker.image(), "Env": env, "Labels": labels, "ExposedPorts": exposes,
        "AttachStdin": stdio, "AttachStdout": stdio, "AttachStderr": stdio, "OpenStdin": stdio,
        "HostConfig": {
            "CapDrop": ["ALL"], "SecurityOpt": ["label:disable"], "PortBindings": bindings,
            "RestartPolicy": { "Name": "unless-stopped" },
        },
    });
    let created = engine(
        docker,
        "POST",
        &format!("/containers/create?name={name}"),
        &container,
    );
    assert_eq!(created.0, 201, "{created:?}");
    let container = Container {
        docker,
        name: name.to_owned(),
    };
    let started = engine(docker, "POST", &format!("/containers/{name}/start"), &Value::Null);
    assert_eq!(started.0, 204, "{started:?}");

    let mut config = json!({
        "schema_version": "v0.1.0", "image": docker.image(), "name": name, "container_name": name, "base_name": name,
        "transport": transport, "host": "127.0.0.1", "port": port, "target_host": "127.0.0.1",
        "permission_profile": {
            "name": "network", "network": { "outbound": { "insecure_allow_all": true }, "inbound": {} }
        },
        "env_vars": { "MCP_TRANSPORT": transport }, "container_labels": labels, "isolate_network": false,
        "proxy_mode": "streamable-http", "group": "default",
        "middleware_configs": [{ "type": "auth", "parameters": {} }, { "type": "mcp-parser", "parameters": {} }],
    });
    if !stdio {
        config["target_port"] = json!(target);
    }
    fs::create_dir_all(machine.dirs().runconfigs()).expect("a folder");
    let text = serde_json::to_string_pretty(&config).expect("JSON");
    fs::write(machine.dirs().runconfigs().join(format!("{name}.json")), text).expect("written");
    // A process that is long gone, as its proxy is.
    toolhive_writes(machine, name, "running", 999_999_999);
    fs::write(machine.dirs().statuses().join(format!("{name}.lock")), "").expect("written");
    container
}

/// Another test's container may be listed too: it carries no owner's id, as ToolHive's do not.
async fn is_listed(machine: &Machine, name: &str) -> bool {
    machine
        .workloads()
        .await
        .iter()
        .any(|workload| workload.name == name)
}

async fn goes_on_with_us(docker: &Docker, transport: &str) {
    let machine = Machine::with_docker(docker);
    let name = machine.name("theirs");
    let held = [HeldPort::new(), HeldPort::new()];
    let port = held[0].number();
    let _container = left_behind(&machine, docker, &name, transport, &held);

    let found = machine.workload(&name).await;
    assert_eq!(
        (found.port, found.status),
        (port, WorkloadStatus::Unhealthy),
        "{found:?}"
    );
    assert!(found.status_context.contains("proxy"), "{found:?}");
    assert!(
        !machine.dirs().lifecycle().exists(),
        "nothing is adopted by looking"
    );

    machine.thv(["stop", &name]).await.ok();
    let stopped = docker.instance(&name).await.expect("it is kept");
    assert_eq!(stopped.state, thv::runtime::InstanceState::Stopped);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);

    starts_where_it_was(&machine, &name, port).await;
    let (_, inspected) = engine(docker, "GET", &format!("/containers/{name}/json"), &Value::Null);
    let policy = &inspected["HostConfig"]["RestartPolicy"]["Name"];
    assert_eq!(*policy, "no", "there is one authority that restarts");

    machine.thv(["rm", &name]).await.ok();
    assert!(docker.instance(&name).await.is_none());
    assert!(!is_listed(&machine, &name).await);
    machine.assert_nothing_lives(&[port]);
    drill::assert_no_files_of(&machine, &name);
}

#[tokio::test]
async fn what_toolhive_left_behind_is_listed_stopped_started_and_removed() {
    let Some(docker) = docker().await else { return };
    for transport in ["stdio", "streamable-http"] {
        goes_on_with_us(&docker, transport).await;
    }
}

#[tokio::test]
async fn what_toolhive_left_running_is_started_and_removed_at_once() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let [started, removed] = ["started", "removed"].map(|stem| machine.name(stem));
    let held = || [HeldPort::new(), HeldPort::new()];
    let (one, other) = (held(), held());
    let _one = left_behind(&machine, &docker, &started, "stdio", &one);
    let _other = left_behind(&machine, &docker, &removed, "stdio", &other);
    starts_where_it_was(&machine, &started, one[0].number()).await;
    machine.thv(["rm", &started, &removed]).await.ok();
    for name in [&started, &removed] {
        assert!(docker.instance(name).await.is_none());
        assert!(!is_listed(&machine, name).await);
    }
}
