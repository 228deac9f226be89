//! Calls that become tasks (revision 2025-11-25), of a server that several sessions share.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Served, Wire, finish, read_until, soon, with_wire};
use serde_json::{Value, json};
use thv_proxy::BridgeConfig;

const RELATED: &str = "io.modelcontextprotocol/related-task";

/// What this end of the pipe does when it is a server that has tasks.
async fn handshake(wire: &mut Wire) {
    let asked = wire.next().await.unwrap();
    let tasks = json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}});
    let result = json!({"protocolVersion": "2025-11-25", "serverInfo": {"name": "t", "version": "1"},
        "capabilities": {"tools": {}, "tasks": tasks}});
    answer(wire, &asked, &result).await;
    assert_eq!(wire.next().await.unwrap()["method"], "notifications/initialized");
}

async fn answer(wire: &mut Wire, asked: &Value, result: &Value) {
    wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string())
        .await;
}

/// A new session of a client that can be asked, and its event stream.
async fn open(served: &Served) -> (String, reqwest::Response) {
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}});
    let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
    let answer = served.post(None, body.to_string()).await;
    let session = answer.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let listening = served.client.get(served.url("/mcp"));
    let stream = listening.header("mcp-session-id", &session).send().await.unwrap();
    (session, stream)
}

fn request(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
}

/// Asks somebody something for a task; what is asked says its own number.
async fn ask(wire: &mut Wire, number: u32, meta: &Value) {
    let params = json!({"message": format!("question {number}"), "_meta": meta});
    let message = json!({"jsonrpc": "2.0", "id": number, "method": "elicitation/create", "params": params});
    wire.write(&message.to_string()).await;
}

/// The next message to the server is the refusal of this request.
async fn refused(wire: &mut Wire, number: u32) {
    let answer = soon("a refusal", wire.next()).await.unwrap();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(number), &json!(-32000)),
        "{answer}"
    );
}

