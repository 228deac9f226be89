//! Many connections, and many requests on one: what waits is bounded, and others are served.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Served, eventually, finish, run_server, served_with, wire};
use thv_proxy::{BridgeConfig, ServeOptions, StdioBridge};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn with_options(options: ServeOptions) -> Served {
    let (io, far) = wire();
    tokio::spawn(run_server(far));
    served_with(StdioBridge::new(io, BridgeConfig::default()).unwrap(), options).await
}

fn request(served: &Served, method: &str, text: &str) -> String {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":["{text}"]}}"#);
    format!(
        "POST /mcp HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        served.address,
        body.len()
    )
}

#[tokio::test]
async fn whoever_comes_behind_a_crowd_that_says_nothing_has_its_turn() {
    let served = with_options(ServeOptions {
        max_connections: 50,
        head_timeout: Duration::from_millis(300),
        ..ServeOptions::default()
    })
    .await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(served.address).await.unwrap());
    }
    let health = finish(served.client.get(served.url("/health")));
    let answer = tokio::time::timeout(Duration::from_secs(60), health).await;
    assert_eq!(answer.expect("it waits for the crowd").status, 200);
}

#[tokio::test]
async fn requests_behind_each_other_on_one_connection_are_one_call_at_a_time() {
    let served = with_options(ServeOptions::default()).await;
    let mut many = TcpStream::connect(served.address).await.unwrap();
    let requests = request(&served, "slow", "").repeat(1000);
    many.write_all(requests.as_bytes()).await.unwrap();
    eventually("the first is under way", || served.bridge.stats().in_flight == 1).await;
    for _ in 0..10 {
        let answer = served.post(
            None,
            r#"{"jsonrpc":"2.0","id":2,"method":"echo","params":{"a":1}}"#,
        );
        assert_eq!(answer.await.status, 200);
        assert_eq!(served.bridge.stats().in_flight, 1);
    }
}

#[tokio::test]
async fn who_closes_its_half_of_a_connection_has_gone() {
    let served = with_options(ServeOptions::default()).await;
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let slow = request(&served, "slow", "");
    client.write_all(slow.as_bytes()).await.unwrap();
    eventually("its call is under way", || served.bridge.stats().in_flight == 1).await;
    client.shutdown().await.unwrap();
    eventually("its place is free", || served.bridge.stats().in_flight == 0).await;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn who_asks_and_never_reads_is_not_listened_to_without_end() {
    let served = with_options(ServeOptions {
        write_timeout: Duration::from_millis(200),
        ..ServeOptions::default()
    })
    .await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let requests = request(&served, "echo", &"x".repeat(60_000)).repeat(10);
    // It is not read any more once its answers wait, and closed a moment later.
    let flood = async { while to.write_all(requests.as_bytes()).await.is_ok() {} };
    let ended = tokio::time::timeout(Duration::from_secs(60), flood).await;
    ended.expect("everything that it sends is taken");
    let mut first = [0; 12];
    if from.read_exact(&mut first).await.is_ok() {
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    let answer = served.post(
        None,
        r#"{"jsonrpc":"2.0","id":2,"method":"echo","params":{"a":1}}"#,
    );
    assert_eq!(answer.await.status, 200);
}
