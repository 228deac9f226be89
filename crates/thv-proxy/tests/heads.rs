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
                let _ = to.write_all(head(length, long_target).as_bytes()).await;
            };
            let mut answers = Vec::new();
            // Where the rest of a head is under way for long, a reset may come behind the answer.
            let ((), _) = tokio::join!(sending, from.read_to_end(&mut answers));
            let answers = String::from_utf8(answers).unwrap();
            let served = answers.matches("HTTP/1.1 200 ").count() - usize::from(body.is_some());
            assert_eq!(served, usize::from(status == "200"), "{length} {long_target}");
            // What else was sent than a head may still be under way, and the reset that it causes be faster.
            if body.is_none() && length <= LONGEST + 1 {
                let begin = format!("HTTP/1.1 {status} ");
                assert!(answers.starts_with(&begin), "{length} {long_target} {answers}");
            }
        }
    }
    let answer = served.post(None, large.clone()).await;
    assert_eq!(answer.status, 200, "others are served");
}
