//! How long the head of a request may be.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::with_server;
use thv_proxy::BridgeConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LONGEST: usize = 64 * 1024;

/// A head of exactly `length` bytes, whose last header or whose target is the long part.
fn head(length: usize, long_target: bool) -> String {
    let text = |target: &str, value: &str| {
        format!(
            "GET /health?{target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-long: {value}\r\n\r\n"
        )
    };
    let long = "x".repeat(length - text("", "").len());
    if long_target {
        text(&long, "")
    } else {
        text("", &long)
    }
}

#[tokio::test]
async fn a_head_has_its_bound_and_who_goes_beyond_is_told() {
    let served = with_server(BridgeConfig::default()).await;
    let large =
        r#"{"jsonrpc":"2.0","id":1,"method":"echo","params":["#.to_owned() + &"1,".repeat(1 << 17) + "1]}";
    for (length, long_target, status) in [
        (LONGEST, false, "200"),
        (LONGEST + 1, false, "431"),
        (2 * LONGEST, false, "431"),
        (LONGEST, true, "200"),
        (LONGEST + 1, true, "431"),
    ] {
        // Now in one piece, and behind a large body on the same connection, whose buffer has grown.
        for body in [None, Some(&large)] {
            let (mut from, mut to) = TcpStream::connect(served.address).await.unwrap().into_split();
            let sending = async {
                if let Some(body) = body {
                    let head = format!(
                        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    to.write_all(head.as_bytes()).await.unwrap();
                    to.write_all(body.as_bytes()).await.unwrap();
                }
                to.write_all(head(length, long_target).as_bytes()).await.unwrap();
            };
            let mut answers = String::new();
            let ((), read) = tokio::join!(sending, from.read_to_string(&mut answers));
            read.unwrap();
            let last = answers.rfind("HTTP/1.1 ").map(|at| &answers[at + 9..][..3]);
            assert_eq!(last, Some(status), "{length} {long_target} {}", body.is_some());
        }
    }
    let answer = served.post(None, large.clone()).await;
    assert_eq!(answer.status, 200, "others are served");
}
