//! A server that speaks SSE.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::any;
use futures_util::StreamExt;
use thv_core::TransportType;
use thv_proxy::{ReverseProxy, ReverseProxyConfig, ServeOptions, serve};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common::{finish, read_until, soon};
use crate::fixture::{Running, client, proxy};

/// An SSE server whose streams are fed by the test, and whose messages are all accepted.
pub fn sse_server(
    chunks: impl IntoIterator<Item = mpsc::Receiver<String>>,
    header: (&'static str, &'static str),
) -> Router {
    let chunks: VecDeque<_> = chunks.into_iter().collect();
    let chunks = Arc::new(Mutex::new(chunks));
    let open = move |asked: HeaderMap| {
        let chunks = chunks.lock().unwrap().pop_front().unwrap();
        async move {
            assert_eq!(asked["accept-encoding"], "identity");
            let stream = futures_util::stream::unfold(chunks, |mut chunks| async {
                Some((Ok::<_, std::convert::Infallible>(chunks.recv().await?), chunks))
            });
            (
                [("content-type", "text/event-stream"), header],
                Body::from_stream(stream.boxed()),
            )
        }
    };
    Router::new()
        .route("/sse", any(open))
        .route("/messages", any(|| async { StatusCode::ACCEPTED }))
}

pub fn sse() -> ReverseProxyConfig {
    ReverseProxyConfig {
        transport: TransportType::Sse,
        ..ReverseProxyConfig::default()
    }
}

pub const ENDPOINT: &str = "event: endpoint\ndata: /messages?s=1\n\n";

#[tokio::test]
async fn a_stream_of_an_sse_server_ends_when_nothing_is_owed_on_it() {
    let answer = |id: &str| format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":1}}\n\n");
    for answered in [true, false] {
        let (chunks, receiver) = mpsc::channel(4);
        let server = Running::new(sse_server([receiver], ("x-none", ""))).await;
        let drain = if answered {
            Duration::from_hours(1)
        } else {
            Duration::from_millis(200)
        };
        let (address, stop, serving) = draining(&server, drain);
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
        let reading = async {
            while let Some(chunk) = stream.chunk().await.expect("the stream was cut off") {
                seen.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        soon("the end of the stream", reading).await;
        let (mut last, error) = (seen.rsplit("data: "), "ended before");
        assert!(last.next().unwrap().contains("\"id\":\"b\""), "{seen}");
        assert_eq!(seen.contains(error), !answered, "{seen}");
        soon("the end of the proxy", serving).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_looked_at_is_not_passed_on() {
    let foreign = "event: endpoint\ndata: //not.ours/\n\n";
    for (header, refused) in [
        (("content-encoding", "br"), true),
        (("content-encoding", "gzip, identity"), true),
        (("content-encoding", "Identity"), false),
        (("content-type", "TEXT/Event-Stream; charset=utf-8"), false),
    ] {
        for text in [ENDPOINT, foreign] {
            let (chunks, receiver) = mpsc::channel(4);
            let server = Running::new(sse_server([receiver], header)).await;
            let proxy = proxy(server.url(""), sse()).await;
            chunks.send(text.into()).await.unwrap();
            drop(chunks);
            let (status, seen) = match client().get(proxy.url("/sse")).send().await {
                Ok(response) => (response.status().as_u16(), response.text().await.ok()),
                Err(_) => (0, None),
            };
            if refused {
                let seen = seen.unwrap();
                assert!(status == 502 && seen.contains("compresses"), "{header:?} {seen}");
            } else {
                // What leads elsewhere ends the stream.
                let expected = (text == ENDPOINT).then_some(ENDPOINT);
                assert_eq!(seen.as_deref(), expected, "{header:?}");
            }
        }
    }
}

/// A proxy whose drain takes so long.
fn draining(server: &Running, drain: Duration) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let options = ServeOptions {
        drain,
        ..ServeOptions::default()
    };
    let service = ReverseProxy::new(server.url(""), sse()).unwrap().into_router();
    let serving = serve(
        thv_proxy::listener(listener).unwrap(),
        service,
        options,
        stop.clone(),
    );
    (address, stop, tokio::spawn(serving))
}

/// Such a server may answer on any of them.
#[tokio::test]
async fn streams_with_one_path_for_their_messages_have_in_common_what_is_owed() {
    for answered in [true, false] {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel(4)).unzip();
        let server = Running::new(sse_server(receivers, ("x-none", ""))).await;
        let drain = if answered {
            Duration::from_hours(1)
        } else {
            Duration::from_millis(200)
        };
        let (address, stop, serving) = draining(&server, drain);
        let url = |path: &str| format!("http://{address}{path}");
        let mut streams = Vec::new();
        for sender in &senders {
            let mut stream = client().get(url("/sse")).send().await.unwrap();
            let mut seen = String::new();
            sender.send(ENDPOINT.into()).await.unwrap();
            read_until(&mut stream, &mut seen, "\n\n").await;
            streams.push((stream, seen));
        }
        // One that has gone leaves the others what is theirs.
        drop(streams.pop());
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;
        let posted = client().post(url("/messages?s=1")).body(body);
        assert_eq!(finish(posted).await.status, 202);
        stop.cancel();
        if answered {
            let answer = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\n\n";
            senders[0].send(answer.into()).await.unwrap();
        }
        for (stream, seen) in &mut streams {
            let reading = async {
                while let Some(chunk) = stream.chunk().await.expect("the stream was cut off") {
                    seen.push_str(std::str::from_utf8(&chunk).unwrap());
                }
            };
            soon("what another stream has brought", reading).await;
            assert_eq!(seen.contains("ended before"), !answered, "{seen}");
        }
        soon("the end of the proxy", serving).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_answers_a_post_goes_on_to_its_end() {
    let (chunks, receiver) = mpsc::channel(4);
    let server = Running::new(sse_server([receiver], ("x-none", ""))).await;
    let (address, stop, serving) = draining(&server, Duration::from_hours(1));
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
    soon("the end of the proxy", serving).await.unwrap();
}
