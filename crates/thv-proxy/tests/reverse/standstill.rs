//! A server that stands still, which who runs it says.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use futures_util::StreamExt;
use thv_proxy::{ReverseProxy, ReverseProxyConfig};
use tokio::sync::mpsc;

use crate::common::{finish, read_until};
use crate::fixture::{Running, client};
use crate::sse::{ENDPOINT, sse, sse_server};

const PAUSED: &str = "it is paused: unpause it";

fn call(id: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}"#)
}

fn refused(id: u64) -> String {
    format!(r#"{{"error":{{"code":-32000,"message":"{PAUSED}"}},"id":{id},"jsonrpc":"2.0"}}"#)
}

/// Answers no call, but begins an event stream for those to `/mcp/streamed`; tells of each.
async fn mute_server() -> (Running, mpsc::Receiver<()>) {
    let (asked, calls) = mpsc::channel(4);
    let begun = asked.clone();
    let mute = move || {
        let asked = asked.clone();
        async move {
            asked.send(()).await.unwrap();
            std::future::pending::<()>().await;
        }
    };
    let streamed = move || {
        let begun = begun.clone();
        async move {
            begun.send(()).await.unwrap();
            let first = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(": hello\n\n")]);
            let body = Body::from_stream(first.chain(futures_util::stream::pending()));
            ([("content-type", "text/event-stream")], body)
        }
    };
    let router = Router::new()
        .route("/mcp", any(mute))
        .route("/mcp/streamed", any(streamed));
    (Running::new(router).await, calls)
}

#[tokio::test]
async fn requests_under_way_and_new_ones_fail_at_once() {
    let (server, mut calls) = mute_server().await;
    let proxy = ReverseProxy::new(server.url("/"), ReverseProxyConfig::default()).unwrap();
    let front = Running::new(proxy.clone().into_router()).await;
    let post = |path: &str, id| client().post(front.url(path)).body(call(id));
    let mut streamed = post("/mcp/streamed", 1).send().await.unwrap();
    calls.recv().await.unwrap();
    let under_way = finish(post("/mcp", 2));
    let pausing = async {
        calls.recv().await.unwrap();
        proxy.suspend(PAUSED)
    };
    let (answer, suspended) = tokio::join!(under_way, pausing);
    assert_eq!((answer.status, answer.text), (503, refused(2)));
    assert_eq!(proxy.available(), Some(false));

    let mut seen = String::new();
    let event = format!("event: message\ndata: {}\n\n", refused(1));
    read_until(&mut streamed, &mut seen, &event).await;
    assert!(streamed.chunk().await.unwrap().is_none(), "the stream is over");

    let answer = finish(post("/mcp", 3)).await;
    assert_eq!((answer.status, answer.text), (503, refused(3)));
    assert!(calls.try_recv().is_err(), "the server was not asked");

    drop(suspended);
    tokio::time::timeout(Duration::from_mins(2), async {
        let asking = post("/mcp", 4).send();
        tokio::select! {
            answer = asking => panic!("nobody has answered: {answer:?}"),
            asked = calls.recv() => asked.unwrap(),
        }
    })
    .await
    .expect("the server is asked again");
}

#[tokio::test]
async fn a_stream_whose_length_was_said_ends_in_order_too() {
    let measured = async || {
        let first = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(": hello\n\n")]);
        let body = Body::from_stream(first.chain(futures_util::stream::pending()));
        let headers = [("content-type", "text/event-stream"), ("content-length", "20")];
        (headers, body)
    };
    let server = Running::new(Router::new().route("/mcp", any(measured))).await;
    let proxy = ReverseProxy::new(server.url("/"), ReverseProxyConfig::default()).unwrap();
    let front = Running::new(proxy.clone().into_router()).await;
    let mut answering = client()
        .post(front.url("/mcp"))
        .body(call(1))
        .send()
        .await
        .unwrap();
    let mut listening = client().get(front.url("/mcp")).send().await.unwrap();
    let (mut answered, mut listened) = (String::new(), String::new());
    read_until(&mut listening, &mut listened, "hello").await;
    let _suspended = proxy.suspend(PAUSED);
    read_until(&mut answering, &mut answered, &format!("{}\n\n", refused(1))).await;
    proxy.end_streams();
    for mut stream in [answering, listening] {
        while stream.chunk().await.expect("it is cut off").is_some() {}
    }
}

#[tokio::test]
async fn what_an_sse_server_owes_is_excused_on_its_stream_which_goes_on() {
    let (chunks, receiver) = mpsc::channel(4);
    let server = Running::new(sse_server([receiver], ("x-none", ""))).await;
    let proxy = ReverseProxy::new(server.url("/"), sse()).unwrap();
    let front = Running::new(proxy.clone().into_router()).await;
    let mut stream = client().get(front.url("/sse")).send().await.unwrap();
    let mut seen = String::new();
    chunks.send(ENDPOINT.into()).await.unwrap();
    read_until(&mut stream, &mut seen, "\n\n").await;
    let posted = finish(client().post(front.url("/messages?s=1")).body(call(1))).await;
    assert_eq!(posted.status, 202);
    for _ in 0..2 {
        let suspended = proxy.suspend(PAUSED);
        let answer = finish(client().post(front.url("/messages?s=1")).body(call(2))).await;
        assert_eq!((answer.status, answer.text), (503, refused(2)));
        read_until(&mut stream, &mut seen, &refused(1)).await;
        drop(suspended);
    }
    // It goes on, and answers after all.
    let answer = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\n\n";
    chunks.send(answer.into()).await.unwrap();
    read_until(&mut stream, &mut seen, answer).await;
    assert_eq!(seen.matches(&refused(1)).count(), 1, "it was told once: {seen}");
    assert!(!seen.contains(&refused(2)), "its sender was told: {seen}");
}
