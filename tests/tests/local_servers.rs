//! Programs of this host as workloads, without an engine.

mod drill;

use std::path::Path;

use serde_json::{Value, json};
use thv::core::WorkloadStatus;
use thv_tests::{Client, Machine, SseSession, echo_server, node, python};

fn exec(program: &Path) -> String {
    format!("exec://{}", program.display())
}

/// Runs a server and calls a tool, reads its log, stops it, starts it where it was, calls again, and removes it.
async fn lives_its_whole_life(server: &str, args: &[&str], tool: &str, arguments: Value, expected: &str) {
    let machine = Machine::new();
    let name = machine.name("life");
    let run = [
        "run",
        server,
        "--name",
        &name,
        "--transport",
        "stdio",
        "--wait=1m",
        "--",
    ];
    machine.thv(run.iter().chain(args)).await.ok();

    let workload = machine.workload(&name).await;
    assert_eq!(workload.status, WorkloadStatus::Running, "{workload:?}");
    assert_eq!(workload.url, format!("http://127.0.0.1:{}/mcp", workload.port));
    let client = Client::connect(&workload.url).await;
    assert!(
        client.tools().await.iter().any(|known| known == tool),
        "no tool {tool}"
    );
    let answer = client.call(tool, arguments.clone()).await;
    assert!(answer.contains(expected), "{answer}");
    client.close().await;
    machine.thv(["logs", &name]).await.ok();
    let proxy_log = machine.thv(["logs", &name, "--proxy"]).await.ok();
    assert!(proxy_log.stdout.contains("ready"), "{proxy_log}");

    machine.thv(["stop", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Stopped);
    let listed = machine.thv(["list", "--format", "json"]).await.ok();
    assert_eq!(listed.json(), json!([]), "what is stopped is for list --all");

    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    let again = machine.workload(&name).await;
    assert_eq!(
        (again.status, again.port),
        (WorkloadStatus::Running, workload.port)
    );
    let client = Client::connect(&again.url).await;
    assert!(client.call(tool, arguments).await.contains(expected));
    client.close().await;

    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
    assert_eq!(machine.workloads().await, []);
}

#[tokio::test]
async fn the_echo_server_lives_its_whole_life() {
    let text = json!({ "text": "hello" });
    lives_its_whole_life(&exec(echo_server()), &[], "echo", text, "hello").await;
}

#[tokio::test]
async fn a_python_server_lives_its_whole_life() {
    let Some(python) = python() else { return };
    let server = exec(&python.join("bin/mcp-server-time"));
    let zone = json!({ "timezone": "Europe/Berlin" });
    let args = ["--local-timezone", "UTC"];
    lives_its_whole_life(&server, &args, "get_current_time", zone, "Europe/Berlin").await;
}

#[tokio::test]
async fn a_node_server_lives_its_whole_life() {
    let Some(node) = node() else { return };
    let server = exec(&node.join("node_modules/.bin/mcp-server-everything"));
    let message = json!({ "message": "hello" });
    lives_its_whole_life(&server, &["stdio"], "echo", message, "Echo: hello").await;
}

#[tokio::test]
async fn a_streamable_http_server_is_told_its_port_and_proxied() {
    let machine = Machine::new();
    let name = machine.name("http");
    machine
        .thv([
            "run",
            "--wait=1m",
            &exec(echo_server()),
            "--name",
            &name,
            "--transport",
            "streamable-http",
        ])
        .await
        .ok();
    let workload = machine.workload(&name).await;
    let client = Client::connect(&workload.url).await;
    let port = client.call("env", json!({ "name": "MCP_PORT" })).await;
    assert_ne!(port, workload.port.to_string(), "the proxy has a port of its own");
    assert_eq!(client.call("echo", json!({ "text": "ü€😀" })).await, "ü€😀");
    let second = Client::connect(&workload.url).await;
    let tasks = format!("/proc/{}/task", drill::proxy_pid(&machine, &name).await);
    let threads: Vec<_> = std::fs::read_dir(tasks)
        .unwrap()
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap())
        .collect();
    let processors = std::thread::available_parallelism().unwrap().get();
    assert_eq!(
        threads.contains(&"proxy-1\n".to_owned()),
        processors > 1,
        "{threads:?} on {processors} processors"
    );
    second.close().await;
    client.close().await;

    machine.thv(["stop", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port, port.parse().expect("a port")]);
    machine.thv(["start", "--wait=1m", &name]).await.ok();
    let client = Client::connect(&workload.url).await;
    assert_eq!(client.call("add", json!({ "a": 1, "b": 2 })).await, "3");
    client.close().await;
    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
}

