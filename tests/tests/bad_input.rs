//! What bad input gets: an error that says what is wrong, and nothing is touched.

use std::path::Path;

use serde_json::{Value, json};
use thv::core::WorkloadStatus;
use thv_tests::{Client, Machine, Response, echo_server, exchange, post, request};

fn echo() -> String {
    format!("exec://{}", echo_server().display())
}

/// No workload, no process, and no file of one.
async fn assert_untouched(machine: &Machine) {
    assert_eq!(machine.workloads().await, []);
    machine.assert_nothing_lives(&[]);
    let dirs = machine.dirs();
    for folder in [
        dirs.runconfigs(),
        dirs.statuses(),
        dirs.pids(),
        dirs.lifecycle().join("instances"),
        dirs.lifecycle().join("logs"),
    ] {
        let left: Vec<_> = std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|it| it.path())
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

#[tokio::test]
async fn a_name_that_could_be_a_path_or_a_flag_is_refused() {
    let machine = Machine::new();
    let long = "a".repeat(101);
    for (name, rule) in [
        ("../x", "only letters"),
        ("a/b", "only letters"),
        ("a b", "only letters"),
        ("ä", "only letters"),
        ("-x", "start with"),
        (".x", "start with"),
        ("a..b", ".."),
        ("a.json", ".json"),
        ("a.lock", ".lock"),
        ("", "at least one"),
        (long.as_str(), "at most 100"),
    ] {
        let flag = format!("--name={name}");
        machine
            .thv(["run", &echo(), &flag])
            .await
            .failed()
            .says(["invalid workload name", rule]);
        for verb in ["status", "logs", "stop", "start", "rm"] {
            machine
                .thv([verb, "--", name])
                .await
                .failed()
                .says(["invalid workload name", rule]);
        }
    }
    assert_untouched(&machine).await;
}

#[tokio::test]
async fn an_unknown_name_is_not_found() {
    let machine = Machine::new();
    let export = machine.folder().join("export.json");
    let export = export.to_str().expect("a temporary folder has a plain name");
    for command in [
        &["status", "nobody"][..],
        &["start", "nobody"],
        &["restart", "nobody"],
        &["logs", "nobody"],
        &["export", "nobody", export],
    ] {
        machine
            .thv(command)
            .await
            .failed()
            .says([r#"workload "nobody" not found"#]);
    }
    machine.thv(["rm", "nobody"]).await.ok();
    machine
        .thv(["stop", "nobody"])
        .await
        .ok()
        .says([r#"Warning: workload "nobody" not found"#]);
    assert!(!Path::new(export).exists());
    assert_untouched(&machine).await;
}

#[tokio::test]
async fn a_busy_port_is_named_with_its_holder() {
    let machine = Machine::new();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let holder = format!("process {}", std::process::id());
    machine
        .thv(["run", &echo(), "--proxy-port", &port])
        .await
        .failed()
        .says([port.as_str(), &holder]);
    assert_untouched(&machine).await;

    // A workload of ours is a holder like any other.
    let (first, second) = (machine.name("first"), machine.name("second"));
    machine
        .thv([
            "run",
            "--wait=1m",
            &echo(),
            "--name",
            &first,
            "--transport",
            "stdio",
        ])
        .await
        .ok();
    let port = machine.workload(&first).await.port.to_string();
    let run = [
        "run",
        &echo(),
        "--name",
        &second,
        "--transport",
        "stdio",
        "--proxy-port",
        &port,
    ];
    machine.thv(run).await.failed().says([port.as_str(), "held by"]);
    assert_eq!(machine.find(&second).await, None);
    assert_eq!(machine.workload(&first).await.status, WorkloadStatus::Running);
}

#[tokio::test]
async fn an_engine_that_is_away_is_said_with_what_was_tried() {
    let machine = Machine::new();
    let socket = machine.folder().join("no-engine.sock");
    let socket = socket.to_str().expect("a temporary folder has a plain name");
    for command in [&["run", "mcp/time:1"][..], &["runtime", "check"]] {
        machine
            .thv(command)
            .await
            .failed()
            .says([socket, "start the engine", "DOCKER_HOST"]);
    }
    assert_untouched(&machine).await;
}

#[tokio::test]
async fn a_flag_without_effect_is_refused_by_name() {
    let machine = Machine::new();
    for flag in [
        "--audit-config=x",
        "--enable-audit",
        "--otel-endpoint=localhost:4317",
        "--oidc-issuer=https://example.com",
    ] {
        let name = flag.split('=').next().unwrap_or(flag);
        machine
            .thv(["run", &echo(), flag])
            .await
            .failed()
            .says([name, "not built yet"]);
    }
    machine
        .thv(["run", &echo(), "--group", "nobodys"])
        .await
        .failed()
        .says(["group", "nobodys"]);
    machine
        .thv(["run", &echo(), "--isolate-network"])
        .await
        .failed()
        .says(["isolat"]);
    machine
        .thv(["run", &echo(), "--no-such-flag"])
        .await
        .failed()
        .says(["--no-such-flag"]);
    assert_untouched(&machine).await;
}

#[tokio::test]
async fn a_configuration_that_asks_for_what_is_not_built_is_refused_by_key() {
    let machine = Machine::new();
    let data =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/thv-core/tests/data/http-container.json");
    let data = data.to_str().expect("a checkout has a plain path");
    machine
        .thv(["run", "--from-config", data])
        .await
        .failed()
        .says(["audit_config", "audit"]);
    assert_untouched(&machine).await;
}

#[tokio::test]
async fn a_configuration_that_is_not_one_is_refused() {
    let machine = Machine::new();
    let file = machine.folder().join("config.json");
    let path = file.to_str().expect("a temporary folder has a plain name");
    machine
        .thv(["run", "--from-config", path])
        .await
        .failed()
        .says([path]);
    let named = |name: &str| {
        json!({ "schema_version": "v0.1.0", "image": echo(), "name": name, "transport": "stdio" }).to_string()
    };
    for (text, message) in [
        (String::new(), "unexpected end"),
        ("[]".to_owned(), "expected an object, found an array"),
        ("{".to_owned(), "line 1, column 2: expected a key"),
        (
            r#"{ "image": 7 }"#.to_owned(),
            "image: expected a string, found a number",
        ),
        (
            r#"{ "image": "a", "transport": "pigeon" }"#.to_owned(),
            "unknown transport \"pigeon\"",
        ),
        (
            named("../x"),
            "invalid workload name \"../x\": a name has only letters",
        ),
        (
            named("a\0b"),
            "invalid workload name \"a\\0b\": a name has only letters",
        ),
        ("[".repeat(100_000), "nested too deeply"),
    ] {
        std::fs::write(&file, &text).expect("a temporary file");
        let output = machine.thv(["run", "--from-config", path]).await.failed();
        output.says(["Error:", message]);
    }
    assert_untouched(&machine).await;
}

/// The message of a JSON-RPC error with this code.
#[track_caller]
fn rpc_error(response: &Response, status: u16, code: i64) -> Value {
    assert_eq!(response.status, status, "{}", response.text());
    let answer = response.json();
    assert_eq!(answer["error"]["code"], code, "{answer}");
    answer
}

/// A workload, its port, and a client that was there before.
async fn target(machine: &Machine, transport: &str) -> (String, u16, Client) {
    let name = machine.name("hostile");
    machine
        .thv([
            "run",
            "--wait=1m",
            &echo(),
            "--name",
            &name,
            "--transport",
            transport,
        ])
        .await
        .ok();
    let workload = machine.workload(&name).await;
    (name, workload.port, Client::connect(&workload.url).await)
}

fn call() -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string()
}

#[tokio::test]
async fn hostile_requests_get_an_error_and_the_server_lives_on() {
    let machine = Machine::new();
    for transport in ["stdio", "streamable-http"] {
        let (name, port, client) = target(&machine, transport).await;
        let before = client.call("whoami", json!({})).await;

        let wrong = [
            "{",
            "",
            "null",
            "\"a\"",
            "{\"jsonrpc\":\"2.0\"}",
            "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"a\"}",
        ];
        for body in wrong {
            let response = post(port, &[], body).await;
            assert_eq!(response.status, 400, "{body:?}: {}", response.text());
        }
        assert_eq!(
            post(
                port,
                &[],
                b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\xfe\"}"
            )
            .await
            .status,
            400
        );
        assert_eq!(post(port, &[], "[".repeat(200_000)).await.status, 400);
        rpc_error(&post(port, &[], format!("[{}]", call())).await, 400, -32600);
        for session in ["7f6b1b1e-7f5f-4c58-9d10-6a1f4a7a1d01", "../../etc/passwd"] {
            assert_eq!(
                post(port, &[("mcp-session-id", session)], call()).await.status,
                404
            );
        }
        let unknown = post(port, &[("mcp-protocol-version", "1999-01-01")], call()).await;
        assert_eq!(unknown.status, 400, "{}", unknown.text());

        // A page of another site, and a name of it that suddenly means this host.
        rpc_error(
            &post(port, &[("origin", "https://evil.example")], call()).await,
            403,
            -32600,
        );
        rpc_error(
            &post(port, &[("host", "evil.example")], call()).await,
            403,
            -32600,
        );

        assert_eq!(request(port, "PUT", "/mcp", &[], "").await.status, 405);
        assert_eq!(exchange(port, b"GET / HTTP/9.9\r\n\r\n").await.status, 400);

        let line = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"{}"}}"#,
            "x".repeat(64 << 20)
        );
        assert_eq!(post(port, &[], line).await.status, 413);

        assert_eq!(
            client.call("whoami", json!({})).await,
            before,
            "the same process, and it answers"
        );
        client.close().await;
        assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Running);
    }
}

