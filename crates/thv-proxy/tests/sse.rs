//! A stdio server behind HTTP with server-sent events.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Served, finish, read_until, with_server};
use thv_core::ProxyMode;
use thv_proxy::BridgeConfig;

/// A client's event stream and where it sends messages.
async fn connect(served: &Served) -> (reqwest::Response, String) {
    let mut stream = served.client.get(served.url("/sse")).send().await.unwrap();
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "\n\n").await;
    let endpoint = seen
        .strip_prefix("event: endpoint\ndata: ")
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    assert!(
        endpoint.starts_with(&served.url("/messages?session_id=")),
        "{endpoint}"
    );
    (stream, endpoint)
}

fn post(served: &Served, endpoint: &str, body: &'static str) -> reqwest::RequestBuilder {
    served
        .client
        .post(endpoint)
        .header("content-type", "application/json")
        .body(body)
}

#[tokio::test]
async fn an_answer_reaches_only_the_client_that_asked() {
    let served = with_server(BridgeConfig {
        mode: ProxyMode::Sse,
        ..BridgeConfig::default()
    })
    .await;
    let (mut alice, to_alice) = connect(&served).await;
    let (mut bob, to_bob) = connect(&served).await;
    let ask = |endpoint: &str, body: &'static str| finish(post(&served, endpoint, body));
    let init =
        r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2024-11-05"}}"#;
    let accepted = ask(&to_alice, init).await;
    assert_eq!((accepted.status, accepted.text.as_str()), (202, "Accepted"));
    let mut seen_by_alice = String::new();
    read_until(&mut alice, &mut seen_by_alice, "2024-11-05").await;
    ask(
        &to_alice,
        r#"{"jsonrpc":"2.0","id":1,"method":"echo","params":{"secret":"of alice"}}"#,
    )
    .await;
    ask(
        &to_bob,
        r#"{"jsonrpc":"2.0","id":1,"method":"echo","params":{"secret":"of bob"}}"#,
    )
    .await;
    let mut seen_by_bob = String::new();
    read_until(&mut bob, &mut seen_by_bob, "of bob").await;
    read_until(&mut alice, &mut seen_by_alice, "of alice").await;
    ask(&to_bob, r#"{"jsonrpc":"2.0","id":2,"method":"notify","params":{"method":"notifications/prompts/list_changed"}}"#)
        .await;
    read_until(&mut alice, &mut seen_by_alice, "prompts/list_changed").await;
    read_until(&mut bob, &mut seen_by_bob, r#""id":2"#).await;
    assert!(!seen_by_bob.contains("of alice") && !seen_by_alice.contains("of bob"));
    assert_eq!(seen_by_bob.matches("event: message").count(), 3, "{seen_by_bob}");
}

#[tokio::test]
async fn messages_of_nobody_are_refused() {
    let served = with_server(BridgeConfig {
        mode: ProxyMode::Sse,
        ..BridgeConfig::default()
    })
    .await;
    let good = r#"{"jsonrpc":"2.0","id":1,"method":"echo"}"#;
    let unknown = "/messages?session_id=3e0e6b35-3c2e-4b6e-9f57-0b1f3a0d7a11";
    for (path, status) in [
        ("/messages", 400),
        (unknown, 404),
        ("/messages?session_id=x", 404),
        ("/mcp", 404),
        ("/sse", 405),
    ] {
        assert_eq!(
            finish(post(&served, &served.url(path), good)).await.status,
            status,
            "{path}"
        );
    }
    let (stream, endpoint) = connect(&served).await;
    assert_eq!(finish(post(&served, &endpoint, "[]")).await.status, 400);
    drop(stream);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while finish(post(&served, &endpoint, good)).await.status != 503 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "a closed stream still takes messages"
        );
    }
}
