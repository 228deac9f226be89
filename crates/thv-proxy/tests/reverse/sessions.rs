//! Sessions that the server forgets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use thv_proxy::{Body, ReverseProxy, ReverseProxyConfig};

use crate::common::{self, finish};
use crate::fixture::{Running, client, proxy};

/// A server with sessions that forgets all of them when `generation` changes, and counts those that it opens.
fn forgetful(generation: Arc<AtomicU64>, opened: Arc<AtomicU64>) -> Router {
    Router::new().fallback(move |headers: HeaderMap, body: String| {
        let now = generation.load(Ordering::SeqCst);
        if body.contains("\"initialize\"") && opened.fetch_add(1, Ordering::SeqCst) > 0 {
            assert_eq!(
                headers["accept-encoding"], "identity",
                "the proxy reads the answer itself"
            );
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
        let request = request.header("accept-encoding", "gzip");
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

#[tokio::test]
async fn who_waits_for_a_session_to_be_made_again_waits_as_long_as_the_first() {
    let opened = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&opened);
    // Once it has forgotten its session, it does not make another.
    let router = Router::new().fallback(async move |headers: HeaderMap| {
        if headers.contains_key("mcp-session-id") {
            return (StatusCode::NOT_FOUND, [("mcp-session-id", "s")]);
        }
        if counted.fetch_add(1, Ordering::SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        (StatusCode::OK, [("mcp-session-id", "s")])
    });
    let server = Running::new(router).await;
    let proxy = ReverseProxy::new(server.url("/"), ReverseProxyConfig::default()).unwrap();
    let service = proxy.into_service();
    let ask = |method: &str| {
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
        let request = http::Request::post("/mcp").header("host", "localhost");
        let request = request.header("mcp-session-id", "s").body(Body::full(message));
        service.ask(request.unwrap())
    };
    assert_eq!(ask("initialize").await.status(), 200);
    let all = futures_util::future::join_all((0..4).map(|_| ask("ping")));
    let begun = tokio::time::Instant::now();
    let all = tokio::spawn(all);
    let two = common::eventually("somebody makes it again", || opened.load(Ordering::SeqCst) == 2);
    two.await;
    tokio::time::pause();
    let answers = all.await.unwrap();
    assert!(answers.iter().all(|answer| answer.status() == 404));
    assert_eq!(begun.elapsed().as_secs(), 30);
}
