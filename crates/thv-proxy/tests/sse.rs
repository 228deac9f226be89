//! A stdio server behind HTTP with server-sent events.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Served, eventually, finish, read_until, with_server, with_wire};
use serde_json::json;
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
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(2);
    while finish(post(&served, &endpoint, good)).await.status != 503 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "a closed stream still takes messages"
        );
    }
}

#[tokio::test]
async fn a_client_that_goes_frees_its_call_and_one_that_cancels_gets_no_answer() {
    let (served, mut wire) = with_wire(BridgeConfig {
        mode: ProxyMode::Sse,
        ..BridgeConfig::default()
    })
    .await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let (mut stream, endpoint) = connect(&served).await;
    let ask = |body: &'static str| finish(post(&served, &endpoint, body));
    ask(r#"{"jsonrpc":"2.0","id":1,"method":"w"}"#).await;
    let asked = wire.next().await.unwrap();
    ask(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#).await;
    assert_eq!(wire.next().await.unwrap()["params"]["requestId"], asked["id"]);
    ask(r#"{"jsonrpc":"2.0","id":2,"method":"w"}"#).await;
    let asked = wire.next().await.unwrap();
    wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": 2}).to_string())
        .await;
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "\n\n").await;
    assert!(
        seen.contains(r#""id":2"#) && !seen.contains(r#""id":1"#),
        "{seen}"
    );
    ask(r#"{"jsonrpc":"2.0","id":3,"method":"w"}"#).await;
    eventually("it waits", || served.bridge.stats().in_flight == 1).await;
    drop(stream);
    eventually("its place is free", || served.bridge.stats().in_flight == 0).await;
}

#[tokio::test]
async fn what_a_hostile_client_sends_harms_nobody() {
    let served = with_server(BridgeConfig {
        mode: ProxyMode::Sse,
        body_limit: 10_000,
        ..BridgeConfig::default()
    })
    .await;
    let (mut stream, endpoint) = connect(&served).await;
    let large: &'static str = "x".repeat(10_001).leak();
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[{}]", 400),
        ("null", 400),
        (r#"{"jsonrpc":"2.0","id":1,"method":"echo","id":2}"#, 400),
        (r#"{"jsonrpc":"2.0","id":1,"method":"initi\u0061lize"}"#, 400),
        (large, 413),
        (r#"{"jsonrpc":"2.0","id":"t-1","result":1}"#, 202),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}"#,
            202,
        ),
    ] {
        let answer = finish(post(&served, &endpoint, body)).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
    }
    let stranger = post(&served, &endpoint, "{}").header("origin", "http://evil.example");
    assert_eq!(finish(stranger).await.status, 403);
    let plain = served
        .client
        .post(&endpoint)
        .body(r#"{"jsonrpc":"2.0","id":1,"method":"echo"}"#);
    assert_eq!(finish(plain).await.status, 415);
    finish(post(
        &served,
        &endpoint,
        r#"{"jsonrpc":"2.0","id":"good","method":"echo","params":{}}"#,
    ))
    .await;
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "\n\n").await;
    assert_eq!(
        seen,
        "event: message\ndata: {\"id\":\"good\",\"jsonrpc\":\"2.0\",\"result\":{}}\n\n"
    );
}

#[tokio::test]
async fn clients_behind_another_proxy_are_told_their_way_only_if_that_one_is_trusted() {
    for (trust_forwarded, expected) in [
        (true, "https://mcp.example/team/messages?session_id="),
        (false, "https://127.0.0.1:"),
    ] {
        let served = with_server(BridgeConfig {
            mode: ProxyMode::Sse,
            trust_forwarded,
            ..BridgeConfig::default()
        })
        .await;
        let request = served.client.get(served.url("/sse"));
        let request = request
            .header("x-forwarded-host", "mcp.example")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-prefix", "/team/sse");
        let mut stream = request.send().await.unwrap();
        let mut seen = String::new();
        read_until(&mut stream, &mut seen, "\n\n").await;
        assert!(
            seen.starts_with(&format!("event: endpoint\ndata: {expected}")),
            "{seen}"
        );
    }
}