#[tokio::test]
async fn what_the_server_asks_for_a_task_is_for_whose_task_it_is() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), handshake(&mut wire));
    ready.unwrap();
    let (alice, mut to_alice) = open(&served).await;
    let (bob, mut to_bob) = open(&served).await;

    let meta = json!({"progressToken": "of alice"});
    let call = request(
        "tools/call",
        &json!({"name": "long", "task": {"ttl": 60000}, "_meta": meta}),
    );
    let making = tokio::spawn(finish(served.post_request(Some(&alice), call)));
    let asked = wire.next().await.unwrap();
    answer(
        &mut wire,
        &asked,
        &json!({"task": {"taskId": "t/1", "status": "working"}}),
    )
    .await;
    assert!(making.await.unwrap().text.contains("t/1"));
    let token = &asked["params"]["_meta"]["progressToken"];

    // Now he alone has a call under way, and it is not his task.
    let of_bob = tokio::spawn(finish(served.post_request(Some(&bob), request("w", &json!({})))));
    let waiting = wire.next().await.unwrap();
    ask(&mut wire, 1, &json!({RELATED: {"taskId": "t/1"}})).await;
    let mut seen_by_alice = String::new();
    read_until(&mut to_alice, &mut seen_by_alice, "question 1").await;
    // The token is good for as long as the task.
    let progress = json!({"progressToken": token, "progress": 77});
    wire.write(
        &json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}).to_string(),
    )
    .await;
    read_until(&mut to_alice, &mut seen_by_alice, "of alice").await;
    // Some write it so.
    wire.write(
        r#"{"jsonrpc":"2.0","id":2,"method":"elicitation/create","params":{"message":"question 2","_meta":{"io.modelcontextprotocol\/related-task":{"taskId":"t\/1"}}}}"#,
    )
    .await;
    read_until(&mut to_alice, &mut seen_by_alice, "question 2").await;
    wire.write(r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"t/1","status":"input_required"}}"#)
        .await;
    read_until(&mut to_alice, &mut seen_by_alice, "input_required").await;
    for (number, related) in [(3, json!({"taskId": "t/2"})), (4, json!({})), (5, json!(7))] {
        ask(&mut wire, number, &json!({ RELATED: related })).await;
        refused(&mut wire, number).await;
    }
    let twice = r#"{"io.modelcontextprotocol/related-task":{"taskId":"t/1"},"io.modelcontextprotocol/related-task":{}}"#;
    wire.write(&format!(
        r#"{{"jsonrpc":"2.0","id":6,"method":"elicitation/create","params":{{"_meta":{twice}}}}}"#
    ))
    .await;
    refused(&mut wire, 6).await;

    // She goes, before another of her calls has become one. Who knows a task's name goes on with it: she may have come
    // back as another session.
    let call = request("tools/call", &json!({"name": "long", "task": {}}));
    let making = tokio::spawn(finish(served.post_request(Some(&alice), call)));
    let late = wire.next().await.unwrap();
    let leaving = served.client.delete(served.url("/mcp"));
    let left = finish(leaving.header("mcp-session-id", &alice)).await;
    assert_eq!(left.status, 204);
    for number in [1, 2] {
        let refusal = wire.next().await.unwrap();
        assert!(
            refusal["error"]["code"] == -32000 && (refusal["id"] == 1 || refusal["id"] == 2),
            "{number}: {refusal}"
        );
    }
    answer(&mut wire, &late, &json!({"task": {"taskId": "t/late"}})).await;
    assert!(making.await.unwrap().text.contains("t/late"));
    ask(&mut wire, 7, &json!({RELATED: {"taskId": "t/1"}})).await;
    refused(&mut wire, 7).await;
    answer(&mut wire, &waiting, &json!({})).await;
    assert_eq!(of_bob.await.unwrap().status, 200);
    let mut seen_by_bob = String::new();
    for (number, task) in [(8, "t/1"), (9, "t/late")] {
        let result = request("tasks/result", &json!({"taskId": task}));
        let resulting = tokio::spawn(finish(served.post_request(Some(&bob), result)));
        let waiting = wire.next().await.unwrap();
        assert_eq!(waiting["params"]["taskId"], task);
        ask(&mut wire, number, &json!({RELATED: {"taskId": task}})).await;
        let question = format!("question {number}");
        soon(&question, read_until(&mut to_bob, &mut seen_by_bob, &question)).await;
        answer(&mut wire, &waiting, &json!({"content": []})).await;
        assert_eq!(resulting.await.unwrap().status, 200);
    }
    assert!(
        !["question 1", "input_required", "\"progress\":77"]
            .iter()
            .any(|of_alice| seen_by_bob.contains(of_alice)),
        "{seen_by_bob}"
    );
}

#[tokio::test]
async fn nobody_is_shown_the_tasks_of_all() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let hello = request(
        "initialize",
        &json!({"protocolVersion": "2025-11-25", "capabilities": {}}),
    );
    let (said, ()) = tokio::join!(served.post(None, hello), handshake(&mut wire));
    let result: Value = serde_json::from_str(&said.text).unwrap();
    assert_eq!(
        result["result"]["capabilities"],
        json!({"tools": {}, "tasks": {"cancel": {}, "requests": {"tools": {"call": {}}}}})
    );
    let session = said.headers["mcp-session-id"].to_str().unwrap();
    let list = request("tasks/list", &json!({}));
    for asker in [Some(session), None] {
        let answer = served.post(asker, list.clone()).await;
        let message: Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(
            (answer.status, &message["id"], &message["error"]["code"]),
            (200, &json!(1), &json!(-32601)),
            "{}",
            answer.text
        );
    }
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let asking = served
        .post_request(None, request("tasks/list", &json!({ "_meta": meta })))
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tasks/list");
    let answer = finish(asking).await;
    assert!(
        answer.status == 404 && answer.text.contains("-32601"),
        "{}",
        answer.text
    );
    // The server has heard of none of them.
    let other = tokio::spawn(finish(
        served.post_request(Some(session), request("x", &json!({}))),
    ));
    let asked = wire.next().await.unwrap();
    assert_eq!(asked["method"], "x");
    wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {}}).to_string())
        .await;
    assert_eq!(other.await.unwrap().status, 200);
}
