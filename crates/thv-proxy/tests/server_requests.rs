//! Requests of the server to clients: sampling, elicitation, roots.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Served, Wire, finish, read_until, with_wire};
use serde_json::{Value, json};
use thv_core::ProxyMode;
use thv_proxy::BridgeConfig;

/// A new session of a client that declares this much.
async fn open(served: &Served, capabilities: Value) -> String {
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": capabilities});
    let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
    let answer = served.post(None, body.to_string()).await;
    answer.headers["mcp-session-id"].to_str().unwrap().to_owned()
}

async fn listen(served: &Served, session: &str) -> reqwest::Response {
    let request = served.client.get(served.url("/mcp"));
    request.header("mcp-session-id", session).send().await.unwrap()
}

async fn ask(wire: &mut Wire, id: u32, method: &str, meta: Value) {
    let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"_meta": meta}});
    wire.write(&message.to_string()).await;
}

/// The server's request as a client sees it.
async fn asked(stream: &mut reqwest::Response) -> Value {
    let mut seen = String::new();
    read_until(stream, &mut seen, "\n\n").await;
    serde_json::from_str(seen.trim().split_once("event: message\ndata: ").unwrap().1).unwrap()
}

/// The next message to the server is a refusal of this request.
async fn refused(wire: &mut Wire, id: u32, code: i32) {
    let answer = tokio::time::timeout(Duration::from_mins(2), wire.next()).await;
    let answer = answer.expect("it is asked, or nobody is").unwrap();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(id), &json!(code)),
        "{answer}"
    );
}

fn call(id: u32) -> String {
    let meta = json!({ "progressToken": id });
    json!({"jsonrpc": "2.0", "id": id, "method": "w", "params": {"_meta": meta}}).to_string()
}

#[tokio::test]
async fn a_request_goes_to_the_session_that_caused_it_and_its_answer_back() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let alice = open(&served, json!({"sampling": {}})).await;
    let bob = open(&served, json!({"sampling": {}})).await;
    let (mut to_alice, mut to_bob) = (listen(&served, &alice).await, listen(&served, &bob).await);

    let of_alice = tokio::spawn(finish(served.post_request(Some(&alice), call(1))));
    let first = wire.next().await.unwrap();
    ask(&mut wire, 5, "sampling/createMessage", json!({})).await;
    let request = asked(&mut to_alice).await;
    assert_eq!(request["method"], "sampling/createMessage");

    // Only she can answer, and only once.
    for (session, text) in [(&bob, "of bob"), (&alice, "hi"), (&alice, "again")] {
        let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": {"text": text}});
        assert_eq!(served.post(Some(session), answer.to_string()).await.status, 202);
    }
    assert_eq!(
        wire.next().await.unwrap(),
        json!({"jsonrpc": "2.0", "id": 5, "result": {"text": "hi"}})
    );

    // Two could have caused it: a token or an id tells them apart, nothing else does.
    let of_bob = tokio::spawn(finish(served.post_request(Some(&bob), call(1))));
    let second = wire.next().await.unwrap();
    assert_eq!(
        second["method"], "w",
        "an answer was taken from who was not asked"
    );
    ask(&mut wire, 6, "sampling/createMessage", json!({})).await;
    refused(&mut wire, 6, -32000).await;
    let meta = second["params"]["_meta"].clone();
    ask(&mut wire, 7, "sampling/createMessage", meta).await;
    let request = asked(&mut to_bob).await;
    // The server changes its mind.
    wire.write(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#)
        .await;
    assert_eq!(asked(&mut to_bob).await["params"]["requestId"], request["id"]);

    ask(
        &mut wire,
        9,
        "sampling/createMessage",
        json!({"relatedRequestId": first["id"]}),
    )
    .await;
    assert_eq!(asked(&mut to_alice).await["method"], "sampling/createMessage");
    ask(
        &mut wire,
        10,
        "sampling/createMessage",
        json!({"relatedRequestId": 1}),
    )
    .await;
    refused(&mut wire, 10, -32000).await;

    for (asked, call) in [(first, of_alice), (second, of_bob)] {
        wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": 1}).to_string())
            .await;
        assert_eq!(call.await.unwrap().status, 200);
    }
    ask(&mut wire, 8, "sampling/createMessage", json!({})).await;
    refused(&mut wire, 8, -32000).await;
}

