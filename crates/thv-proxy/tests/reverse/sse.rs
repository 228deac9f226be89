//! A server that speaks SSE.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::any;
use futures_util::StreamExt;
use thv_core::TransportType;
use thv_proxy::{ReverseProxy, ReverseProxyConfig, ServeOptions, serve};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::common::{finish, read_until};
use crate::fixture::{Running, client, proxy};

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
        .route("/sse", any(open))
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

#[tokio::test]
async fn a_stream_that_answers_a_post_goes_on_to_its_end() {
    let (chunks, receiver) = mpsc::channel(4);
    let server = Running::new(sse_server(receiver, [("x-none", "")])).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let service = ReverseProxy::new(server.url(""), sse()).unwrap().into_router();
    let serving = tokio::spawn(serve(listener, service, ServeOptions::default(), stop.clone()));
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;
    let asked = client().post(format!("http://{address}/sse")).body(call);
    let asking = tokio::spawn(asked.send());
    chunks.send("data: begun\n\n".into()).await.unwrap();
    let mut stream = asking.await.unwrap().unwrap();
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "\n\n").await;
    stop.cancel();
    // Until no more connections are taken.
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    chunks
        .send("event: endpoint\rdata: //not.ours/\r\r".into())
        .await
        .unwrap();
    chunks.send("data: ended\n\n".into()).await.unwrap();
    drop(chunks);
    while let Some(chunk) = stream.chunk().await.expect("the stream was cut off") {
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(
        seen.contains("//not.ours/\r\r") && seen.ends_with("data: ended\n\n"),
        "{seen}"
    );
    serving.await.unwrap();
}
