//! Clients that try to reach what belongs to others.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{finish, with_server, with_wire};
use serde_json::json;
use thv_proxy::BridgeConfig;

const NIL: &str = "00000000-0000-0000-0000-000000000000";

#[tokio::test]
async fn what_is_hidden_by_escapes_is_refused() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (session, ()) = tokio::join!(served.open(), wire.handshake());
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"initi\u0061lize","params":{}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications\/cancell\u0065d","params":{"requestId":"x"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"request\u0049d":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToke\u006e":1}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"\u005fmeta":{"progressToken":1}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"ur\u0069":"a"}}"#,
    ] {
        let answer = served.post(Some(&session), body).await;
        assert!(
            answer.status == 400 && answer.text.contains("-32600") && answer.text.contains("without escapes"),
            "{body}: {}",
            answer.text
        );
    }
    // Names that only the server looks at may be written as one likes.
    let good = r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"arguments":{"\u00e9\"":1}}}"#;
    let playing = async {
        let asked = wire.next().await.unwrap();
        assert_eq!(
            asked["method"], "m",
            "the server saw one of those that were refused"
        );
        wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": 1}).to_string())
            .await;
    };
    assert_eq!(
        tokio::join!(served.post(Some(&session), good), playing).0.status,
        200
    );
}

#[tokio::test]
async fn what_servers_could_read_in_two_ways_is_refused() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (session, ()) = tokio::join!(served.open(), wire.handshake());
    // Each could end, change or hear what belongs to others.
    for (method, params) in [
        ("m", r#"{"_meta":{"progressToken":1,"progressToken":"t-1"}}"#),
        ("m", r#"{"_meta":{"progressToken":1,"ProgressToken":"t-1"}}"#),
        ("m", r#"{"_meta":{"progreſsToken":"t-1"}}"#),
        ("m", r#"{"_META":{"progressToken":"t-1"}}"#),
        (
            "m",
            r#"{"_meta":{"progressToken":1},"_meta":{"progressToken":"t-1"}}"#,
        ),
        (
            "m",
            r#"{"_meta":{"progressToken":1},"_Meta":{"progressToken":"t-1"}}"#,
        ),
        ("notifications/cancelled", r#"{"requestId":1,"REQUESTID":"t-1"}"#),
        ("resources/unsubscribe", r#"{"uri":"a","uri":"b"}"#),
        ("resources/unsubscribe", r#"{"uri":"a","URI":"b"}"#),
        ("logging/setLevel", r#"{"level":"debug","level":"emergency"}"#),
        ("logging/setLevel", r#"{"level":"debug","Level":"emergency"}"#),
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let body = if method.starts_with("notifications/") {
            body.replace(r#""id":1,"#, "")
        } else {
            body
        };
        let answer = tokio::select! {
            answer = finish(served.post_request(Some(&session), body.clone())) => answer,
            message = wire.next() => panic!("{body} reached the server: {message:?}"),
        };
        assert!(
            answer.status == 400 && answer.text.contains("-32600"),
            "{body}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn a_session_is_never_the_one_that_a_client_names() {
    let served = with_server(BridgeConfig::default()).await;
    let known = served.open().await;
    let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
    for wanted in [
        NIL,
        known.as_str(),
        "3e0e6b35-3c2e-4b6e-9f57-0b1f3a0d7a11",
        "garbage",
    ] {
        let answer = served.post(Some(wanted), body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_ne!(answer.headers["mcp-session-id"], wanted);
    }
    assert_eq!(
        served
            .post(Some(NIL), r#"{"jsonrpc":"2.0","id":1,"method":"echo"}"#)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_request_that_names_two_sessions_is_of_none() {
    let served = with_server(BridgeConfig::default()).await;
    let (one, other) = (served.open().await, served.open().await);
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"echo"}"#;
    let url = served.url("/mcp");
    for request in [
        served.post_request(None, ping),
        served.post_request(None, r#"{"jsonrpc":"2.0","method":"notifications/x"}"#),
        served.client.get(&url),
        served.client.delete(&url),
    ] {
        let request = request
            .header("mcp-session-id", &one)
            .header("mcp-session-id", &other);
        let answer = finish(request).await;
        assert!(
            answer.status == 404 && answer.text.contains("-32001"),
            "{}",
            answer.text
        );
    }
    for session in [&one, &other] {
        assert_eq!(served.post(Some(session), ping).await.status, 200);
    }
}

#[tokio::test]
async fn calls_without_a_session_cannot_be_cancelled_by_others() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (_, ()) = tokio::join!(served.open(), wire.handshake());
    let call = tokio::spawn(finish(
        served.post_request(None, r#"{"jsonrpc":"2.0","id":1,"method":"w"}"#),
    ));
    let asked = wire.next().await.unwrap();
    let claim = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
    served.post(Some(NIL), claim).await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    for session in [Some(NIL), None] {
        served.post(session, cancel).await;
    }
    wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": "done"}).to_string())
        .await;
    assert!(call.await.unwrap().text.contains("done"));
}