#[tokio::test]
async fn of_many_requests_at_one_moment_each_is_answered() {
    const MANY: u32 = 1000;
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let asked: Vec<_> = (0..MANY)
        .map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string())
        .collect();
    wire.write(&asked.join("\n")).await;
    for id in 0..MANY {
        let answer = common::soon("each is answered", wire.next()).await.unwrap();
        assert_eq!(answer["id"], id);
    }
}

#[tokio::test]
async fn progress_is_told_by_who_was_asked_and_by_nobody_else() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let alice = open(&served, json!({"sampling": {}})).await;
    let bob = open(&served, json!({"sampling": {}})).await;
    let (mut to_alice, _to_bob) = (listen(&served, &alice).await, listen(&served, &bob).await);
    let of_alice = tokio::spawn(finish(served.post_request(Some(&alice), call(1))));
    let of_call = wire.next().await.unwrap();
    ask(
        &mut wire,
        5,
        "sampling/createMessage",
        json!({"progressToken": "é"}),
    )
    .await;
    let request = asked(&mut to_alice).await;
    assert_eq!(request["params"]["_meta"]["progressToken"], "é");

    let tell = async |session: &str, token: &str, status| {
        let message = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
        );
        assert_eq!(served.post(Some(session), message).await.status, status);
    };
    tell(&bob, r#""é""#, 202).await;
    tell(&alice, r#""other""#, 202).await;
    tell(&alice, r#""other","progressToken":"é""#, 400).await;
    tell(&alice, r#""\u00e9""#, 202).await;
    let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": {}});
    served.post(Some(&alice), answer.to_string()).await;
    tell(&alice, r#""é""#, 202).await;
    served
        .post(Some(&alice), r#"{"jsonrpc":"2.0","method":"x/last"}"#)
        .await;
    assert_eq!(wire.next().await.unwrap()["params"]["progressToken"], "é");
    assert_eq!(wire.next().await.unwrap()["id"], 5);
    assert_eq!(wire.next().await.unwrap()["method"], "x/last");
    wire.write(&json!({"jsonrpc": "2.0", "id": of_call["id"], "result": {}}).to_string())
        .await;
    assert_eq!(of_alice.await.unwrap().status, 200);
}

#[tokio::test]
async fn who_has_declared_less_is_not_asked_and_who_is_gone_does_not_keep_the_server_waiting() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    ask(&mut wire, 1, "roots/list", json!({})).await;
    refused(&mut wire, 1, -32000).await;
    let only = open(&served, json!({"roots": {"listChanged": true}})).await;
    ask(&mut wire, 2, "elicitation/create", json!({})).await;
    refused(&mut wire, 2, -32601).await;
    ask(&mut wire, 3, "something/else", json!({})).await;
    refused(&mut wire, 3, -32601).await;
    // It comes when the stream is there.
    ask(&mut wire, 4, "roots/list", json!({})).await;
    let mut stream = listen(&served, &only).await;
    assert_eq!(asked(&mut stream).await["method"], "roots/list");
    let deleting = served
        .client
        .delete(served.url("/mcp"))
        .header("mcp-session-id", &only);
    assert_eq!(finish(deleting).await.status, 204);
    tokio::time::timeout(Duration::from_mins(2), refused(&mut wire, 4, -32000))
        .await
        .expect("the server waits for a client that is gone");
}

#[tokio::test]
async fn the_server_may_ask_as_soon_as_it_is_told_what_it_can_ask_for() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let playing = async {
        let asked = wire.next().await.unwrap();
        for capability in ["sampling", "elicitation", "roots"] {
            assert!(asked["params"]["capabilities"][capability].is_object(), "{asked}");
        }
        wire.write(&common::initialize_answer(&asked["id"])).await;
        wire.next().await.unwrap();
        ask(&mut wire, 1, "ping", json!({})).await;
        assert_eq!(
            wire.next().await.unwrap(),
            json!({"jsonrpc": "2.0", "id": 1, "result": {}})
        );
    };
    let (ready, ()) = tokio::join!(served.bridge.initialize(), playing);
    ready.unwrap();
}

#[tokio::test]
async fn sse_clients_are_asked_on_their_stream_and_their_going_is_noticed() {
    let (served, mut wire) = with_wire(BridgeConfig {
        mode: ProxyMode::Sse,
        // Nothing here waits for its end.
        request_timeout: Duration::from_hours(1),
        ..BridgeConfig::default()
    })
    .await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let connect = async || {
        let mut stream = served.client.get(served.url("/sse")).send().await.unwrap();
        let mut seen = String::new();
        read_until(&mut stream, &mut seen, "\n\n").await;
        let endpoint = seen.split("data: ").nth(1).unwrap().trim().to_owned();
        (stream, seen, endpoint)
    };
    let post_to = |endpoint: &str, body: String| {
        let request = served.client.post(endpoint).body(body);
        finish(request.header("content-type", "application/json"))
    };
    let (mut stream, mut seen, endpoint) = connect().await;
    let post = |body: Value| post_to(&endpoint, body.to_string());
    let params = json!({"capabilities": {"elicitation": {}}});
    post(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})).await;
    read_until(&mut stream, &mut seen, r#""id":0"#).await;
    ask(&mut wire, 1, "elicitation/create", json!({})).await;
    let request = asked(&mut stream).await;
    post(json!({"jsonrpc": "2.0", "id": request["id"], "result": {"action": "decline"}})).await;
    assert_eq!(wire.next().await.unwrap()["result"]["action"], "decline");
    // Another one goes, and the server does not answer what it is told because of that.
    let (other, _, endpoint_of_other) = connect().await;
    let subscribe =
        json!({"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": {"uri": "a"}});
    post_to(&endpoint_of_other, subscribe.to_string()).await;
    let subscribing = wire.next().await.unwrap();
    wire.write(&json!({"jsonrpc": "2.0", "id": subscribing["id"], "result": {}}).to_string())
        .await;
    drop(other);
    let told = common::soon("the server is told", wire.next()).await.unwrap();
    assert_eq!(told["method"], "resources/unsubscribe");
    post_to(&endpoint, call(2)).await;
    let working = wire.next().await.unwrap();
    ask(
        &mut wire,
        2,
        "elicitation/create",
        working["params"]["_meta"].clone(),
    )
    .await;
    asked(&mut stream).await;
    drop(stream);
    tokio::time::timeout(Duration::from_mins(2), refused(&mut wire, 2, -32000))
        .await
        .expect("the server waits for a client that is gone");
}

#[tokio::test]
async fn what_a_call_asks_that_nobody_waits_for_any_more_reaches_nobody_else() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let alice = open(&served, json!({"elicitation": {}})).await;
    let bob = open(&served, json!({"elicitation": {}})).await;
    let (mut to_alice, mut to_bob) = (listen(&served, &alice).await, listen(&served, &bob).await);
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let mut ids = 0;
    for cancelled in [false, true] {
        let call_of_alice = tokio::spawn(served.post_request(Some(&alice), call(1)).send());
        let of_alice = wire.next().await.unwrap();
        if cancelled {
            assert_eq!(served.post(Some(&alice), cancel).await.status, 202);
            assert_eq!(wire.next().await.unwrap()["params"]["requestId"], of_alice["id"]);
        } else {
            call_of_alice.abort();
        }
        common::eventually("nobody waits", || served.bridge.stats().in_flight == 0).await;

        // It is hers, while nobody else has a call.
        ids += 1;
        ask(&mut wire, ids, "elicitation/create", json!({})).await;
        assert_eq!(asked(&mut to_alice).await["method"], "elicitation/create");
        let call_of_bob = tokio::spawn(finish(served.post_request(Some(&bob), call(1))));
        let of_bob = wire.next().await.unwrap();
        ids += 1;
        ask(&mut wire, ids, "elicitation/create", json!({})).await;
        refused(&mut wire, ids, -32000).await;

        // Her call is over: now it can only be his.
        wire.write(&json!({"jsonrpc": "2.0", "id": of_alice["id"], "result": 1}).to_string())
            .await;
        ids += 1;
        ask(&mut wire, ids, "elicitation/create", json!({})).await;
        assert_eq!(asked(&mut to_bob).await["method"], "elicitation/create");
        wire.write(&json!({"jsonrpc": "2.0", "id": of_bob["id"], "result": 1}).to_string())
            .await;
        assert_eq!(call_of_bob.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_request_that_was_lost_with_the_stream_comes_again() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let session = open(&served, json!({"roots": {}})).await;
    let mut stream = listen(&served, &session).await;
    wire.write(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#)
        .await;
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "list_changed").await;
    ask(&mut wire, 4, "roots/list", json!({})).await;
    assert_eq!(asked(&mut stream).await["method"], "roots/list");
    drop(stream);
    let again = served.client.get(served.url("/mcp"));
    let again = again
        .header("mcp-session-id", &session)
        .header("last-event-id", "1");
    let mut stream = again.send().await.unwrap();
    let request = asked(&mut stream).await;
    assert_eq!(request["method"], "roots/list");
    let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": {"roots": []}}).to_string();
    assert_eq!(served.post(Some(&session), answer).await.status, 202);
    assert_eq!(
        wire.next().await.unwrap(),
        json!({"jsonrpc": "2.0", "id": 4, "result": {"roots": []}})
    );
}

#[tokio::test]
async fn a_client_that_never_answers_is_not_in_the_way_of_others() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let silent = open(&served, json!({"roots": {}})).await;
    let (io, mut read) = (listen(&served, &silent).await, String::new());
    let mut stream = io;
    for id in 0..64 {
        ask(&mut wire, id, "roots/list", json!({})).await;
        read_until(&mut stream, &mut read, &format!("\"s{id}\"")).await;
    }
    ask(&mut wire, 64, "roots/list", json!({})).await;
    refused(&mut wire, 64, -32000).await;

    let other = open(&served, json!({"roots": {}})).await;
    let mut to_other = listen(&served, &other).await;
    let call_of_other = tokio::spawn(finish(served.post_request(Some(&other), call(1))));
    let of_other = wire.next().await.unwrap();
    ask(&mut wire, 65, "roots/list", json!({})).await;
    assert_eq!(asked(&mut to_other).await["method"], "roots/list");
    wire.write(&json!({"jsonrpc": "2.0", "id": of_other["id"], "result": 1}).to_string())
        .await;
    assert_eq!(call_of_other.await.unwrap().status, 200);
}

#[tokio::test]
async fn the_only_session_is_not_asked_for_calls_of_others() {
    let config = BridgeConfig {
        id_prefix: "mine-".into(),
        ..BridgeConfig::default()
    };
    let (served, mut wire) = with_wire(config).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let only = open(&served, json!({"roots": {}})).await;
    let mut stream = listen(&served, &only).await;
    // A call that is over, as far as anybody knows.
    ask(&mut wire, 1, "roots/list", json!({"progressToken": "mine-99"})).await;
    refused(&mut wire, 1, -32000).await;
    let call_of_nobody = tokio::spawn(finish(served.post_request(None, call(1))));
    let of_nobody = wire.next().await.unwrap();
    for (id, meta) in [(2, json!({})), (3, of_nobody["params"]["_meta"].clone())] {
        ask(&mut wire, id, "roots/list", meta).await;
        refused(&mut wire, id, -32601).await;
    }
    wire.write(&json!({"jsonrpc": "2.0", "id": of_nobody["id"], "result": 1}).to_string())
        .await;
    assert_eq!(call_of_nobody.await.unwrap().status, 200);
    ask(&mut wire, 4, "roots/list", json!({})).await;
    assert_eq!(asked(&mut stream).await["method"], "roots/list");
}

#[tokio::test]
async fn who_ends_its_session_during_a_call_gets_the_answer_and_is_not_asked() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (session, ()) = tokio::join!(open(&served, json!({"sampling": {}})), wire.handshake());
    let mut stream = listen(&served, &session).await;
    let calling = tokio::spawn(finish(served.post_request(Some(&session), call(1))));
    let asked = wire.next().await.unwrap();
    let delete = served.client.delete(served.url("/mcp"));
    let deleted = finish(delete.header("mcp-session-id", &session)).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert!(stream.chunk().await.unwrap().is_none(), "its stream ends");
    ask(&mut wire, 5, "sampling/createMessage", json!({})).await;
    refused(&mut wire, 5, -32000).await;
    for request in [
        served.post_request(Some(&session), call(2)),
        served
            .client
            .delete(served.url("/mcp"))
            .header("mcp-session-id", &session),
    ] {
        assert_eq!(finish(request).await.status, 404);
    }
    wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": "late"}).to_string())
        .await;
    let answer = calling.await.unwrap();
    assert!(
        answer.status == 200 && answer.text.contains("late"),
        "{}",
        answer.text
    );
    assert_eq!(served.bridge.stats().in_flight, 0);
}
