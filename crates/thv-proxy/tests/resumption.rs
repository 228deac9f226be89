//! A client loses the connection of a call and comes back to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::time::Duration;

use common::{Served, Wire, eventually, read_until, with_server, with_wire};
use serde_json::{Value, json};
use thv_proxy::BridgeConfig;

/// Calls with a progress token.
fn call(id: u64) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"_meta": {"progressToken": "mine"}}})
        .to_string()
}

async fn begin(served: &Served, session: &str, version: &str, id: u64) -> reqwest::Response {
    let request = served
        .post_request(Some(session), call(id))
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", version);
    request.send().await.unwrap()
}

async fn come_back(served: &Served, session: &str, last: &str) -> reqwest::Response {
    let request = served
        .client
        .get(served.url("/mcp"))
        .header("accept", "text/event-stream")
        .header("mcp-session-id", session)
        .header("last-event-id", last);
    request.send().await.unwrap()
}

/// Says how far the call is that the server has got.
async fn progress(wire: &mut Wire, asked: &Value, progress: u64) {
    let token = &asked["params"]["_meta"]["progressToken"];
    let params = json!({"progressToken": token, "progress": progress});
    let message = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
    wire.write(&message.to_string()).await;
}

async fn answer(wire: &mut Wire, asked: &Value, result: &str) {
    let message = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"text": result}});
    wire.write(&message.to_string()).await;
}

/// A session, and the server behind it.
async fn opened() -> (Served, Wire, String) {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (session, ()) = tokio::join!(served.open(), wire.handshake());
    (served, wire, session)
}

/// Begins a call, has its first progress read, and loses the connection. The server's request and the last event id.
async fn lost(served: &Served, wire: &mut Wire, session: &str, id: u64) -> (Value, String) {
    let playing = async {
        let asked = wire.next().await.unwrap();
        progress(wire, &asked, 1).await;
        asked
    };
    let (mut stream, asked) = tokio::join!(begin(served, session, "2025-11-25", id), playing);
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "\"progress\":1").await;
    let ids: Vec<&str> = seen
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .collect();
    (asked, (*ids.last().unwrap()).to_owned())
}

