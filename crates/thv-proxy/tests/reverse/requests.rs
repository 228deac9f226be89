//! What of a request reaches the server, and what of its answer comes back.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use thv_core::TransportType;
use thv_proxy::{Layer, ProxyError, ReverseProxy, ReverseProxyConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::common::{finish, read_until};
use crate::fixture::{Running, client, mirror, proxy, setting};

/// As requests of HTTP/2 do, where an application speaks it.
#[tokio::test]
async fn what_http2_says_in_other_ways_is_said_as_in_http1() {
    let server = Running::new(Router::new().fallback(mirror)).await;
    let proxy = ReverseProxy::new(server.url("/"), ReverseProxyConfig::default()).unwrap();
    let request = http::Request::get("http://localhost:7777/mcp?x=%20");
    let request = request.header("cookie", "a=1").header("cookie", "b=2");
    let request = request.body(thv_proxy::Body::empty()).unwrap();
    let answer = proxy.into_service().ask(request).await;
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.starts_with("GET /mcp?x=%20\n"), "{text}");
    assert!(text.contains("x-forwarded-host: localhost:7777\n"), "{text}");
    assert!(text.contains("cookie: a=1; b=2\n"), "{text}");
}

#[tokio::test]
async fn a_length_that_a_server_says_twice_is_passed_on_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}", listener.local_addr().unwrap());
    let proxy = proxy(target.parse().unwrap(), ReverseProxyConfig::default()).await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for body in ["", "hello"] {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    for method in [Method::HEAD, Method::GET] {
        let answer = finish(client().request(method.clone(), proxy.url("/"))).await;
        let said: Vec<_> = answer.headers.get_all("content-length").iter().collect();
        assert_eq!(
            (answer.status, said),
            (200, vec![&HeaderValue::from_static("5")]),
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_request_reaches_a_local_server_as_it_was_sent() {
    let server = Running::new(Router::new().fallback(mirror)).await;
    let config = ReverseProxyConfig {
        layers: vec![setting("x-outer-key"), Layer::strip_auth(), setting("x-api-key")],
        ..ReverseProxyConfig::default()
    };
    let proxy = proxy(server.url("/ignored"), config).await;
    let request = client()
        .post(proxy.url("/a/b?x=1&y=%20"))
        .header("x-kept", "yes")
        .header("x-api-key", "client's")
        .header("authorization", "Bearer of-the-client")
        .header("proxy-authorization", "Basic of-the-client")
        .header("cookie", "of-the-client")
        .header("x-forwarded-host", "forged")
        .header("forwarded", "for=forged")
        .header("x-real-ip", "forged")
        .header("connection", "x-hop, x-outer-key, x-api-key")
        .header("x-hop", "1")
        .body(r#"{ "id" : 1 }"#);
    let text = finish(request).await.text;
    assert!(
        text.starts_with("POST /a/b?x=1&y=%20\n") && text.ends_with("\n\n{ \"id\" : 1 }"),
        "{text}"
    );
    assert!(text.contains(&format!("host: {}\n", server.address)), "{text}");
    assert!(
        text.contains(&format!("x-forwarded-host: {}\n", proxy.address)),
        "{text}"
    );
    assert!(text.contains("x-forwarded-for: 127.0.0.1\n"), "{text}");
    assert!(
        text.contains("x-kept: yes\n")
            && text.contains("x-api-key: k\n")
            && text.contains("x-outer-key: k\n")
            && text.contains("x-forwarded-proto: http")
    );
    assert!(
        !["x-hop", "of-the-client", "client's", "forged"]
            .iter()
            .any(|hidden| text.contains(hidden)),
        "{text}"
    );
}

#[tokio::test]
async fn the_path_of_a_remote_replaces_the_clients_and_its_query_comes_first() {
    let server = Running::new(Router::new().fallback(mirror)).await;
    let config = ReverseProxyConfig {
        remote: true,
        ..ReverseProxyConfig::default()
    };
    let proxy = proxy(server.url("/api/mcp?key=1"), config).await;
    let request = client().post(proxy.url("/mcp?c=2")).body("{}");
    let text = finish(request.header("x-forwarded-host", "forged")).await.text;
    assert!(text.starts_with("POST /api/mcp?key=1&c=2\n"), "{text}");
    assert!(!text.contains("x-forwarded-host"), "{text}");
}

#[tokio::test]
async fn bad_requests_do_not_reach_the_server() {
    let server = Running::new(Router::new().fallback(mirror)).await;
    let config = ReverseProxyConfig {
        body_limit: 100,
        stateless: true,
        ..ReverseProxyConfig::default()
    };
    let proxy = proxy(server.url("/"), config).await;
    for (request, status, text) in [
        (client().post(proxy.url("/mcp")).body(" [{}]"), 400, "-32600"),
        (
            client().post(proxy.url("/mcp")).body("x".repeat(101)),
            413,
            "Too Large",
        ),
        (client().get(proxy.url("/mcp")), 405, ""),
        (client().post(proxy.url("/health")).body("{}"), 405, ""),
        (client().delete(proxy.url("/health")), 405, ""),
        (client().get(proxy.url("/metrics")), 404, ""),
        (client().get(proxy.url("/.well-known/x")), 404, "not_found"),
        (
            client()
                .post(proxy.url("/mcp"))
                .header("host", "evil.example")
                .body("{}"),
            403,
            "Host not allowed",
        ),
        (
            client()
                .post(proxy.url("/mcp"))
                .header("origin", "null")
                .body("{}"),
            403,
            "Origin not allowed",
        ),
        (
            client().get(proxy.url("/health")),
            200,
            r#""transport":"streamable-http""#,
        ),
    ] {
        let answer = finish(request).await;
        assert!(
            answer.status == status && answer.text.contains(text),
            "{status}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn answers_are_passed_on_while_the_server_still_writes() {
    let (chunks, receiver) = mpsc::channel::<&'static str>(1);
    let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(Some(receiver)));
    let handler = move || {
        let receiver = std::sync::Arc::clone(&receiver);
        async move {
            let receiver = receiver.lock().await.take().unwrap();
            let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
                Some((
                    Ok::<_, std::convert::Infallible>(receiver.recv().await?),
                    receiver,
                ))
            });
            (
                [("content-type", "text/event-stream")],
                Body::from_stream(stream.boxed()),
            )
                .into_response()
        }
    };
    let server = Running::new(Router::new().route("/sse", get(handler))).await;
    let config = ReverseProxyConfig {
        transport: TransportType::Sse,
        ..ReverseProxyConfig::default()
    };
    let proxy = proxy(server.url(""), config).await;
    let mut stream = client().get(proxy.url("/sse")).send().await.unwrap();
    let mut seen = String::new();
    chunks.send("event: endpoint\r\ndata: ").await.unwrap();
    let absolute: &'static str = format!("{}\r\n\r\n", server.url("/messages?s=1")).leak();
    chunks.send(absolute).await.unwrap();
    read_until(&mut stream, &mut seen, "\n\n").await;
    assert_eq!(seen, "event: endpoint\ndata: /messages?s=1\n\n");
    chunks.send("data: {}\n\n").await.unwrap();
    read_until(&mut stream, &mut seen, "data: {}\n\n").await;
    drop(stream);
    tokio::time::timeout(Duration::from_mins(2), chunks.closed())
        .await
        .expect("the server sees that its client went");
}

#[tokio::test]
async fn redirects_stay_on_the_host_and_keep_method_and_body() {
    let elsewhere = Running::new(Router::new().fallback(mirror)).await;
    let foreign: String = elsewhere.url("/x").into();
    let router = Router::new()
        .route(
            "/here",
            any(|| async { (StatusCode::MOVED_PERMANENTLY, [("location", "/there?y=1")]) }),
        )
        .route("/away", any(move || async move { Redirect::temporary(&foreign) }))
        .route(
            "/with/{status}",
            any(|Path(status): Path<u16>| async move {
                (StatusCode::from_u16(status).unwrap(), [("location", "/there")])
            }),
        )
        .route("/circle", any(|| async { Redirect::temporary("/circle") }))
        .route(
            "/named",
            any(|headers: HeaderMap| async move {
                // The same port of what may be another machine.
                let port = headers["host"].to_str().unwrap().rsplit_once(':').unwrap().1;
                Redirect::temporary(&format!("http://localhost:{port}/x"))
            }),
        )
        .route(
            "/hops/{left}",
            any(async |Path(left): Path<u32>| match left {
                0 => "there".into_response(),
                left => Redirect::temporary(&format!("/hops/{}", left - 1)).into_response(),
            }),
        )
        .fallback(mirror);
    let server = Running::new(router).await;
    let proxy = proxy(server.url(""), ReverseProxyConfig::default()).await;
    let ask = |path| {
        finish(
            client()
                .post(proxy.url(path))
                .body(r#"{"jsonrpc":"2.0","id":7,"method":"m"}"#),
        )
    };
    let text = ask("/here").await.text;
    assert!(
        text.starts_with("POST /there?y=1\n") && text.ends_with(r#""method":"m"}"#),
        "{text}"
    );
    for path in ["/with/301", "/with/302", "/with/307", "/with/308"] {
        assert!(ask(path).await.text.starts_with("POST /there\n"), "{path}");
    }
    let other = ask("/with/303").await;
    let elsewhere = other.headers.get("location").unwrap();
    assert_eq!(
        (other.status, elsewhere.as_bytes()),
        (303, &b"/there"[..]),
        "its client's to follow"
    );
    assert_eq!(ask("/hops/10").await.text, "there");
    for path in ["/away", "/named", "/circle", "/hops/11"] {
        let answer = ask(path).await;
        assert!(
            answer.status == 502 && answer.text.contains("redirect"),
            "{}",
            answer.text
        );
    }
}

#[test]
fn what_cannot_work_is_refused_when_it_is_built() {
    let new = |target: &str, config| ReverseProxy::new(target.parse().unwrap(), config);
    let header = |name: &str| Layer::headers(vec![(name.parse().unwrap(), "x".parse().unwrap())]);
    for name in [
        "host",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-connection",
        "transfer-encoding",
        "content-length",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
    ] {
        assert!(matches!(header(name), Err(ProxyError::Invalid { .. })), "{name}");
    }
    assert!(header("x-key").is_ok());
    let set = |change: fn(&mut ReverseProxyConfig)| {
        let mut config = ReverseProxyConfig::default();
        change(&mut config);
        new("http://localhost", config)
    };
    assert!(set(|_| {}).is_ok());
    for change in [
        (|config| config.body_limit = 0) as fn(&mut ReverseProxyConfig),
        |config| config.body_timeout = Duration::ZERO,
        |config| config.connect_timeout = Duration::ZERO,
        |config| config.endpoint_prefix = "//other".into(),
        |config| config.transport = TransportType::Stdio,
    ] {
        assert!(matches!(set(change), Err(ProxyError::Invalid { .. })));
    }
    assert!(new("ftp://localhost", ReverseProxyConfig::default()).is_err());
    assert!(new("http://user:pass@localhost", ReverseProxyConfig::default()).is_err());
}

#[tokio::test]
async fn what_a_proxy_before_this_one_says_counts_only_if_it_is_trusted() {
    let server = Running::new(Router::new().fallback(mirror)).await;
    for trusted in [true, false] {
        let config = ReverseProxyConfig {
            trust_forwarded: trusted,
            strict_versions: trusted,
            ..ReverseProxyConfig::default()
        };
        let proxy = proxy(server.url("/"), config).await;
        let request = client()
            .post(proxy.url("/mcp"))
            .header("x-forwarded-host", "mcp.example")
            .header("x-forwarded-proto", "https")
            // A proxy may add a line of its own to what its client has said.
            .header("x-forwarded-for", "192.0.2.1")
            .header("x-forwarded-for", "192.0.2.2, 192.0.2.3")
            .body("{}");
        let text = finish(request).await.text;
        for line in [
            "x-forwarded-host: mcp.example\n",
            "x-forwarded-proto: https\n",
            "x-forwarded-for: 192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1\n",
        ] {
            assert_eq!(text.contains(line), trusted, "{line:?} {text}");
        }
        let request = client().post(proxy.url("/mcp")).body("{}");
        let unknown = finish(request.header("mcp-protocol-version", "2099-01-01")).await;
        assert_eq!(unknown.status == 400, trusted, "{}", unknown.text);
    }
}

#[tokio::test]
async fn clients_without_sessions_do_not_get_past_the_gate_with_methods_of_sessions() {
    let server = Running::new(Router::new().fallback(mirror)).await;
    let proxy = proxy(server.url("/"), ReverseProxyConfig::default()).await;
    for (version, expected) in [("2026-07-28", 405), ("2025-11-25", 200)] {
        for method in [Method::GET, Method::HEAD, Method::DELETE] {
            let request = client().request(method, proxy.url("/mcp"));
            let answer = finish(request.header("mcp-protocol-version", version)).await;
            assert_eq!(answer.status, expected, "{version}");
            let allowed = answer.headers.get("allow").map(|value| value.to_str().unwrap());
            assert_eq!(allowed == Some("POST, OPTIONS"), expected == 405, "{allowed:?}");
        }
    }
}