#[tokio::test]
async fn an_sse_server_is_proxied_and_so_is_a_stdio_server_as_sse() {
    let machine = Machine::new();
    let (sse, stdio) = (machine.name("sse"), machine.name("stdio"));
    machine
        .thv([
            "run",
            "--wait=1m",
            &exec(echo_server()),
            "--name",
            &sse,
            "--transport",
            "sse",
        ])
        .await
        .ok();
    let as_sse = ["--transport", "stdio", "--proxy-mode", "sse"];
    machine
        .thv(
            ["run", "--wait=1m", &exec(echo_server()), "--name", &stdio]
                .iter()
                .copied()
                .chain(as_sse),
        )
        .await
        .ok();
    for name in [&sse, &stdio] {
        let workload = machine.workload(name).await;
        assert_eq!(
            workload.url,
            format!("http://127.0.0.1:{}/sse#{name}", workload.port)
        );
        let mut session = SseSession::open(workload.port).await;
        let hello = json!({ "jsonrpc": "2.0", "id": "a", "method": "initialize", "params": {
            "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
        assert!(session.ask(&hello).await["result"]["serverInfo"].is_object());
        session
            .post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
            .await;
        let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": { "name": "echo", "arguments": { "text": "over SSE" } } });
        assert_eq!(
            session.ask(&call).await["result"]["content"][0]["text"],
            "over SSE",
            "{name}"
        );
    }
    machine.thv(["rm", &sse, &stdio]).await.ok();
    machine.assert_nothing_lives(&[]);
}

#[tokio::test]
async fn a_program_that_ends_at_once_fails_run_with_its_last_words() {
    let machine = Machine::new();
    for transport in ["stdio", "streamable-http"] {
        let name = machine.name("exits");
        let run = [
            "run",
            "--wait=1m",
            &exec(echo_server()),
            "--name",
            &name,
            "--transport",
            transport,
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
        let log = machine.thv(["logs", &name]).await.ok();
        assert!(log.stdout.contains("the key is missing"), "{log}");
        machine.assert_nothing_lives(&[workload.port]);
        // It was never ready: a better attempt may take its place.
        machine
            .thv([
                "run",
                "--wait=1m",
                &exec(echo_server()),
                "--name",
                &name,
                "--transport",
                transport,
            ])
            .await
            .ok();
        assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Running);
        machine.thv(["rm", &name]).await.ok();
    }
}

#[tokio::test]
async fn a_program_that_does_not_exist_fails_run() {
    let machine = Machine::new();
    let name = machine.name("absent");
    let missing = machine.folder().join("no-such-program");
    machine
        .thv(["run", "--wait=1m", &exec(&missing), "--name", &name])
        .await
        .failed()
        .says(["no-such-program"]);
    let workload = machine.workload(&name).await;
    assert_eq!(workload.status, WorkloadStatus::Error);
    assert!(
        workload.status_context.contains("no-such-program"),
        "{workload:?}"
    );
    machine.assert_nothing_lives(&[workload.port]);
    machine.thv(["rm", &name]).await.ok();
    assert_eq!(machine.workloads().await, []);
}

#[tokio::test]
async fn a_package_runs_on_the_host_only_when_that_is_said() {
    let machine = Machine::new();
    for server in [
        "npx://@modelcontextprotocol/server-everything",
        "uvx://mcp-server-time",
    ] {
        machine
            .thv(["run", server])
            .await
            .failed()
            .says(["--runtime local", "without a container"]);
    }
    assert_eq!(machine.workloads().await, [], "nothing was kept");
}

/// A stand-in for a package runner: it notes how it was called, and is the echo server.
fn stand_in(folder: &Path, name: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    let script = format!(
        "#!/bin/sh\necho \"$@\" > {}.called\nexec {}\n",
        path.display(),
        echo_server().display()
    );
    std::fs::write(&path, script).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
}

#[tokio::test]
async fn a_package_is_run_by_its_runner_when_that_is_said() {
    let mut machine = Machine::new();
    let folder = machine.folder().join("runners");
    std::fs::create_dir(&folder).expect("a folder");
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let paths = [folder.clone()]
        .into_iter()
        .chain(std::env::split_paths(&inherited));
    machine.set("PATH", std::env::join_paths(paths).expect("a path"));
    for (runner, package, called) in [
        (
            "npx",
            "npx://@scope/a-server@1.2",
            "-y @scope/a-server@1.2 --flag",
        ),
        ("uvx", "uvx://a-server", "a-server --flag"),
    ] {
        stand_in(&folder, runner);
        let name = machine.name(runner);
        let run = [
            "run",
            package,
            "--name",
            &name,
            "--runtime",
            "local",
            "--transport",
            "stdio",
        ];
        machine
            .thv(run.iter().chain(&["--wait=1m", "--", "--flag"]))
            .await
            .ok();
        let noted = std::fs::read_to_string(folder.join(format!("{runner}.called")));
        assert_eq!(noted.expect("it was called").trim(), called);
        let workload = machine.workload(&name).await;
        assert_eq!(workload.package, package);
        let client = Client::connect(&workload.url).await;
        assert_eq!(client.call("echo", json!({ "text": "hello" })).await, "hello");
        client.close().await;
        // Started again it is found again.
        machine.thv(["restart", &name, "--wait=1m"]).await.ok();
        machine.thv(["rm", &name]).await.ok();
        machine.assert_nothing_lives(&[workload.port]);
    }
}

#[tokio::test]
async fn a_package_is_run_by_the_real_npx() {
    let Some(_) = node() else { return };
    let machine = Machine::new();
    let name = machine.name("npx");
    // What the preparation of tests has fetched is not fetched again.
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = format!("npm_config_cache={home}/.npm");
    let run = [
        "run",
        "npx://@modelcontextprotocol/server-everything",
        "--name",
        &name,
        "--runtime",
        "local",
        "--transport",
        "stdio",
        "--env",
        &cache,
        "--env",
        "npm_config_prefer_offline=true",
        "--wait=100s",
        "--",
        "stdio",
    ];
    machine.thv(run).await.ok();
    let workload = machine.workload(&name).await;
    let client = Client::connect(&workload.url).await;
    let answer = client.call("echo", json!({ "message": "hello" })).await;
    assert_eq!(answer, "Echo: hello");
    client.close().await;
    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[workload.port]);
}

#[tokio::test]
async fn a_package_whose_runner_is_not_there_is_said() {
    let mut machine = Machine::new();
    machine.set("PATH", machine.dirs().home.clone());
    for (runner, package) in [("npx", "npx://a-server"), ("uvx", "uvx://a-server")] {
        let name = machine.name(runner);
        machine
            .thv(["run", "--wait=1m", package, "--name", &name, "--runtime", "local"])
            .await
            .failed()
            .says([runner]);
        machine.assert_nothing_lives(&[]);
    }
}

#[tokio::test]
async fn the_environment_of_a_server_is_a_base_and_what_was_given() {
    let mut machine = Machine::new();
    machine.set("OF_THE_USER", "private");
    let name = machine.name("env");
    let run = [
        "run",
        "--wait=1m",
        &exec(echo_server()),
        "--name",
        &name,
        "--transport",
        "stdio",
        "--env",
        "GIVEN=a=b c",
    ];
    machine.thv(run).await.ok();
    let client = Client::connect(&machine.workload(&name).await.url).await;
    assert_eq!(client.call("env", json!({ "name": "GIVEN" })).await, "a=b c");
    let home = client.call("env", json!({ "name": "HOME" })).await;
    assert_ne!(Path::new(&home), machine.dirs().home, "a private one");
    let private = client.try_call("env", json!({ "name": "OF_THE_USER" })).await;
    assert!(private.is_err(), "{private:?}");
    client.close().await;
}
