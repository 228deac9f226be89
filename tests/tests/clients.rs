//! Clients nobody here wrote, through the proxy.

use std::path::Path;

use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult,
    ElicitationAction, Implementation, ProtocolVersion,
};
use rmcp::service::RequestContext;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, ErrorData, RoleClient};
use serde_json::json;
use thv_tests::{Client, Machine, Output, WAIT, echo_server, node, python};

async fn run_echo(machine: &Machine, name: &str, flags: &[&str]) -> String {
    let server = format!("exec://{}", echo_server().display());
    machine
        .thv(["run", "--wait=1m", &server, "--name", name].iter().chain(flags))
        .await
        .ok();
    machine.workload(name).await.url
}

async fn python_client(machine: &Machine, venv: &Path, args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/client.py");
    let mut command = machine.program(venv.join("bin/python"));
    command.arg(script).args(args);
    machine.finish(command).await
}

async fn typescript_client(machine: &Machine, folder: &Path, args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/client.mjs");
    let mut command = machine.program("node");
    command.arg(script).arg(folder).args(args);
    machine.finish(command).await
}

/// Two sessions whose calls overlap, then one that goes on after `thv restart`.
async fn rmcp_works_with(flags: &[&str]) {
    let machine = Machine::new();
    let name = machine.name("rmcp");
    let url = run_echo(&machine, &name, flags).await;
    let (first, second) = (Client::connect(&url).await, Client::connect(&url).await);
    assert!(first.server().contains("echo"), "{}", first.server());
    for client in [&first, &second] {
        assert!(client.tools().await.contains(&"slow".to_owned()));
        client.ping().await;
    }
    let slow = first.call("slow", json!({ "ms": 500 }));
    let quick = async {
        let mut answers = Vec::new();
        for i in 0..20 {
            answers.push(second.call("echo", json!({ "text": format!("{i}") })).await);
        }
        answers
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!(slow, "slept 500 ms");
    assert_eq!(quick, (0..20).map(|i| i.to_string()).collect::<Vec<_>>());
    let before = first.call("whoami", json!({})).await;
    assert_eq!(
        second.call("whoami", json!({})).await,
        before,
        "one server for all"
    );
    second.close().await;

    machine.thv(["restart", "--wait=1m", &name]).await.ok();
    assert_eq!(machine.workload(&name).await.url, url);
    let again = Client::connect(&url).await;
    assert_ne!(again.call("whoami", json!({})).await, before, "another process");
    assert_eq!(
        first.call("echo", json!({ "text": "still here" })).await,
        "still here",
        "an old session goes on"
    );
    again.close().await;
    first.close().await;
}

#[tokio::test]
async fn rmcp_speaks_with_a_stdio_server() {
    Box::pin(rmcp_works_with(&["--transport", "stdio"])).await;
}

#[tokio::test]
async fn rmcp_speaks_with_a_streamable_http_server() {
    Box::pin(rmcp_works_with(&["--transport", "streamable-http"])).await;
}

#[tokio::test]
async fn rmcp_speaks_the_revision_without_sessions_beside_an_older_one() {
    let machine = Machine::new();
    let url = run_echo(&machine, &machine.name("stateless"), &["--transport", "stdio"]).await;
    let (new, old) = (Client::connect_stateless(&url).await, Client::connect(&url).await);
    assert_eq!(new.revision(), "2026-07-28");
    assert_ne!(old.revision(), "2026-07-28");
    assert_eq!(new.server(), old.server());
    assert_eq!(new.tools().await, old.tools().await);
    let slow = old.call("slow", json!({ "ms": 300 }));
    let quick = async {
        for text in ["a", "b", "c"] {
            assert_eq!(new.call("echo", json!({ "text": text })).await, text);
        }
    };
    let (slow, ()) = tokio::join!(slow, quick);
    assert_eq!(slow, "slept 300 ms");
    new.close().await;
    old.close().await;
}

/// A client with somebody before it.
struct Attended;

impl ClientHandler for Attended {
    fn get_info(&self) -> ClientConfig {
        let able = json!({ "elicitation": {} });
        let able: ClientCapabilities = serde_json::from_value(able).expect("capabilities");
        ClientConfig::new(able, Implementation::new("attended", "1"))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "username": "ada" })))
    }
}

