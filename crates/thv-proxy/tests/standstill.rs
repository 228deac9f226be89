//! A stdio server that stands still for a while, which who runs it says. The clock is the test's own.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::initialize_answer;
use common::played::Played;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use thv_proxy::{Body, BridgeConfig, ProxyService, StdioBridge};
use tokio::time::{Instant, sleep, timeout};

const PAUSED: &str = "it is paused: unpause it";
const LONG: Duration = Duration::from_hours(1);

struct Answer {
    status: StatusCode,
    session: Option<String>,
    body: Value,
}

async fn ask(service: &ProxyService, session: Option<&str>, message: &Value) -> Answer {
    let mut request = Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json");
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    let request = request.body(Body::full(message.to_string())).unwrap();
    let response = service.ask(request).await;
    let session = response.headers().get("mcp-session-id");
    Answer {
        status: response.status(),
        session: session.map(|id| id.to_str().unwrap().to_owned()),
        body: serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap(),
    }
}

/// A new session of a client that can be asked for its roots.
async fn open(service: &ProxyService) -> String {
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"roots": {}}});
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
    ask(service, None, &hello).await.session.unwrap()
}

fn call(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "w"})
}

fn assert_refused(answer: &Answer, id: u64) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body["error"]["message"], PAUSED, "{}", answer.body);
    assert_eq!(answer.body["id"], id);
}

#[tokio::test(start_paused = true)]
async fn calls_fail_at_once_and_the_session_goes_on_afterwards() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let session = open(&bridge.service).await;
    let began = Instant::now();
    let (first, second) = (call(1), call(2));
    let under_way = ask(&bridge.service, Some(&session), &first);
    let pausing = async {
        let asked = bridge.wire.next().await.unwrap();
        (bridge.bridge.suspend(PAUSED), asked)
    };
    let (answer, (suspended, asked)) = tokio::join!(under_way, pausing);
    assert_refused(&answer, 1);
    assert_refused(&ask(&bridge.service, Some(&session), &second).await, 2);
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(bridge.bridge.is_suspended());
    assert_eq!(bridge.bridge.stats().in_flight, 0);

    drop(suspended);
    let third = call(3);
    let served = async {
        let told = bridge.wire.next().await.unwrap();
        assert_eq!(told["method"], "notifications/cancelled");
        assert_eq!(told["params"]["requestId"], asked["id"]);
        // It was at the end of its work.
        for id in [&asked["id"], &bridge.wire.next().await.unwrap()["id"]] {
            let answer = json!({"jsonrpc": "2.0", "id": id, "result": "done"});
            bridge.wire.write(&answer.to_string()).await;
        }
    };
    let (answer, ()) = tokio::join!(ask(&bridge.service, Some(&session), &third), served);
    assert_eq!(answer.body, json!({"jsonrpc": "2.0", "id": 3, "result": "done"}));
    assert_eq!(bridge.bridge.stats().unknown_answers, 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_first_answer_of_the_server_is_told_and_the_proxy_itself_goes_on_waiting() {
    let (io, mut wire) = common::wire();
    let bridge = StdioBridge::new(io, BridgeConfig::default()).unwrap();
    let service = bridge.clone().into_service();
    let hello = json!({"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": {}});
    let starting = bridge.initialize();
    let playing = async {
        let waiting = ask(&service, None, &hello);
        let pausing = async {
            let asked = wire.next().await.unwrap();
            (bridge.suspend(PAUSED), asked)
        };
        let (answer, (suspended, asked)) = tokio::join!(waiting, pausing);
        assert_refused(&answer, 7);
        sleep(LONG).await;
        drop(suspended);
        wire.write(&initialize_answer(&asked["id"])).await;
    };
    let (ready, ()) = tokio::join!(starting, playing);
    assert_eq!(ready.unwrap().name, "fake");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_no_room_in_the_queue_fails_too() {
    let config = BridgeConfig {
        queue: 1,
        ..BridgeConfig::default()
    };
    let bridge = Played::new(config).await;
    let session = open(&bridge.service).await;
    // As much as the pipe takes, so that the next one waits in the queue, and the one behind it before that.
    let large = json!({"jsonrpc": "2.0", "id": 1, "method": "w", "params": {"text": "x".repeat(256 << 10)}});
    let (second, third) = (call(2), call(3));
    let began = Instant::now();
    let suspending = async {
        sleep(Duration::from_secs(1)).await;
        bridge.bridge.suspend(PAUSED)
    };
    let asked = |message| ask(&bridge.service, Some(&session), message);
    let (first, second, third, _suspended) =
        tokio::join!(asked(&large), asked(&second), asked(&third), suspending);
    for (id, answer) in (1..).zip([first, second, third]) {
        assert_refused(&answer, id);
    }
    assert_eq!(began.elapsed().as_secs(), 1);
}

/// What the server asks after it has stood still may be meant for whoever was told that it does, however long ago.
#[tokio::test(start_paused = true)]
async fn a_question_for_the_one_who_was_told_reaches_nobody_else() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let (first, second) = (open(&bridge.service).await, open(&bridge.service).await);
    let one = call(1);
    let under_way = ask(&bridge.service, Some(&first), &one);
    let pausing = async {
        bridge.wire.next().await.unwrap();
        bridge.bridge.suspend(PAUSED)
    };
    let (answer, suspended) = tokio::join!(under_way, pausing);
    assert_refused(&answer, 1);
    sleep(LONG).await;
    drop(suspended);
    let two = call(2);
    let served = async {
        let cancelled = bridge.wire.next().await.unwrap();
        assert_eq!(cancelled["method"], "notifications/cancelled");
        let asked = bridge.wire.next().await.unwrap();
        bridge
            .wire
            .write(r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#)
            .await;
        let refused = bridge.wire.next().await.unwrap();
        assert_eq!(refused["id"], 9);
        let reason = refused["error"]["message"].as_str().unwrap();
        assert_eq!(reason, "it is not known which client this is for");
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {}});
        bridge.wire.write(&answer.to_string()).await;
    };
    let (answer, ()) = tokio::join!(ask(&bridge.service, Some(&second), &two), served);
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_told_of_each_five_seconds_and_nothing_else_is() {
    let mut bridge = Played::new(BridgeConfig::default()).await;
    let session = open(&bridge.service).await;
    let idle = timeout(LONG, bridge.bridge.doubted()).await;
    assert!(idle.is_err(), "nobody waits");

    let (first, began) = (call(1), Instant::now());
    let under_way = ask(&bridge.service, Some(&session), &first);
    let looking = async {
        let asked = bridge.wire.next().await.unwrap();
        for seconds in [5, 10, 15] {
            let doubted = timeout(LONG, bridge.bridge.doubted()).await;
            doubted.expect("nobody is told that it waits");
            assert_eq!(began.elapsed().as_secs(), seconds);
        }
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": "slow"});
        bridge.wire.write(&answer.to_string()).await;
    };
    let (answer, ()) = tokio::join!(under_way, looking);
    assert_eq!(answer.body["result"], "slow");
    let over = timeout(LONG, bridge.bridge.doubted()).await;
    assert!(over.is_err(), "nobody waits any more");
}
