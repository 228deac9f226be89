//! What ends by time alone: the clock is the test's own, and everything is in memory.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::played::Played;
use common::{Again, wire};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use thv_proxy::{Backend, BackendIo, Body, BridgeConfig, BridgeEnd, StdioBridge};
use tokio::time::{Instant, sleep};

fn post(session: Option<&str>, message: &Value) -> Request<Body> {
    let request = Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json");
    let request = match session {
        Some(session) => request.header("mcp-session-id", session),
        None => request,
    };
    request.body(Body::full(message.to_string())).unwrap()
}

fn get(session: &str, last: &str) -> Request<Body> {
    let request = Request::get("/mcp").header("host", "localhost");
    let request = request
        .header("mcp-session-id", session)
        .header("last-event-id", last);
    request.body(Body::empty()).unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Played {
    /// A new session of a client that can be asked for its roots.
    async fn open(&self) -> String {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"roots": {}}});
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let answer = self.service.ask(post(None, &hello)).await;
        answer.headers()["mcp-session-id"].to_str().unwrap().to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_without_an_event_stream_keeps_the_server_waiting_for_a_moment_only() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    bridge.open().await;
    let began = Instant::now();
    bridge
        .wire
        .write(r#"{"jsonrpc":"2.0","id":4,"method":"roots/list"}"#)
        .await;
    let answer = bridge.wire.next().await.unwrap();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(4), &json!(-32000))
    );
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_to_initialize_and_then_says_nothing_is_not_waited_for_longer_than_a_moment() {
    let (io, mut far) = wire();
    let bridge = StdioBridge::new(io, BridgeConfig::default()).unwrap();
    let began = Instant::now();
    let refusing = async {
        let asked = far.next().await.unwrap();
        let error = json!({"code": -32601, "message": "no such method here"});
        far.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "error": error}).to_string())
            .await;
        assert_eq!(far.next().await.unwrap()["method"], "server/discover");
    };
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}});
    let service = bridge.into_service();
    let (answer, ()) = tokio::join!(service.ask(post(None, &hello)), refusing);
    assert_eq!(began.elapsed().as_secs(), 5);
    let said = text(answer).await;
    assert!(said.contains("no such method here"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_uses_is_forgotten_at_its_time() {
    let config = BridgeConfig {
        session_ttl: Duration::from_secs(100),
        ..BridgeConfig::default()
    };
    let mut bridge = Played::new(config).await;
    let session = bridge.open().await;
    let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "x"}});
    for _ in 0..3 {
        sleep(Duration::from_secs(99)).await;
        let used = bridge.service.ask(post(Some(&session), &note)).await;
        assert_eq!(used.status(), StatusCode::ACCEPTED);
        assert_eq!(bridge.bridge.stats().sessions, 1);
    }
    sleep(Duration::from_millis(100_100)).await;
    let unknown = bridge.service.ask(post(Some(&session), &call)).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert!(text(unknown).await.contains("-32001"));
    // Its memory is given back though nobody asks for it, and the server told that nobody listens any more.
    let session = bridge.open().await;
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": {"uri": "a"}});
    let playing = async {
        let asked = bridge.wire.next().await.unwrap();
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {}});
        bridge.wire.write(&answer.to_string()).await;
    };
    let (subscribed, ()) = tokio::join!(bridge.service.ask(post(Some(&session), &call)), playing);
    assert_eq!(subscribed.status(), StatusCode::OK);
    let told = tokio::time::timeout(Duration::from_secs(200), bridge.wire.next()).await;
    assert_eq!(told.unwrap().unwrap()["method"], "resources/unsubscribe");
    assert_eq!(bridge.bridge.stats().sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_answered_ends_at_its_time_and_the_server_is_told() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let session = bridge.open().await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "w"});
    let began = Instant::now();
    let (answer, asked) = tokio::join!(
        bridge.service.ask(post(Some(&session), &call)),
        bridge.wire.next()
    );
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(began.elapsed().as_secs(), 60);
    let told = bridge.wire.next().await.unwrap();
    assert_eq!(told["method"], "notifications/cancelled");
    assert_eq!(told["params"]["requestId"], asked.unwrap()["id"]);
    assert_eq!(bridge.bridge.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_finished_stream_is_kept_for_a_client_that_comes_back_soon() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let session = bridge.open().await;
    let params = json!({"_meta": {"progressToken": "mine"}});
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "w", "params": params});
    let mut request = post(Some(&session), &call);
    for (name, value) in [
        ("accept", "text/event-stream"),
        ("mcp-protocol-version", "2025-11-25"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    // The answer comes late enough for its stream to have begun.
    let (stream, asked) = tokio::join!(bridge.service.ask(request), bridge.wire.next());
    let asked = asked.unwrap();
    let first = stream
        .into_body()
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    let first = String::from_utf8(first.to_vec()).unwrap();
    let last = first.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bridge.bridge.stats().away, 1);
    bridge
        .wire
        .write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": "done"}).to_string())
        .await;
    sleep(Duration::from_secs(29)).await;
    let back = bridge.service.ask(get(&session, last)).await;
    assert_eq!(back.status(), StatusCode::OK);
    assert!(text(back).await.contains("done"));
    sleep(Duration::from_secs(2)).await;
    let late = bridge.service.ask(get(&session, last)).await;
    assert_eq!(late.status(), StatusCode::BAD_REQUEST, "it is kept without end");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_long_comes_on_a_stream_that_is_kept_open() {
    let config = BridgeConfig {
        request_timeout: Duration::from_hours(1),
        ..BridgeConfig::default()
    };
    let mut bridge = Played::new(config).await;
    let session = bridge.open().await;
    let mut streams = Vec::new();
    for (id, more) in [("a", json!({})), ("b", json!({"params": {}}))] {
        let mut call = json!({"jsonrpc": "2.0", "id": id, "method": "w"});
        call.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let mut request = post(Some(&session), &call);
        let accept = "text/event-stream".parse().unwrap();
        request.headers_mut().insert("accept", accept);
        // The head comes although the answer does not.
        let mut stream = bridge.service.ask(request).await.into_body();
        let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, ": keep-alive\n\n");
        streams.push((stream, id));
    }
    for (stream, id) in streams {
        let asked = bridge.wire.next().await.unwrap();
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": "late"});
        bridge.wire.write(&answer.to_string()).await;
        let rest = text(Response::new(stream)).await;
        assert!(
            rest.contains("late") && rest.contains(&format!(r#""id":"{id}""#)),
            "{rest}"
        );
    }
}

/// A server that is away, and when it was asked for.
#[derive(Debug)]
struct Away {
    began: Instant,
    asked: Mutex<Vec<u64>>,
}

#[async_trait::async_trait]
impl Backend for Away {
    async fn attach(&self) -> std::io::Result<Option<BackendIo>> {
        self.asked.lock().unwrap().push(self.began.elapsed().as_secs());
        Err(std::io::Error::other("it is not there"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_asked_for_ever_more_rarely_and_then_given_up() {
    let away = Arc::new(Away {
        began: Instant::now(),
        asked: Mutex::default(),
    });
    let (io, far) = wire();
    let backend = Arc::clone(&away);
    let bridge = StdioBridge::with_backend(io, backend, BridgeConfig::default()).unwrap();
    drop(far);
    let end = bridge.closed().await;
    assert!(
        matches!(&end, BridgeEnd::Unreachable { reason } if reason.contains("not there")),
        "{end:?}"
    );
    // After 0, 2, 4, 8, 16 and then 30 seconds; the first connection may be read to its end a second longer.
    let asked = away.asked.lock().unwrap().clone();
    let pauses: Vec<u64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(pauses, [2, 4, 8, 16, 30, 30, 30, 30, 30]);
    assert!(asked[0] <= 1, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_an_error_to_the_server() {
    let config = BridgeConfig {
        stream_buffer: 1,
        ..BridgeConfig::default()
    };
    let mut bridge = Played::new(config).await;
    let session = bridge.open().await;
    let unread = bridge.service.ask(get(&session, "")).await;
    for id in 1..=2 {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "roots/list"});
        bridge.wire.write(&message.to_string()).await;
    }
    let answer = bridge.wire.next().await.unwrap();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(2), &json!(-32000))
    );
    drop(unread);
    // What was refused is not asked of a client that comes back.
    let mut back = bridge.service.ask(get(&session, "1")).await.into_body();
    let more = tokio::time::timeout(Duration::from_secs(20), back.frame()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_server_that_is_gone_does_not_reach_the_next_one() {
    let (second, mut next) = wire();
    let backend = Arc::new(Again(Mutex::new(Some(second))));
    let bridge = Played::with_backend(backend, BridgeConfig::default()).await;
    let session = bridge.open().await;
    let mut stream = bridge.service.ask(get(&session, "")).await.into_body();
    let Played {
        service, mut wire, ..
    } = bridge;
    wire.write(r#"{"jsonrpc":"2.0","id":4,"method":"roots/list"}"#)
        .await;
    stream.frame().await.unwrap().unwrap();
    drop(wire);
    sleep(Duration::from_secs(5)).await;
    let answer = json!({"jsonrpc": "2.0", "id": "s0", "result": {"roots": []}});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "echo"});
    let asking = async {
        let taken = service.ask(post(Some(&session), &answer)).await;
        assert_eq!(taken.status(), StatusCode::ACCEPTED);
        service.ask(post(Some(&session), &call)).await.status()
    };
    let playing = async {
        next.handshake().await;
        let asked = next.next().await.unwrap();
        assert_eq!(asked["method"], "echo", "it is told what nobody has asked it for");
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": 1});
        next.write(&answer.to_string()).await;
    };
    assert_eq!(tokio::join!(asking, playing).0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_session_that_can_be_come_back_to_are_bounded() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let session = bridge.open().await;
    let mut streams = Vec::new();
    for id in 0..65 {
        let params = json!({"_meta": {"progressToken": id}});
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "w", "params": params});
        let mut request = post(Some(&session), &call);
        let accept = "text/event-stream".parse().unwrap();
        request.headers_mut().insert("accept", accept);
        let playing = async {
            let asked = bridge.wire.next().await.unwrap();
            let token = &asked["params"]["_meta"]["progressToken"];
            let params = json!({"progressToken": token, "progress": 1});
            let message = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
            bridge.wire.write(&message.to_string()).await;
        };
        let (stream, ()) = tokio::join!(bridge.service.ask(request), playing);
        let mut stream = stream.into_body();
        let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.starts_with(b"id: c"), id < 64, "{id}");
        streams.push(stream);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_waits_for_any_more_is_not_written() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let call = |id: i64, method: &str, text: &str| {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": [text]});
        bridge.service.ask(post(None, &message))
    };
    // The pipe holds 64 KiB: the first call is written in part, those behind it wait.
    let first = tokio::spawn(call(1, "first", &"z".repeat(200_000)));
    while bridge.bridge.stats().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    let second = call(2, "second", "").await.status();
    let late = StatusCode::GATEWAY_TIMEOUT;
    assert_eq!((first.await.unwrap().status(), second), (late, late));
    let playing = async {
        let first = bridge.wire.next().await.unwrap();
        assert_eq!(first["method"], "first");
        let cancelled = bridge.wire.next().await.unwrap();
        assert_eq!(cancelled["method"], "notifications/cancelled");
        assert_eq!(cancelled["params"]["requestId"], first["id"]);
        let third = bridge.wire.next().await.unwrap();
        assert_eq!(third["method"], "third", "neither the second nor a word about it");
        let answer = json!({"jsonrpc": "2.0", "id": third["id"], "result": 3});
        bridge.wire.write(&answer.to_string()).await;
    };
    let (third, ()) = tokio::join!(call(3, "third", ""), playing);
    assert_eq!(third.status(), StatusCode::OK);
}
