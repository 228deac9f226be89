//! The end of a proxy with calls under way.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Served, finish, read_until, served_with, soon, wire, with_wire};
use serde_json::json;
use thv_core::ProxyMode;
use thv_proxy::{BridgeConfig, BridgeEnd, ServeOptions, StdioBridge};

fn sse() -> BridgeConfig {
    BridgeConfig {
        mode: ProxyMode::Sse,
        ..BridgeConfig::default()
    }
}

async fn connect(served: &Served) -> (reqwest::Response, String) {
    let mut stream = served.client.get(served.url("/sse")).send().await.unwrap();
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "\n\n").await;
    let endpoint = seen.split("data: ").nth(1).unwrap().trim().to_owned();
    (stream, endpoint)
}

async fn ask(served: &Served, endpoint: &str, id: u32) {
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"w"}}"#);
    let request = served
        .client
        .post(endpoint)
        .header("content-type", "application/json");
    assert_eq!(finish(request.body(body)).await.status, 202);
}

/// What still comes on a stream until it ends properly.
async fn rest(mut stream: reqwest::Response) -> String {
    let mut seen = String::new();
    let reading = async {
        while let Some(chunk) = stream.chunk().await.expect("the stream was cut off") {
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    soon("the end of the stream", reading).await;
    seen
}

/// The end of its listener and of all connections.
async fn ends(served: &mut Served) {
    soon("the end of the proxy", &mut served.server).await.unwrap();
}

#[tokio::test]
async fn an_sse_stream_ends_when_the_calls_under_way_are_answered() {
    let (mut served, mut wire) = with_wire(sse()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let (stream, endpoint) = connect(&served).await;
    let (idle, _) = connect(&served).await;
    ask(&served, &endpoint, 7).await;
    let asked = wire.next().await.unwrap();
    served.bridge.end_streams();
    served.stop.cancel();
    assert_eq!(rest(idle).await, "", "nothing is owed on it");
    wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": "late"}).to_string())
        .await;
    let seen = rest(stream).await;
    assert!(seen.contains("late") && seen.contains(r#""id":7"#), "{seen}");
    ends(&mut served).await;
}

#[tokio::test]
async fn what_is_owed_at_the_end_of_the_drain_is_an_error() {
    let (io, mut wire) = wire();
    let options = ServeOptions {
        drain: Duration::from_millis(200),
        ..ServeOptions::default()
    };
    let mut served = served_with(StdioBridge::new(io, sse()).unwrap(), options).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let (stream, endpoint) = connect(&served).await;
    ask(&served, &endpoint, 7).await;
    wire.next().await.unwrap();
    served.stop.cancel();
    let seen = rest(stream).await;
    assert!(
        seen.contains("-32000") && seen.contains(r#""id":7"#) && seen.contains("ended before"),
        "{seen}"
    );
    ends(&mut served).await;
    assert_eq!(served.bridge.stats().in_flight, 0);
}

#[tokio::test]
async fn shutdown_ends_open_streams_properly_lets_calls_finish_and_frees_the_port() {
    let (mut served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (session, ()) = tokio::join!(served.open(), wire.handshake());
    let mut stream = served
        .client
        .get(served.url("/mcp"))
        .header("mcp-session-id", &session)
        .send()
        .await
        .unwrap();
    let call = tokio::spawn(finish(
        served.post_request(None, r#"{"jsonrpc":"2.0","id":1,"method":"w"}"#),
    ));
    let asked = wire.next().await.unwrap();
    served.stop.cancel();
    let end = soon("the end of the stream", stream.chunk()).await;
    assert!(end.unwrap().is_none(), "the stream was cut off");
    assert!(!served.server.is_finished());
    wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": "done"}).to_string())
        .await;
    assert!(call.await.unwrap().text.contains("done"));
    ends(&mut served).await;
    tokio::net::TcpListener::bind(served.address).await.unwrap();
    served.bridge.shutdown().await;
    assert_eq!(served.bridge.closed().await, BridgeEnd::Closed);
}

#[tokio::test]
async fn connections_on_which_nothing_is_asked_are_closed_at_once() {
    let (io, far) = wire();
    tokio::spawn(common::run_server(far));
    let options = ServeOptions {
        drain: Duration::from_hours(1),
        head_timeout: Duration::from_hours(1),
        ..ServeOptions::default()
    };
    let mut served = served_with(StdioBridge::new(io, BridgeConfig::default()).unwrap(), options).await;
    // The client keeps the connection.
    assert_eq!(finish(served.client.get(served.url("/health"))).await.status, 200);
    served.stop.cancel();
    ends(&mut served).await;
}

#[tokio::test]
async fn what_does_not_finish_is_closed_at_the_deadline() {
    let (io, far) = wire();
    tokio::spawn(common::run_server(far));
    let options = ServeOptions {
        drain: Duration::from_millis(200),
        ..ServeOptions::default()
    };
    let mut served = served_with(StdioBridge::new(io, BridgeConfig::default()).unwrap(), options).await;
    let call = tokio::spawn(
        served
            .post_request(None, r#"{"jsonrpc":"2.0","id":1,"method":"slow"}"#)
            .send(),
    );
    common::eventually("the call waits", || served.bridge.stats().in_flight == 1).await;
    served.stop.cancel();
    ends(&mut served).await;
    assert!(call.await.unwrap().is_err());
    assert_eq!(served.bridge.stats().in_flight, 0);
}

#[tokio::test]
async fn a_listener_that_is_dropped_closes_everything_at_once() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let call = served.post_request(None, r#"{"jsonrpc":"2.0","id":1,"method":"w"}"#);
    let call = tokio::spawn(call.send());
    wire.next().await.unwrap();
    served.server.abort();
    let ended = soon("the end of the call", call).await;
    assert!(ended.unwrap().is_err(), "its connection is closed");
}