#[tokio::test]
async fn rmcp_without_a_session_answers_what_an_older_server_asks_during_its_call() {
    let machine = Machine::new();
    let name = machine.name("asks");
    let server = format!("exec://{}", env!("CARGO_BIN_EXE_conformance-server"));
    let run = [
        "run",
        "--wait=1m",
        &server,
        "--name",
        &name,
        "--transport",
        "stdio",
    ];
    machine.thv(run).await.ok();
    let transport = StreamableHttpClientTransport::from_uri(machine.workload(&name).await.url);
    let lifecycle = ClientLifecycleMode::Discover {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
    };
    let beginning = Box::pin(Attended.serve_with_lifecycle(transport, lifecycle));
    let client = tokio::time::timeout(WAIT, beginning)
        .await
        .expect("in time")
        .expect("server/discover");
    let mut call = CallToolRequestParams::new("test_elicitation");
    call.arguments = json!({ "message": "Who are you?" }).as_object().cloned();
    let calling = Box::pin(client.call_tool(call));
    let result = tokio::time::timeout(WAIT, calling)
        .await
        .expect("in time")
        .expect("an answer");
    let text = result.content[0].as_text().expect("text").text.as_str();
    assert!(
        text.contains(r#"action="accept", content={"username":"ada"}"#),
        "{text}"
    );
    client.cancel().await.expect("the client ends");
}

#[tokio::test]
async fn the_official_python_client_speaks_with_stdio_and_streamable_http_servers() {
    let Some(venv) = python() else { return };
    let machine = Machine::new();
    for transport in ["stdio", "streamable-http"] {
        let name = machine.name(transport);
        let url = run_echo(&machine, &name, &["--transport", transport]).await;
        let found = python_client(&machine, &venv, &[&url]).await.ok();
        assert!(
            found.stdout.contains("echo") && found.stdout.contains("negotiated"),
            "{found}"
        );
        let thv = thv_tests::thv().to_str().expect("a checkout has a plain path");
        let restart = ["--reconnect", &url, thv, "restart", &name, "--wait=1m"];
        let found = python_client(&machine, &venv, &restart).await.ok();
        assert!(found.stdout.contains("reconnected"), "{found}");
    }
}

#[tokio::test]
async fn the_official_typescript_client_speaks_with_stdio_and_streamable_http_servers() {
    let Some(node) = node() else { return };
    let machine = Machine::new();
    for transport in ["stdio", "streamable-http"] {
        let name = machine.name(transport);
        let url = run_echo(&machine, &name, &["--transport", transport]).await;
        let found = typescript_client(&machine, &node, &["streamable", &url])
            .await
            .ok();
        assert!(found.stdout.contains("echo"), "{found}");
    }
}

#[tokio::test]
async fn the_official_typescript_client_speaks_with_sse() {
    let Some(node) = node() else { return };
    let machine = Machine::new();
    let name = machine.name("sse");
    let url = run_echo(&machine, &name, &["--transport", "stdio", "--proxy-mode", "sse"]).await;
    let found = typescript_client(&machine, &node, &["sse", &url]).await.ok();
    assert!(found.stdout.contains("echo"), "{found}");
}

#[tokio::test]
async fn the_official_python_client_speaks_with_sse() {
    let Some(venv) = python() else { return };
    let machine = Machine::new();
    for flags in [
        ["--transport", "sse", "--host", "127.0.0.1"],
        ["--transport", "stdio", "--proxy-mode", "sse"],
    ] {
        let name = machine.name("sse");
        let url = run_echo(&machine, &name, &flags).await;
        let found = python_client(&machine, &venv, &["--sse", &url]).await.ok();
        assert!(found.stdout.contains("sse"), "{found}");
    }
}
