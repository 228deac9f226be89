//! Resources that several sessions listen to.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Again, Served, Wire, finish, read_until, served, wire, with_wire};
use serde_json::{Value, json};
use thv_core::ProxyMode;
use thv_proxy::{BridgeConfig, StdioBridge};

fn about(method: &str, uri: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"uri": uri}}).to_string()
}

async fn listen(served: &Served, session: &str) -> reqwest::Response {
    let request = served.client.get(served.url("/mcp"));
    request.header("mcp-session-id", session).send().await.unwrap()
}

/// Expects a request about `uri` and answers it.
async fn expect(wire: &mut Wire, method: &str, uri: &str, answer: Value) {
    let asked = wire.next().await.unwrap();
    assert_eq!(
        (&asked["method"], &asked["params"]["uri"]),
        (&json!(method), &json!(uri))
    );
    let mut message = json!({"jsonrpc": "2.0", "id": asked["id"]});
    message
        .as_object_mut()
        .unwrap()
        .extend(answer.as_object().unwrap().clone());
    wire.write(&message.to_string()).await;
}

async fn update(wire: &mut Wire, uri: &str) {
    let params = json!({ "uri": uri });
    wire.write(
        &json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params}).to_string(),
    )
    .await;
}

#[tokio::test]
async fn updates_reach_those_whose_subscription_the_server_accepted() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (alice, ()) = tokio::join!(served.open(), wire.handshake());
    let bob = served.open().await;
    let (mut to_alice, mut to_bob) = (listen(&served, &alice).await, listen(&served, &bob).await);
    let yes = json!({"result": {}});
    let no = json!({"error": {"code": -1, "message": "no"}});
    for (session, uri, answer) in [(&alice, "a:é/", &yes), (&bob, "a:é/", &no), (&bob, "b", &yes)] {
        let (answered, ()) = tokio::join!(
            served.post(Some(session), about("resources/subscribe", uri)),
            expect(&mut wire, "resources/subscribe", uri, answer.clone())
        );
        assert_eq!(answered.status, 200);
    }
    // The same URI, written otherwise.
    wire.write(
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:\u00e9\/"}}"#,
    )
    .await;
    update(&mut wire, "b").await;
    let (mut seen_by_alice, mut seen_by_bob) = (String::new(), String::new());
    read_until(&mut to_alice, &mut seen_by_alice, "updated").await;
    read_until(&mut to_bob, &mut seen_by_bob, "updated").await;
    assert!(
        seen_by_alice.contains("u00e9") && seen_by_bob.contains(r#""b""#),
        "{seen_by_bob}"
    );
}

#[tokio::test]
async fn the_server_is_told_when_the_last_one_leaves() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let yes = json!({"result": {}});
    let (alice, ()) = tokio::join!(served.open(), wire.handshake());
    let bob = served.open().await;
    for session in [&alice, &bob] {
        let _ = tokio::join!(
            served.post(Some(session), about("resources/subscribe", "a")),
            expect(&mut wire, "resources/subscribe", "a", yes.clone())
        );
    }
    // Others still want it: the proxy answers.
    let left = served.post(Some(&bob), about("resources/unsubscribe", "a")).await;
    assert!(left.text.contains(r#""result":{}"#), "{}", left.text);
    // Who has no session listens to nothing, and ends nothing.
    for method in ["resources/subscribe", "resources/unsubscribe"] {
        let answer = tokio::select! {
            answer = served.post(None, about(method, "a")) => answer,
            asked = wire.next() => panic!("the server hears of it: {asked:?}"),
        };
        assert!(answer.text.contains(r#""result":{}"#), "{}", answer.text);
    }
    let deleting = finish(
        served
            .client
            .delete(served.url("/mcp"))
            .header("mcp-session-id", &alice),
    );
    let (deleted, ()) = tokio::join!(
        deleting,
        expect(&mut wire, "resources/unsubscribe", "a", yes.clone())
    );
    assert_eq!(deleted.status, 204);
}

#[tokio::test]
async fn an_sse_client_that_goes_listens_no_more() {
    let (served, mut wire) = with_wire(BridgeConfig {
        mode: ProxyMode::Sse,
        ..BridgeConfig::default()
    })
    .await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let mut stream = served.client.get(served.url("/sse")).send().await.unwrap();
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "\n\n").await;
    let endpoint = seen.split("data: ").nth(1).unwrap().trim().to_owned();
    let posting = served
        .client
        .post(endpoint)
        .header("content-type", "application/json")
        .body(about("resources/subscribe", "a"));
    let yes = json!({"result": {}});
    let (posted, ()) = tokio::join!(
        finish(posting),
        expect(&mut wire, "resources/subscribe", "a", yes.clone())
    );
    assert_eq!(posted.status, 202);
    read_until(&mut stream, &mut seen, r#""result":{}"#).await;
    update(&mut wire, "a").await;
    read_until(&mut stream, &mut seen, "updated").await;
    drop(stream);
    let leaving = expect(&mut wire, "resources/unsubscribe", "a", yes);
    tokio::time::timeout(Duration::from_mins(2), leaving)
        .await
        .expect("the server is told");
}

#[tokio::test]
async fn a_uri_without_end_is_refused() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (session, ()) = tokio::join!(served.open(), wire.handshake());
    let refused = served
        .post(Some(&session), about("resources/subscribe", &"x".repeat(3000)))
        .await;
    assert!(
        refused.status == 400 && refused.text.contains("2048 bytes"),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn the_next_server_is_told_what_is_listened_to() {
    let (first, mut before) = wire();
    let (second, mut after) = wire();
    let backend = Arc::new(Again(Mutex::new(Some(second))));
    let bridge = StdioBridge::with_backend(first, backend, BridgeConfig::default()).unwrap();
    let served = served(bridge).await;
    let (session, ()) = tokio::join!(served.open(), before.handshake());
    let mut stream = listen(&served, &session).await;
    let asking = served.post(Some(&session), about("resources/subscribe", "a:b"));
    let yes = json!({"result": {}});
    let playing = expect(&mut before, "resources/subscribe", "a:b", yes.clone());
    assert_eq!(tokio::join!(asking, playing).0.status, 200);
    drop(before);
    // Whoever asks first makes it known; until the end of the former one was seen, there is nobody to ask.
    let asking = async {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"count"}"#;
        while served.post(Some(&session), call).await.status != 200 {}
    };
    let playing = async {
        after.handshake().await;
        for _ in 0..2 {
            let asked = after.next().await.unwrap();
            if asked["method"] == "resources/subscribe" {
                assert_eq!(asked["params"]["uri"], "a:b");
            }
            let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {}});
            after.write(&answer.to_string()).await;
        }
        update(&mut after, "a:b").await;
    };
    let both = async { tokio::join!(asking, playing) };
    let both = tokio::time::timeout(Duration::from_mins(2), both).await;
    both.expect("nobody tells the next server");
    update(&mut after, "a:b").await;
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "resources/updated").await;
}
