//! A server that closes a kept connection at the moment at which it is used again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thv_proxy::ReverseProxyConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::finish;
use crate::fixture::{client, proxy};

const BODY: &str = r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;

/// Reads one request.
async fn request(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    if head.starts_with(b"POST") {
        stream.read_exact(&mut [0; BODY.len()]).await.unwrap();
    }
}

async fn answer(stream: &mut TcpStream) {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    stream.write_all(answer).await.unwrap();
}

/// Answers the first request of its first connection and hangs up at the second; then it answers whatever comes, and
/// counts that.
async fn server(reset: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let again = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&again);
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        request(&mut first).await;
        answer(&mut first).await;
        request(&mut first).await;
        if reset {
            first.set_zero_linger().unwrap();
        }
        drop(first);
        while let Ok((mut next, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            request(&mut next).await;
            answer(&mut next).await;
        }
    });
    (address, again)
}

#[tokio::test]
async fn only_what_changes_nothing_is_sent_again() {
    for reset in [false, true] {
        for (safe, status, sent_again) in [(false, 502, 0), (true, 200, 1)] {
            let (address, again) = server(reset).await;
            let target = format!("http://{address}").parse().unwrap();
            let proxy = proxy(target, ReverseProxyConfig::default()).await;
            let url = proxy.url("/mcp");
            let first = finish(client().post(url.clone()).body(BODY)).await;
            assert_eq!(first.status, 200);
            let second = if safe {
                client().get(url)
            } else {
                client().post(url).body(BODY)
            };
            let second = finish(second).await;
            assert_eq!(second.status, status, "{safe} {reset}: {}", second.text);
            assert_eq!(again.load(Ordering::SeqCst), sent_again, "{safe} {reset}");
        }
    }
}
