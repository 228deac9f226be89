//! What the proxy is told by flags of `run`.

use serde_json::json;
use thv_tests::{Client, Machine, echo_server, post, request};

async fn run(machine: &Machine, name: &str, flags: &[&str]) -> String {
    let server = format!("exec://{}", echo_server().display());
    let args = ["run", "--wait=1m", &server, "--name", name];
    machine.thv(args.iter().chain(flags)).await.ok();
    machine.workload(name).await.url
}

#[tokio::test]
async fn clients_see_the_tools_that_were_chosen_under_the_names_that_were_given() {
    let machine = Machine::new();
    let file = machine.folder().join("overrides.json");
    let overrides =
        json!({ "toolsOverride": { "echo": { "name": "repeat", "description": "Says it again" } } });
    std::fs::write(&file, overrides.to_string()).expect("writable");
    let file = file.to_str().expect("a temporary folder has a plain name");
    for transport in ["stdio", "streamable-http"] {
        let name = machine.name("tools");
        let flags = ["--transport", transport, "--tools", "repeat", "--tools", "whoami"];
        let url = run(
            &machine,
            &name,
            &[&flags[..], &["--tools-override", file]].concat(),
        )
        .await;
        let client = Client::connect(&url).await;
        let mut tools = client.tools().await;
        tools.sort();
        assert_eq!(tools, ["repeat", "whoami"], "{transport}");
        assert_eq!(client.call("repeat", json!({ "text": "hi" })).await, "hi");
        for hidden in ["echo", "slow"] {
            let refused = client.try_call(hidden, json!({ "text": "hi", "ms": 1 })).await;
            assert!(
                refused.is_err_and(|why| why.contains("tool not found")),
                "{hidden}"
            );
        }
        client.close().await;
    }
}

#[tokio::test]
async fn a_stateless_server_is_asked_by_post_alone_and_unknown_revisions_are_refused() {
    let machine = Machine::new();
    let name = machine.name("stateless");
    let flags = [
        "--transport",
        "streamable-http",
        "--stateless",
        "--strict-protocol-validation",
    ];
    run(&machine, &name, &flags).await;
    let port = machine.workload(&name).await.port;
    assert_eq!(request(port, "GET", "/mcp", &[], "").await.status, 405);
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let unknown = [("mcp-protocol-version", "2099-01-01")];
    assert_eq!(post(port, &unknown, ping).await.status, 400);
}
