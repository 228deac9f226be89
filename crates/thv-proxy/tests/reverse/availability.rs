//! Whether the server is there, and how that is found out.

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::any;
use thv_proxy::{Body, ProxyError, ReverseProxy, ReverseProxyConfig};
use tokio::net::{TcpSocket, TcpStream};
use url::Url;

use crate::common::finish;
use crate::fixture::{Running, client, proxy, setting};

#[tokio::test]
async fn a_server_that_is_down_is_a_json_rpc_error_and_seen_in_health() {
    // Nobody else has the port, and nobody listens.
    let unused = TcpSocket::new_v4().unwrap();
    unused.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let target: Url = format!("http://{}", unused.local_addr().unwrap())
        .parse()
        .unwrap();
    let proxy = proxy(target.clone(), ReverseProxyConfig::default()).await;
    let answer = finish(
        client()
            .post(proxy.url("/mcp"))
            .body(r#"{"jsonrpc":"2.0","id":"a","method":"m"}"#),
    )
    .await;
    assert_eq!(answer.status, 502);
    assert_eq!(
        answer.text,
        r#"{"error":{"code":-32000,"message":"the server is not reachable"},"id":"a","jsonrpc":"2.0"}"#
    );
    assert!(
        finish(client().get(proxy.url("/health")))
            .await
            .text
            .contains(r#""status":"degraded""#)
    );
    let asked = ReverseProxy::new(target, ReverseProxyConfig::default()).unwrap();
    let error = asked.initialize(Duration::from_mins(2)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

/// What a client asks for may be three times as long once it is written as URLs are.
#[tokio::test]
async fn who_asks_for_what_no_server_can_be_asked_says_nothing_about_the_server() {
    let server = Running::new(Router::new().fallback(async || "ok")).await;
    for remote in [false, true] {
        let (target, config) = if remote {
            let config = ReverseProxyConfig {
                remote,
                ..ReverseProxyConfig::default()
            };
            ("https://localhost:1".parse().unwrap(), config)
        } else {
            (server.url("/"), ReverseProxyConfig::default())
        };
        let proxy = ReverseProxy::new(target, config).unwrap();
        let path = format!("/{}", "{".repeat(30_000));
        let request = Request::get(path).header("host", "localhost");
        let request = request.body(Body::empty()).unwrap();
        let answer = proxy.clone().into_service().ask(request).await;
        assert_eq!(answer.status(), StatusCode::URI_TOO_LONG);
        assert_eq!(proxy.available(), None);
    }
}

/// A listener whose queue is full: the system answers nobody more.
#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_given_up() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let busy = socket.listen(0).unwrap();
    let address = busy.local_addr().unwrap();
    let _waiting = TcpStream::connect(address).await.unwrap();
    for scheme in ["http", "https"] {
        let config = ReverseProxyConfig {
            connect_timeout: Duration::from_millis(100),
            ..ReverseProxyConfig::default()
        };
        let proxy = proxy(format!("{scheme}://{address}").parse().unwrap(), config).await;
        let call = client().post(proxy.url("/mcp"));
        let answer = finish(call.body(r#"{"jsonrpc":"2.0","id":7,"method":"m"}"#)).await;
        assert_eq!(answer.status, 502, "{scheme}: {}", answer.text);
        assert!(answer.text.contains("not reachable") && answer.text.contains(r#""id":7"#));
    }
    drop(busy);
}

#[tokio::test]
async fn the_probe_believes_an_answer_to_initialize_and_nothing_else() {
    let answer =
        |kind: &'static str, body: &'static str| move || async move { ([("content-type", kind)], body) };
    let router = Router::new()
        .route("/json", any(answer("application/json", r#"{"jsonrpc":"2.0","id":"toolhive-init-check","result":{"protocolVersion":"2025-06-18","serverInfo":{"name":"n","version":"2"}}}"#)))
        .route("/sse", any(answer("text/event-stream", "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"toolhive-init-check\",\"result\":{\"serverInfo\":{\"name\":\"s\"}}}\n\n")))
        .route("/error", any(answer("application/json", r#"{"jsonrpc":"2.0","id":"toolhive-init-check","error":{"code":1,"message":"no"}}"#)))
        .route("/packed", any(|| async { ([("content-type", "text/event-stream"), ("content-encoding", "gzip")], "no text") }))
        .route("/page", any(answer("text/html", "<html>")))
        .route("/starting", any(|| async { StatusCode::SERVICE_UNAVAILABLE.into_response() as Response }));
    let server = Running::new(router).await;
    let ask = |path: &str| {
        let url = server.url(path);
        let remote = ReverseProxyConfig {
            remote: true,
            ..ReverseProxyConfig::default()
        };
        let proxy = ReverseProxy::new(url, remote).unwrap();
        async move { proxy.initialize(Duration::from_mins(2)).await }
    };
    let ready = ask("/json").await.unwrap();
    assert_eq!(
        (
            ready.name.as_str(),
            ready.version.as_str(),
            ready.protocol_version.as_str()
        ),
        ("n", "2", "2025-06-18")
    );
    assert_eq!(ask("/sse").await.unwrap().name, "s");
    assert!(matches!(ask("/error").await, Err(ProxyError::Refused { .. })));
    let packed = ask("/packed").await.unwrap_err();
    assert!(packed.to_string().contains("compressed"), "{packed}");
    assert!(matches!(ask("/page").await, Err(ProxyError::Refused { .. })));
    assert!(matches!(ask("/nothing").await, Err(ProxyError::Refused { .. })));
    assert!(ask("/starting").await.unwrap_err().is_retryable());
}

/// A server as Starlette mounts it, which wants a key: `/mcp` is redirected, and without the key there is nothing.
fn guarded_server() -> Router {
    let answer = |headers: HeaderMap| async move {
        if headers.get("x-key").is_none_or(|key| key != "k") {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let body = r#"{"jsonrpc":"2.0","id":"toolhive-init-check","result":{"serverInfo":{"name":"n"}}}"#;
        ([("content-type", "application/json")], body).into_response()
    };
    Router::new()
        .route("/mcp", any(|| async { Redirect::temporary("/mcp/") }))
        .route("/mcp/", any(answer))
}

#[tokio::test]
async fn the_probe_goes_the_way_of_a_clients_request() {
    let server = Running::new(guarded_server()).await;
    for (target, remote) in [(server.url(""), false), (server.url("/mcp"), true)] {
        let config = ReverseProxyConfig {
            remote,
            layers: vec![setting("x-key")],
            ..ReverseProxyConfig::default()
        };
        let proxy = ReverseProxy::new(target.clone(), config.clone()).unwrap();
        let ready = proxy.initialize(Duration::from_mins(2)).await.unwrap();
        assert_eq!(ready.name, "n");
        proxy.reachable(Duration::from_mins(2)).await.unwrap();
        assert_eq!(proxy.available(), Some(true));

        let keyless = ReverseProxyConfig {
            layers: Vec::new(),
            ..config
        };
        let proxy = ReverseProxy::new(target, keyless).unwrap();
        let error = proxy.initialize(Duration::from_mins(2)).await.unwrap_err();
        assert!(error.to_string().contains("401"), "{error}");
    }
}
