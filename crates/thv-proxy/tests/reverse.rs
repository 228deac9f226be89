//! A server that speaks HTTP, behind the reverse proxy.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use common::{finish, read_until};
use futures_util::StreamExt;
use thv_core::TransportType;
use thv_proxy::{Layer, ProxyError, ReverseProxy, ReverseProxyConfig, ServeOptions, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

struct Running {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Running {
    async fn new(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let options = ServeOptions {
            drain: Duration::ZERO,
            ..ServeOptions::default()
        };
        tokio::spawn(serve(listener, router, options, stop.clone()));
        Self {
            address,
            _stop: stop.drop_guard(),
        }
    }

    fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }
}

async fn proxy(target: Url, config: ReverseProxyConfig) -> Running {
    Running::new(ReverseProxy::new(target, config).unwrap().into_router()).await
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// Tells what it was asked.
async fn mirror(method: Method, uri: Uri, headers: HeaderMap, body: String) -> String {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    format!("{method} {uri}\n{}\n\n{body}", lines.join("\n"))
}

fn setting(name: &'static str) -> Layer {
    Layer::headers(vec![(name.parse().unwrap(), "k".parse().unwrap())]).unwrap()
}

#[tokio::test]
async fn a_request_reaches_a_local_server_as_it_was_sent() {
    let server = Running::new(Router::new().fallback(mirror)).await;
    let config = ReverseProxyConfig {
        layers: vec![Layer::strip_auth(), setting("x-api-key")],
        ..ReverseProxyConfig::default()
    };
    let proxy = proxy(server.url("/ignored"), config).await;
    let request = client()
        .post(proxy.url("/a/b?x=1&y=%20"))
        .header("x-kept", "yes")
        .header("x-api-key", "client's")
        .header("authorization", "Bearer of-the-client")
        .header("x-forwarded-host", "forged")
        .header("connection", "x-hop")
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
            && text.contains("x-forwarded-proto: http")
    );
    assert!(
        !text.contains("x-hop") && !text.contains("of-the-client") && !text.contains("client's"),
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
    let text = finish(client().post(proxy.url("/mcp?c=2")).body("{}")).await.text;
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
    tokio::time::timeout(Duration::from_secs(10), chunks.closed())
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

#[tokio::test]
async fn a_server_that_is_down_is_a_json_rpc_error_and_seen_in_health() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target: Url = format!("http://{}", unused.local_addr().unwrap())
        .parse()
        .unwrap();
    drop(unused);
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
    let error = asked.initialize(Duration::from_secs(10)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn the_probe_believes_an_answer_to_initialize_and_nothing_else() {
    let answer =
        |kind: &'static str, body: &'static str| move || async move { ([("content-type", kind)], body) };
    let router = Router::new()
        .route("/json", any(answer("application/json", r#"{"jsonrpc":"2.0","id":"toolhive-init-check","result":{"protocolVersion":"2025-06-18","serverInfo":{"name":"n","version":"2"}}}"#)))
        .route("/sse", any(answer("text/event-stream", "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"toolhive-init-check\",\"result\":{\"serverInfo\":{\"name\":\"s\"}}}\n\n")))
        .route("/error", any(answer("application/json", r#"{"jsonrpc":"2.0","id":"toolhive-init-check","error":{"code":1,"message":"no"}}"#)))
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
        async move { proxy.initialize(Duration::from_secs(10)).await }
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
        let ready = proxy.initialize(Duration::from_secs(10)).await.unwrap();
        assert_eq!(ready.name, "n");
        proxy.reachable(Duration::from_secs(10)).await.unwrap();
        assert_eq!(proxy.available(), Some(true));

        let keyless = ReverseProxyConfig {
            layers: Vec::new(),
            ..config
        };
        let proxy = ReverseProxy::new(target, keyless).unwrap();
        let error = proxy.initialize(Duration::from_secs(10)).await.unwrap_err();
        assert!(error.to_string().contains("401"), "{error}");
    }
}

/// An SSE server whose stream is fed by the test, and whose messages are all accepted.
fn sse_server(chunks: mpsc::Receiver<String>, headers: [(&'static str, &'static str); 1]) -> Router {
    let chunks = std::sync::Arc::new(tokio::sync::Mutex::new(Some(chunks)));
    let open = move |asked: HeaderMap| {
        let chunks = std::sync::Arc::clone(&chunks);
        async move {
            assert_eq!(asked.get("accept-encoding"), None);
            let chunks = chunks.lock().await.take().unwrap();
            let stream = futures_util::stream::unfold(chunks, |mut chunks| async {
                Some((Ok::<_, std::convert::Infallible>(chunks.recv().await?), chunks))
            });
            (
                [("content-type", "text/event-stream"), headers[0]],
                Body::from_stream(stream.boxed()),
            )
        }
    };
    Router::new()
        .route("/sse", get(open))
        .route("/messages", any(|| async { StatusCode::ACCEPTED }))
}

fn sse() -> ReverseProxyConfig {
    ReverseProxyConfig {
        transport: TransportType::Sse,
        ..ReverseProxyConfig::default()
    }
}

const ENDPOINT: &str = "event: endpoint\ndata: /messages?s=1\n\n";

#[tokio::test]
async fn a_stream_of_an_sse_server_ends_when_nothing_is_owed_on_it() {
    let answer = |id: &str| format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":1}}\n\n");
    for answered in [true, false] {
        let (chunks, receiver) = mpsc::channel(4);
        let server = Running::new(sse_server(receiver, [("x-none", "")])).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let options = ServeOptions {
            drain: if answered {
                Duration::from_secs(10)
            } else {
                Duration::from_millis(200)
            },
            ..ServeOptions::default()
        };
        let service = ReverseProxy::new(server.url(""), sse()).unwrap().into_router();
        let serving = tokio::spawn(serve(listener, service, options, stop.clone()));
        let url = |path: &str| format!("http://{address}{path}");
        let mut stream = client()
            .get(url("/sse"))
            .header("accept-encoding", "gzip")
            .send()
            .await
            .unwrap();
        let mut seen = String::new();
        chunks.send(ENDPOINT.into()).await.unwrap();
        read_until(&mut stream, &mut seen, "\n\n").await;
        for id in ["1", "\"b\""] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#);
            let posted = client().post(url("/messages?s=1")).body(body);
            assert_eq!(finish(posted).await.status, 202);
        }
        chunks.send(answer("1")).await.unwrap();
        read_until(&mut stream, &mut seen, "\"id\":1").await;
        stop.cancel();
        if answered {
            chunks.send(answer("\"b\"")).await.unwrap();
        }
        while let Some(chunk) = stream.chunk().await.expect("the stream was cut off") {
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        let (mut last, error) = (seen.rsplit("data: "), "ended before");
        assert!(last.next().unwrap().contains("\"id\":\"b\""), "{seen}");
        assert_eq!(seen.contains(error), !answered, "{seen}");
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn a_compressed_stream_is_passed_on_as_it_is() {
    let (chunks, receiver) = mpsc::channel(4);
    let server = Running::new(sse_server(receiver, [("content-encoding", "br")])).await;
    let proxy = proxy(server.url(""), sse()).await;
    let mut stream = client().get(proxy.url("/sse")).send().await.unwrap();
    chunks.send("no event".into()).await.unwrap();
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "no event").await;
}

#[test]
fn what_cannot_work_is_refused_when_it_is_built() {
    let new = |target: &str, config| ReverseProxy::new(target.parse().unwrap(), config);
    let header = |name: &str| Layer::headers(vec![(name.parse().unwrap(), "x".parse().unwrap())]);
    for name in [
        "host",
        "connection",
        "transfer-encoding",
        "content-length",
        "x-forwarded-for",
        "x-real-ip",
        "te",
    ] {
        assert!(matches!(header(name), Err(ProxyError::Invalid { .. })), "{name}");
    }
    assert!(header("x-key").is_ok());
    let none = ReverseProxyConfig {
        body_limit: 0,
        ..ReverseProxyConfig::default()
    };
    assert!(new("http://localhost", none).is_err());
    assert!(new("ftp://localhost", ReverseProxyConfig::default()).is_err());
    assert!(new("http://user:pass@localhost", ReverseProxyConfig::default()).is_err());
    let stdio = ReverseProxyConfig {
        transport: TransportType::Stdio,
        ..ReverseProxyConfig::default()
    };
    assert!(new("http://localhost", stdio).is_err());
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
            .header("x-forwarded-for", "192.0.2.1")
            .body("{}");
        let text = finish(request).await.text;
        for line in [
            "x-forwarded-host: mcp.example\n",
            "x-forwarded-proto: https\n",
            "x-forwarded-for: 192.0.2.1, 127.0.0.1\n",
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

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Running::new(Router::new().fallback(mirror)).await;
    let config = ReverseProxyConfig {
        body_timeout: Duration::from_millis(300),
        ..ReverseProxyConfig::default()
    };
    let proxy = proxy(server.url("/"), config).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {}\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{{",
        proxy.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
    read.expect("it is waited for").unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn bodies_that_do_not_fit_into_memory_are_refused_until_others_are_done() {
    const LARGE: usize = 1 << 20;
    let (arrived, mut asked) = mpsc::channel::<tokio::sync::oneshot::Sender<()>>(4);
    let server = any(async move |body: String| {
        let (go_on, wait) = tokio::sync::oneshot::channel();
        arrived.send(go_on).await.unwrap();
        wait.await.unwrap();
        body.len().to_string()
    });
    let limit = axum::extract::DefaultBodyLimit::disable();
    let server = Running::new(Router::new().fallback_service(server.layer(limit))).await;
    let config = ReverseProxyConfig {
        body_limit: LARGE,
        body_budget: LARGE,
        ..ReverseProxyConfig::default()
    };
    let proxy = proxy(server.url("/"), config).await;
    let post = |bytes| finish(client().post(proxy.url("/mcp")).body("x".repeat(bytes)));
    // All memory, then the reserve that lets one always get on.
    let mut held = Vec::new();
    let mut under_way = Vec::new();
    for _ in 0..2 {
        under_way.push(tokio::spawn(post(LARGE)));
        held.push(asked.recv().await.unwrap());
    }
    let refused = post(LARGE).await;
    assert_eq!(
        (refused.status, &refused.headers["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert!(
        refused.text.contains("too many large requests"),
        "{}",
        refused.text
    );
    let small = tokio::spawn(post(100));
    asked.recv().await.unwrap().send(()).unwrap();
    assert_eq!(small.await.unwrap().text, "100", "a small one needs none of it");
    for go_on in held {
        go_on.send(()).unwrap();
    }
    for answer in under_way {
        assert_eq!(answer.await.unwrap().text, LARGE.to_string());
    }
    let after = tokio::spawn(post(LARGE));
    asked.recv().await.unwrap().send(()).unwrap();
    assert_eq!(after.await.unwrap().status, 200, "it was given back");
}

/// A server with sessions that forgets all of them when `generation` changes, and counts those that it opens.
fn forgetful(generation: Arc<AtomicU64>, opened: Arc<AtomicU64>) -> Router {
    Router::new().fallback(move |headers: HeaderMap, body: String| {
        let now = generation.load(Ordering::SeqCst);
        if body.contains("\"initialize\"") {
            opened.fetch_add(1, Ordering::SeqCst);
        }
        async move {
            let last = headers.get("last-event-id").cloned();
            let id = format!("g{now}");
            let named = headers.get("mcp-session-id").and_then(|id| id.to_str().ok());
            if body.contains("\"initialize\"") {
                let answer = r#"{"jsonrpc":"2.0","id":"hello","result":{}}"#;
                return (StatusCode::OK, [("mcp-session-id", id)], answer.to_owned());
            }
            let status = if named == Some(id.as_str()) {
                StatusCode::OK
            } else {
                StatusCode::NOT_FOUND
            };
            (
                status,
                [("mcp-session-id", id)],
                format!("{named:?} {last:?} {body}"),
            )
        }
    })
}

#[tokio::test]
async fn a_session_that_the_server_has_forgotten_is_made_again_for_its_client() {
    let generation = Arc::new(AtomicU64::new(1));
    let opened = Arc::new(AtomicU64::new(0));
    let server = Running::new(forgetful(Arc::clone(&generation), Arc::clone(&opened))).await;
    let proxy = proxy(server.url("/"), ReverseProxyConfig::default()).await;
    let post = |session: &str, body: &'static str| {
        let request = client().post(proxy.url("/mcp")).body(body);
        finish(request.header("mcp-session-id", session.to_owned()))
    };
    let hello = r#"{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{}}"#;
    let answer = post("of-nobody", hello).await;
    assert_eq!(answer.headers["mcp-session-id"], "g1");
    let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
    assert_eq!(post("g1", call).await.status, 200);

    generation.store(2, Ordering::SeqCst);
    let (first, second) = tokio::join!(post("g1", call), post("g1", call));
    for answer in [first, second] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.text.contains("g2") && answer.text.contains("tools/list"));
        assert_eq!(answer.headers["mcp-session-id"], "g1", "the client's id stays");
    }
    assert_eq!(opened.load(Ordering::SeqCst), 2, "made again once, whoever asks");
    let listen = || {
        let request = client().get(proxy.url("/mcp")).header("mcp-session-id", "g1");
        finish(request.header("last-event-id", "of-the-old-one"))
    };
    assert!(
        listen().await.text.contains("of-the-old-one"),
        "the server knows it"
    );
    generation.store(4, Ordering::SeqCst);
    let listening = listen().await;
    assert_eq!(listening.status, 200);
    assert!(
        listening.text.contains("g4") && !listening.text.contains("of-the-old-one"),
        "{}",
        listening.text
    );
    generation.store(2, Ordering::SeqCst);
    assert_eq!(post("g1", call).await.status, 200);
    let unknown = post("of-nobody", call).await;
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.text.contains("-32001") && unknown.text.contains("\"id\":7"),
        "{}",
        unknown.text
    );
    let delete = client().delete(proxy.url("/mcp")).header("mcp-session-id", "g1");
    assert_eq!(finish(delete).await.status, 200);
    generation.store(3, Ordering::SeqCst);
    assert_eq!(
        post("g1", call).await.status,
        404,
        "what was ended is not made again"
    );
}
