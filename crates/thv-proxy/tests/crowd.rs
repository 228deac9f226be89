//! A thousand event streams at one time: each gets what is for all, and further ones are told that there are too many.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::played::Played;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use thv_core::ProxyMode;
use thv_proxy::{Body, BridgeConfig, ProxyService};

const CROWD: usize = 1000;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

fn config(mode: ProxyMode) -> BridgeConfig {
    BridgeConfig {
        mode,
        max_sessions: CROWD,
        ..BridgeConfig::default()
    }
}

async fn get(service: &ProxyService, path: &str, session: Option<&str>) -> Response<Body> {
    let mut request = Request::get(path).header("host", "localhost");
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    service.ask(request.body(Body::empty()).unwrap()).await
}

async fn initialize(service: &ProxyService) -> Response<Body> {
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
    let request = Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json");
    service.ask(request.body(Body::full(hello)).unwrap()).await
}

/// Reads the stream until it says this.
async fn reads(stream: &mut Response<Body>, wanted: &str) {
    let mut seen = String::new();
    while !seen.contains(wanted) {
        let frame = stream.body_mut().frame().await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_thousand_sessions_listen_and_one_more_is_refused() {
    let mut played = Played::new(config(ProxyMode::StreamableHttp)).await;
    let (mut ids, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..CROWD {
        let opened = initialize(&played.service).await;
        let id = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        streams.push(get(&played.service, "/mcp", Some(&id)).await);
        ids.push(id);
    }
    let refused = initialize(&played.service).await;
    assert_eq!(refused.status(), 503);
    assert!(text(refused).await.contains("too many sessions"));
    played.wire.write(NOTE).await;
    for stream in &mut streams {
        reads(stream, "list_changed").await;
    }
    // A session has one stream: another takes its place.
    let mut newer = get(&played.service, "/mcp", Some(&ids[0])).await;
    assert!(streams[0].body_mut().frame().await.is_none());
    played.wire.write(NOTE).await;
    reads(&mut newer, "list_changed").await;
    // One that goes makes room.
    drop(streams.pop());
    assert_eq!(initialize(&played.service).await.status(), 200);
    assert_eq!(
        get(&played.service, "/mcp", Some(&ids[CROWD - 1])).await.status(),
        404
    );
}

#[tokio::test]
async fn a_thousand_sse_clients_listen_and_one_more_is_refused() {
    let mut played = Played::new(config(ProxyMode::Sse)).await;
    let mut streams = Vec::new();
    for _ in 0..CROWD {
        let mut stream = get(&played.service, "/sse", None).await;
        assert_eq!(stream.headers()["x-accel-buffering"], "no");
        reads(&mut stream, "event: endpoint").await;
        streams.push(stream);
    }
    let refused = get(&played.service, "/sse", None).await;
    assert_eq!(refused.status(), 503);
    assert!(text(refused).await.contains("too many sessions"));
    played.wire.write(NOTE).await;
    for stream in &mut streams {
        reads(stream, "list_changed").await;
    }
    drop(streams);
    // Nobody listens any more: each of them makes room.
    assert_eq!(get(&played.service, "/sse", None).await.status(), 200);
}
