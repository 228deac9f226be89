//! A proxy while its server comes and goes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Answer, finish, run_server, wire};
use thv_core::TransportType;
use thv_proxy::{BridgeConfig, Front, Layer, ServeOptions, StdioBridge, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn without_a_server_strangers_are_refused_health_is_degraded_and_requests_get_their_id_back() {
    let front = Front::new(TransportType::Stdio, Layer::standard());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let service = front.clone().into_service();
    let serving = tokio::spawn(serve(listener, service, ServeOptions::default(), stop.clone()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = |host: Option<&str>| {
        let body = r#"{"jsonrpc":"2.0","id":"mine","method":"echo","params":{}}"#;
        let request = client
            .post(format!("{url}/mcp"))
            .header("content-type", "application/json")
            .body(body);
        finish(match host {
            Some(host) => request.header("host", host),
            None => request,
        })
    };
    let get = |path: &str| finish(client.get(format!("{url}{path}")));
    let degraded = |health: Answer| {
        assert_eq!(health.status, 200);
        assert!(
            health.text.starts_with(r#"{"status":"degraded","timestamp":""#)
                && health.text.contains(r#""transport":"stdio""#),
            "{}",
            health.text
        );
    };

    let alone = post(None).await;
    assert_eq!(
        (alone.status, &alone.headers["retry-after"]),
        (503, &"5".parse().unwrap())
    );
    assert_eq!(
        alone.text,
        r#"{"error":{"code":-32000,"message":"the server is not running, try again later"},"id":"mine","jsonrpc":"2.0"}"#
    );
    assert_eq!(post(Some("evil.example")).await.status, 403);
    degraded(get("/health").await);
    let posted = client.post(format!("{url}/health")).body("{}");
    assert_eq!(finish(posted).await.status, 405);
    assert_eq!(get("/.well-known/x").await.status, 404);
    assert_eq!(get("/mcp").await.status, 503);

    let (io, far) = wire();
    tokio::spawn(run_server(far));
    let config = BridgeConfig {
        layers: Vec::new(),
        ..BridgeConfig::default()
    };
    let bridge = StdioBridge::new(io, config).unwrap();
    front.open(bridge.clone().into_service());
    degraded(get("/health").await);
    assert_eq!(post(None).await.status, 200);
    assert_eq!(post(Some("evil.example")).await.status, 403, "checked for all");
    assert!(get("/health").await.text.starts_with(r#"{"status":"healthy""#));
    front.shut();
    assert_eq!(post(None).await.status, 503);
    stop.cancel();
    serving.await.unwrap();
}