#[tokio::test]
async fn what_came_while_the_client_was_away_is_given_once_and_the_answer_with_it() {
    let (served, mut wire, session) = opened().await;
    let (asked, last) = lost(&served, &mut wire, &session, 7).await;
    progress(&mut wire, &asked, 2).await;
    answer(&mut wire, &asked, "done").await;
    eventually("the answer is taken", || served.bridge.stats().in_flight == 0).await;

    let text = come_back(&served, &session, &last).await.text().await.unwrap();
    assert!(!text.contains("\"progress\":1"), "{text}");
    let missed = text.find("\"progress\":2").unwrap();
    let answered = text.find(r#"{"id":7,"jsonrpc":"2.0","result":{"text":"done"}}"#);
    assert!(answered.unwrap() > missed, "{text}");
    assert!(text.contains(r#""progressToken":"mine""#), "{text}");

    // Once more, as if that connection had been lost too; then as one that has seen all.
    let again = come_back(&served, &session, &last).await.text().await.unwrap();
    assert_eq!(again, text);
    let end = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("id: "))
        .unwrap();
    assert_eq!(come_back(&served, &session, end).await.text().await.unwrap(), "");
}

#[tokio::test]
async fn a_client_that_is_back_in_time_reads_on_and_the_server_is_not_told_of_it() {
    let (served, mut wire, session) = opened().await;
    let (asked, last) = lost(&served, &mut wire, &session, 7).await;
    let mut stream = come_back(&served, &session, &last).await;
    progress(&mut wire, &asked, 2).await;
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "\"progress\":2").await;
    answer(&mut wire, &asked, "done").await;
    read_until(
        &mut stream,
        &mut seen,
        r#""id":7,"jsonrpc":"2.0","result":{"text":"done"}"#,
    )
    .await;
    assert!(stream.chunk().await.unwrap().is_none(), "it ends with the answer");
}

#[tokio::test]
async fn a_stream_begins_with_its_place_where_the_client_knows_what_that_is() {
    let (served, mut wire, session) = opened().await;
    for (version, primed) in [("2025-11-25", true), ("2025-06-18", false)] {
        let playing = async {
            let asked = wire.next().await.unwrap();
            progress(&mut wire, &asked, 1).await;
            answer(&mut wire, &asked, "done").await;
        };
        let (stream, ()) = tokio::join!(begin(&served, &session, version, 1), playing);
        let text = stream.text().await.unwrap();
        let priming = text.starts_with("id: c") && text.lines().nth(1) == Some("data: ");
        assert_eq!(priming, primed, "{version}: {text}");
    }
}

#[tokio::test]
async fn nobody_else_gets_it_and_what_is_not_kept_is_refused() {
    let (served, mut wire, session) = opened().await;
    let other = served.open().await;
    let (_, last) = lost(&served, &mut wire, &session, 7).await;
    for (session, last) in [(&other, last.as_str()), (&session, "c999-1")] {
        assert_eq!(come_back(&served, session, last).await.status(), 400);
    }
    assert_eq!(come_back(&served, &session, &last).await.status(), 200);
}

#[tokio::test]
async fn an_event_id_that_is_none_is_no_event_id() {
    let (served, mut wire, session) = opened().await;
    let (huge, long) = (u128::MAX.to_string(), "9".repeat(3000));
    let mut stream = None;
    for last in [
        "", "x", "c", "c-", "c1", "c1-", "c-1-1", "-1", "0x1", "1e3", &huge, &long,
    ] {
        for last in [last.to_owned(), format!("c{last}"), format!("c1-{last}x")] {
            let response = come_back(&served, &session, &last).await;
            assert_eq!(response.status(), 200, "{last:.20}");
            stream = Some(response);
        }
    }
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    wire.write(changed).await;
    read_until(&mut stream.unwrap(), &mut String::new(), "list_changed").await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_wait_is_an_error_and_not_a_stream_without_end() {
    let (served, mut wire, session) = opened().await;
    let (asked, last) = lost(&served, &mut wire, &session, 7).await;
    eventually("the connection is lost", || served.bridge.stats().away == 1).await;
    answer(&mut wire, &asked, &"x".repeat(2 << 20)).await;
    let text = come_back(&served, &session, &last).await.text().await.unwrap();
    assert!(
        text.contains(r#""code":-32000"#) && text.contains(r#""id":7"#),
        "{text}"
    );
}

#[tokio::test]
async fn calls_that_go_on_without_their_clients_are_bounded() {
    let (served, mut wire, session) = opened().await;
    let sessions = [session, served.open().await];
    for session in &sessions {
        for id in 0..40 {
            lost(&served, &mut wire, session, id).await;
        }
    }
    eventually("those beyond the bound are given up", || {
        let stats = served.bridge.stats();
        (stats.away, stats.in_flight) == (64, 64)
    })
    .await;
}

#[tokio::test]
async fn a_newer_stream_of_a_session_ends_the_older_one() {
    let (served, mut wire, session) = opened().await;
    let mut older = come_back(&served, &session, "").await;
    let mut newer = come_back(&served, &session, "").await;
    let end = tokio::time::timeout(Duration::from_mins(2), older.chunk()).await;
    assert!(end.expect("it goes on").unwrap().is_none());
    wire.write(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#)
        .await;
    read_until(&mut newer, &mut String::new(), "list_changed").await;
}

#[tokio::test]
async fn who_ends_its_session_does_not_come_back_and_nothing_is_kept_for_it() {
    let (served, mut wire, session) = opened().await;
    let sessions = [session, served.open().await];
    let (_, last) = lost(&served, &mut wire, &sessions[0], 7).await;
    let (asked, _) = lost(&served, &mut wire, &sessions[1], 7).await;
    let are = |away, in_flight| {
        let stats = served.bridge.stats();
        (stats.away, stats.in_flight) == (away, in_flight)
    };
    eventually("both are away", || are(2, 2)).await;
    answer(&mut wire, &asked, "done").await;
    eventually("one is answered, and waits for its client", || are(2, 1)).await;
    for session in &sessions {
        let delete = served.client.delete(served.url("/mcp"));
        let deleted = delete.header("mcp-session-id", session).send().await.unwrap();
        assert_eq!(deleted.status(), 204);
    }
    eventually("nothing is kept", || are(0, 0)).await;
    assert_eq!(come_back(&served, &sessions[0], &last).await.status(), 404);
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_has_missed_once() {
    let served = with_server(BridgeConfig::default()).await;
    let session = served.open().await;
    let changed = |what: &str| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "notify",
            "params": {"method": format!("notifications/{what}/list_changed")}})
        .to_string()
    };
    let listen = async |last: Option<&str>| {
        let mut request = served
            .client
            .get(served.url("/mcp"))
            .header("mcp-session-id", &session);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.send().await.unwrap()
    };
    // Before the stream is open.
    served.post(Some(&session), changed("tools")).await;
    let mut stream = listen(None).await;
    let mut seen = String::new();
    read_until(
        &mut stream,
        &mut seen,
        "tools/list_changed\",\"params\":null}\n\n",
    )
    .await;
    assert!(seen.starts_with("id: 1\nevent: message\n"), "{seen}");
    drop(stream);
    served.post(Some(&session), changed("prompts")).await;
    served.post(Some(&session), changed("resources")).await;
    let mut stream = listen(Some("1")).await;
    let mut seen = String::new();
    read_until(
        &mut stream,
        &mut seen,
        "resources/list_changed\",\"params\":null}\n\n",
    )
    .await;
    assert!(
        seen.contains("prompts/list_changed") && !seen.contains("tools/list_changed"),
        "{seen}"
    );
    drop(stream);
    // What nobody has missed is not sent again; nonsense counts as nothing seen.
    for last in [None, Some("nonsense"), Some("3")] {
        let mut stream = listen(last).await;
        served.post(Some(&session), changed("tools")).await;
        let mut seen = String::new();
        read_until(&mut stream, &mut seen, "\n\n").await;
        assert!(!seen.contains("prompts") && !seen.contains("resources"), "{seen}");
    }
}
