//! What becomes of a call whose answer is not as it should be, comes late, or is not wanted any more.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{finish, initialize_answer, read_until, wire, with_wire};
use serde_json::{Value, json};
use thv_proxy::{BridgeConfig, StdioBridge};
use tokio::io::AsyncWriteExt;

const CALL: &str = r#"{"jsonrpc":"2.0","id":"mine","method":"a"}"#;

#[tokio::test]
async fn an_answer_that_cannot_be_used_fails_its_call_at_once() {
    let config = BridgeConfig {
        line_limit: 20_000,
        // A caller that waited for it would not be answered within the test.
        request_timeout: Duration::from_hours(1),
        ..BridgeConfig::default()
    };
    let (served, mut wire) = with_wire(config).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let long = "y".repeat(30_000);
    let deep = format!("{}{}", "[".repeat(600), "]".repeat(600));
    let many = (0..40)
        .map(|n| format!(r#","k{n}":0"#))
        .collect::<Vec<_>>()
        .concat();
    for (line, expected) in [
        (
            format!(r#"{{"jsonrpc":"2.0","id":ID,"result":"{long}"}}"#),
            "20000 bytes",
        ),
        (
            format!(r#"{{"result":"{long}","jsonrpc":"2.0","id":ID}}"#),
            "20000 bytes",
        ),
        (
            format!(r#"{{"result":{{"id":"{long}"}},"id" : ID , "jsonrpc":"2.0"}}"#),
            "20000 bytes",
        ),
        (
            r#"{"jsonrpc":"2.0","result":NaN,"id":ID}"#.into(),
            "not well-formed JSON",
        ),
        (
            r#"{"jsonrpc":"2.0","result":1,"id":ID"#.into(),
            "not well-formed JSON",
        ),
        (
            r#"{"jsonrpc":"2.0","result":1,"result":2,"id":ID}"#.into(),
            "twice",
        ),
        (r#"{"jsonrpc":"2.0","res\u0075lt":1,"id":ID}"#.into(), "escapes"),
        (r#"{"jsonrpc":"2.0","result":1,"\u0069d":ID}"#.into(), "escapes"),
        (
            format!(r#"{{"jsonrpc":"2.0","result":1{many},"id":ID}}"#),
            "top-level members",
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","result":{deep},"id":ID}}"#),
            "nested deeper",
        ),
        (r#"{"result":1,"id":ID}"#.into(), "not \"2.0\""),
        (
            r#"{"jsonrpc":"2.0","Result":1,"result":2,"id":ID}"#.into(),
            "in case",
        ),
        (
            r#"[{"jsonrpc":"2.0","result":1,"id":ID},{"jsonrpc":"2.0","method":"m"}]"#.into(),
            "batch",
        ),
    ] {
        let asking = served.post(None, CALL);
        let playing = async {
            let id = wire.next().await.unwrap()["id"].to_string();
            wire.write(&line.replace("ID", &id)).await;
        };
        let both = async { tokio::join!(asking, playing) };
        let (answer, ()) = tokio::time::timeout(Duration::from_mins(2), both)
            .await
            .unwrap_or_else(|_| panic!("nobody was told: {}", &line[..line.len().min(200)]));
        let error: Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!((answer.status, &error["id"]), (502, &json!("mine")));
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{expected}: {message}");
    }
    assert_eq!(served.bridge.stats().in_flight, 0);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_left_out_of_an_answer() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let playing = async {
        let id = wire.next().await.unwrap()["id"].to_string();
        let line = [
            format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":\"a").as_bytes(),
            b"\xff\xc3(\xf0\x9f",
            "é\"}\n".as_bytes(),
        ]
        .concat();
        wire.output.write_all(&line).await.unwrap();
    };
    let (answer, ()) = tokio::join!(served.post(None, CALL), playing);
    assert_eq!(answer.text, r#"{"jsonrpc":"2.0","id":"mine","result":"a(é"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_server_may_take_longer_than_a_call_to_begin() {
    let (io, mut wire) = wire();
    let bridge = StdioBridge::new(io, BridgeConfig::default()).unwrap();
    let playing = async {
        let asked = wire.next().await.unwrap();
        tokio::time::sleep(Duration::from_secs(200)).await;
        wire.write(&initialize_answer(&asked["id"])).await;
    };
    let (ready, ()) = tokio::join!(bridge.initialize(), playing);
    assert_eq!(ready.unwrap().name, "fake");
}

#[tokio::test]
async fn a_call_that_its_client_cancels_ends_at_once_and_the_server_hears_of_it_once() {
    let config = BridgeConfig {
        request_timeout: Duration::from_secs(30),
        ..BridgeConfig::default()
    };
    let (served, mut wire) = with_wire(config).await;
    let (session, ()) = tokio::join!(served.open(), wire.handshake());
    for streaming in [false, true] {
        let mut request = served.post_request(Some(&session), r#"{"jsonrpc":"2.0","id":1,"method":"w"}"#);
        if streaming {
            request = request.header("accept", "text/event-stream");
        }
        let call = tokio::spawn(finish(request));
        let asked = wire.next().await.unwrap();
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
        assert_eq!(served.post(Some(&session), cancel).await.status, 202);
        let seen = wire.next().await.unwrap();
        assert_eq!(seen["params"]["requestId"], asked["id"]);
        let answer = tokio::time::timeout(Duration::from_mins(2), call)
            .await
            .expect("the call goes on")
            .unwrap();
        assert!(answer.text.contains("cancelled"), "{}", answer.text);
        assert_eq!(served.post(Some(&session), cancel).await.status, 202);
    }
    let next = served.post(None, r#"{"jsonrpc":"2.0","id":3,"method":"next"}"#);
    let playing = async {
        let asked = wire.next().await.unwrap();
        assert_eq!(asked["method"], "next", "no second word about the cancelled ones");
        wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": 3}).to_string())
            .await;
    };
    assert_eq!(tokio::join!(next, playing).0.status, 200);
}

#[tokio::test]
async fn a_cancellation_names_the_call_as_the_server_knows_it() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (session, ()) = tokio::join!(served.open(), wire.handshake());
    let other = served.open().await;
    let call = tokio::spawn(finish(
        served.post_request(Some(&session), r#"{"jsonrpc":"2.0","id":1,"method":"w"}"#),
    ));
    let asked = wire.next().await.unwrap();
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(served.post(Some(&other), cancel).await.status, 202);
    assert_eq!(served.post(Some(&session), cancel).await.status, 202);
    let seen: Value = wire.next().await.unwrap();
    assert_eq!(seen["params"]["requestId"], asked["id"]);
    call.abort();
}

#[tokio::test]
async fn progress_and_notifications_reach_those_they_are_for() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (session, ()) = tokio::join!(served.open(), wire.handshake());
    let mut stream = served
        .client
        .get(served.url("/mcp"))
        .header("mcp-session-id", &session)
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    let body =
        r#"{"jsonrpc":"2.0","id":9,"method":"work","params":{"_meta":{"progressToken":"mine"},"x":1}}"#;
    let request = served
        .post_request(Some(&session), body)
        .header("accept", "application/json, text/event-stream");
    let playing = async {
        let asked = wire.next().await.unwrap();
        let token = asked["params"]["_meta"]["progressToken"].clone();
        assert_ne!(token, "mine");
        for params in [
            json!({"progressToken": token, "progress": 1}),
            json!({"progressToken": "mine", "progress": 2}),
        ] {
            wire.write(
                &json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).to_string(),
            )
            .await;
        }
        wire.write(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#)
            .await;
        wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": "done"}).to_string())
            .await;
    };
    let (answer, ()) = tokio::join!(finish(request), playing);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let events: Vec<&str> = answer
        .text
        .split("\n\n")
        .filter(|event| !event.is_empty())
        .collect();
    assert_eq!(events.len(), 2, "{}", answer.text);
    assert!(events[0].contains(r#""progressToken":"mine""#) && events[0].contains(r#""progress":1"#));
    // Each begins with the place where its client can come back.
    let number = |event: &str, which: &str| {
        let (id, message) = event.split_once('\n').unwrap();
        assert!(id.starts_with("id: c") && id.ends_with(which), "{event}");
        assert!(message.starts_with("event: message\ndata: {"), "{event}");
    };
    number(events[0], "-1");
    number(events[1], "-2");
    assert!(events[1].contains(r#""id":9"#));
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "tools/list_changed").await;
    assert!(!seen.contains("done"));

    // DELETE ends the session and its stream.
    let deleted = finish(
        served
            .client
            .delete(served.url("/mcp"))
            .header("mcp-session-id", &session),
    )
    .await;
    assert_eq!(deleted.status, 204);
    assert!(
        tokio::time::timeout(Duration::from_mins(2), stream.chunk())
            .await
            .unwrap()
            .unwrap()
            .is_none()
    );
    assert_eq!(served.post(Some(&session), body).await.status, 404);
}
