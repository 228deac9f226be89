//! Both proxies in an application of axum's with its own state, routes, layers and end.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use common::{finish, read_until, run_server, wire};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Method};
use thv_core::{ProxyMode, TransportType};
use thv_proxy::{BridgeConfig, ReverseProxy, ReverseProxyConfig, StdioBridge};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::util::MapResponseLayer;

/// The event stream of a server that never ends it.
async fn endless() -> Response {
    let begun = stream::iter([Ok::<_, Infallible>("event: endpoint\ndata: /messages\n\n")]);
    let body = axum::body::Body::from_stream(begun.chain(stream::pending()));
    ([("content-type", "text/event-stream")], body).into_response()
}

async fn far_away(method: Method) -> Response {
    if method == Method::GET {
        return endless().await;
    }
    "far away".into_response()
}

#[derive(Clone)]
struct App {
    greeting: &'static str,
}

#[tokio::test]
async fn an_application_has_both_proxies_among_its_routes_and_ends_when_it_wants() {
    let stop = CancellationToken::new();
    let run = async |app: Router| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ending = stop.clone().cancelled_owned();
        let serving = axum::serve(listener, app).with_graceful_shutdown(ending);
        (address, tokio::spawn(serving.into_future()))
    };
    let (far, _) = run(Router::new()
        .route("/mcp", any(far_away))
        .route("/sse", get(endless)))
    .await;

    let (io, server) = wire();
    tokio::spawn(run_server(server));
    let bridge = StdioBridge::new(io, BridgeConfig::default()).unwrap();
    let target = format!("http://{far}").parse().unwrap();
    let proxy = ReverseProxy::new(target, ReverseProxyConfig::default()).unwrap();
    let config = ReverseProxyConfig {
        transport: TransportType::Sse,
        ..ReverseProxyConfig::default()
    };
    let sse = ReverseProxy::new(format!("http://{far}").parse().unwrap(), config).unwrap();
    let app = Router::new()
        .route("/hello", get(async |State(app): State<App>| app.greeting))
        .with_state(App { greeting: "hello" })
        .nest("/stdio", bridge.clone().into_router())
        .nest("/far", proxy.clone().into_router())
        .nest("/far-sse", sse.clone().into_router())
        .layer(MapResponseLayer::new(|mut response: Response| {
            let headers = response.headers_mut();
            headers.insert("x-app", HeaderValue::from_static("mine"));
            response
        }));
    let (address, serving) = run(app).await;

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("http://{address}{path}");
    let post = |path: &str, body: &'static str| {
        let request = client.post(url(path)).header("content-type", "application/json");
        finish(request.body(body))
    };
    let hello = finish(client.get(url("/hello"))).await;
    assert_eq!(hello.text, "hello");
    assert_eq!(hello.headers["x-app"], "mine");
    let far = post("/far/mcp", "{}").await;
    assert_eq!(far.text, "far away");
    assert_eq!(far.headers["x-app"], "mine");
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"echo","params":{"here":1}}"#;
    let near = post("/stdio/mcp", call).await;
    assert!(near.text.contains("here"), "{}", near.text);
    assert_eq!(near.headers["x-app"], "mine");
    let rebound = client.get(url("/far/mcp")).header("host", "evil.example");
    assert_eq!(finish(rebound).await.status, 403, "its checks come along");

    let opened = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;
    let opened = post("/stdio/mcp", opened).await;
    let listening = client
        .get(url("/stdio/mcp"))
        .header("accept", "text/event-stream")
        .header("mcp-session-id", &opened.headers["mcp-session-id"]);
    let listening = listening.send().await.unwrap();
    let of_far = client.get(url("/far/mcp")).send().await.unwrap();
    let mut of_far_sse = client.get(url("/far-sse/sse")).send().await.unwrap();
    let mut seen = String::new();
    read_until(
        &mut of_far_sse,
        &mut seen,
        "endpoint\ndata: /far-sse/messages\n\n",
    )
    .await;
    bridge.end_streams();
    proxy.end_streams();
    sse.end_streams();
    stop.cancel();
    for stream in [listening, of_far, of_far_sse] {
        let read = tokio::time::timeout(Duration::from_mins(2), stream.text()).await;
        assert!(
            read.is_ok_and(|read| read.is_ok()),
            "the stream has an end, and is not cut off"
        );
    }
    drop(client);
    let ended = tokio::time::timeout(Duration::from_mins(2), serving).await;
    ended.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn clients_that_speak_sse_are_told_where_the_application_has_the_bridge() {
    let (io, server) = wire();
    tokio::spawn(run_server(server));
    let config = BridgeConfig {
        mode: ProxyMode::Sse,
        ..BridgeConfig::default()
    };
    let bridge = StdioBridge::new(io, config).unwrap();
    let app = Router::new().nest("/tools/{team}", bridge.clone().into_router());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(axum::serve(listener, app).into_future());

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut listening = client
        .get(format!("http://{address}/tools/one/sse"))
        .send()
        .await
        .unwrap();
    let mut seen = String::new();
    read_until(&mut listening, &mut seen, "\n\n").await;
    let endpoint = seen.split_once("data: ").unwrap().1.trim();
    assert!(
        endpoint.starts_with(&format!("http://{address}/tools/one/messages?")),
        "{endpoint}"
    );
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"echo","params":{"here":1}}"#;
    let call = client
        .post(endpoint)
        .header("content-type", "application/json")
        .body(call);
    assert_eq!(finish(call).await.status, 202);
    read_until(&mut listening, &mut seen, "here").await;
    serving.abort();
}

#[test]
fn a_proxy_shows_no_credential_of_its_server() {
    let target = "https://mcp.example/mcp?key=s3cret".parse().unwrap();
    let config = ReverseProxyConfig {
        remote: true,
        ..ReverseProxyConfig::default()
    };
    let shown = format!("{:?}", ReverseProxy::new(target, config).unwrap());
    assert!(
        shown.contains("mcp.example") && !shown.contains("s3cret"),
        "{shown}"
    );
}
