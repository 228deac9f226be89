//! Bodies of requests: how long they are waited for, and how much memory they take.

use std::time::Duration;

use axum::Router;
use axum::routing::any;
use thv_proxy::ReverseProxyConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::common::finish;
use crate::fixture::{Running, client, mirror, proxy};

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
    let read = tokio::time::timeout(Duration::from_mins(2), reading).await;
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