#[tokio::test]
async fn before_a_stdio_server_the_proxy_says_what_http_servers_say_themselves() {
    let machine = Machine::new();
    let (_, port, client) = target(&machine, "stdio").await;
    let unknown = [("mcp-session-id", "7f6b1b1e-7f5f-4c58-9d10-6a1f4a7a1d01")];
    let answer = rpc_error(&post(port, &unknown, call()).await, 404, -32001);
    assert_eq!(answer["id"], 1, "{answer}");
    assert_eq!(
        post(port, &[("content-type", "text/plain")], call()).await.status,
        415
    );
    assert_eq!(
        request(port, "GET", "/mcp", &[("accept", "text/event-stream")], "")
            .await
            .status,
        400
    );
    assert_eq!(request(port, "DELETE", "/mcp", &unknown, "").await.status, 404);
    client.ping().await;
    client.close().await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_an_error_to_its_caller_alone() {
    let machine = Machine::new();
    let name = machine.name("large");
    machine
        .thv([
            "run",
            "--wait=1m",
            &echo(),
            "--name",
            &name,
            "--transport",
            "stdio",
        ])
        .await
        .ok();
    let client = Client::connect(&machine.workload(&name).await.url).await;
    let before = client.call("whoami", json!({})).await;
    let large = client.try_call("big", json!({ "bytes": 64 << 20 })).await;
    assert!(large.is_err(), "64 MiB came through");
    assert_eq!(
        client.call("whoami", json!({})).await,
        before,
        "the same process, and it answers"
    );
    client.close().await;
}

#[tokio::test]
async fn a_server_that_writes_garbage_between_its_answers_is_understood() {
    let machine = Machine::new();
    let name = machine.name("garbage");
    machine
        .thv([
            "run",
            "--wait=1m",
            &echo(),
            "--name",
            &name,
            "--transport",
            "stdio",
            "--",
            "--garbage",
        ])
        .await
        .ok();
    let client = Client::connect(&machine.workload(&name).await.url).await;
    assert_eq!(client.call("echo", json!({ "text": "hello" })).await, "hello");
    client.close().await;
}
