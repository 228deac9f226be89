//! Log messages of a server that several sessions share.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Served, Wire, finish, read_until, with_wire};
use serde_json::json;
use thv_proxy::BridgeConfig;

async fn listen(served: &Served, session: &str) -> reqwest::Response {
    let request = served.client.get(served.url("/mcp"));
    request.header("mcp-session-id", session).send().await.unwrap()
}

fn set(level: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": level}}).to_string()
}

/// Expects a request for a level and answers it.
async fn expect(wire: &mut Wire, level: &str) {
    let asked = wire.next().await.unwrap();
    assert_eq!(
        (&asked["method"], &asked["params"]["level"]),
        (&json!("logging/setLevel"), &json!(level))
    );
    wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {}}).to_string())
        .await;
}

async fn log(wire: &mut Wire, level: &str, text: &str) {
    let params = json!({"level": level, "data": text});
    wire.write(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}).to_string())
        .await;
}

#[tokio::test]
async fn the_server_logs_what_the_most_curious_wants_and_each_gets_what_it_asked_for() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (alice, ()) = tokio::join!(served.open(), wire.handshake());
    let mut to_alice = listen(&served, &alice).await;
    log(&mut wire, "info", "for the only one").await;
    let mut seen_by_alice = String::new();
    read_until(&mut to_alice, &mut seen_by_alice, "only one").await;

    let bob = served.open().await;
    let carol = served.open().await;
    let (mut to_bob, mut to_carol) = (listen(&served, &bob).await, listen(&served, &carol).await);
    for (session, level) in [(&alice, "warning"), (&bob, "debug")] {
        let asking = served.post(Some(session), set(level));
        let (answer, ()) = tokio::join!(asking, expect(&mut wire, level));
        assert_eq!(answer.status, 200);
    }
    // Bob still wants more: the proxy answers.
    let answer = served.post(Some(&alice), set("error")).await;
    assert_eq!(answer.text, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    log(&mut wire, "info", "for bob").await;
    log(&mut wire, "error", "for both").await;
    wire.write(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#)
        .await;
    let (mut seen_by_bob, mut seen_by_carol) = (String::new(), String::new());
    read_until(&mut to_alice, &mut seen_by_alice, "list_changed").await;
    read_until(&mut to_bob, &mut seen_by_bob, "list_changed").await;
    read_until(&mut to_carol, &mut seen_by_carol, "list_changed").await;
    assert!(seen_by_bob.contains("for bob") && seen_by_bob.contains("for both"));
    assert!(!seen_by_alice.contains("for bob") && seen_by_alice.contains("for both"));
    assert!(
        !seen_by_carol.contains("for"),
        "it has not asked: {seen_by_carol}"
    );

    let leaving = finish(
        served
            .client
            .delete(served.url("/mcp"))
            .header("mcp-session-id", &bob),
    );
    let told = tokio::time::timeout(Duration::from_mins(2), expect(&mut wire, "error"));
    let (left, told) = tokio::join!(leaving, told);
    told.expect("the server is told to log less");
    assert_eq!(left.status, 204);
}

#[tokio::test]
async fn a_level_that_the_server_refuses_is_not_kept() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (session, ()) = tokio::join!(served.open(), wire.handshake());
    for level in ["debug", "no level", "debug"] {
        let playing = async {
            let asked = wire.next().await.unwrap();
            assert_eq!(asked["params"]["level"], level);
            let error = json!({"code": -32601, "message": "not here"});
            wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "error": error}).to_string())
                .await;
        };
        let (answer, ()) = tokio::join!(served.post(Some(&session), set(level)), playing);
        assert!(answer.text.contains("not here"), "{}", answer.text);
    }
}
