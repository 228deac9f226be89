//! Servers that do what no server should: who asked is told at once, others are answered, memory stays bounded.
//!
//! One test in a program of its own, because it measures the program.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Answer, Served, Wire, peak, with_wire};
use serde_json::{Value, json};
use thv_proxy::BridgeConfig;
use tokio::io::AsyncWriteExt;

/// What this program may take more at its most, in bytes: a line that is at its limit, and room for allocators.
const MOST: u64 = 160 << 20;
/// Long after the promise. Nobody waits for it but a test that fails.
const PATIENCE: Duration = Duration::from_mins(5);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Server {
    FloodsBeforeItAnswers,
    AnswersTwice,
    AnswersUnknownIds,
    PrintsGarbage,
    PrintsAnEndlessLine,
    AnswersWithAnEndlessLine,
    DiesInTheCall,
}
use Server::{
    AnswersTwice, AnswersUnknownIds, AnswersWithAnEndlessLine, DiesInTheCall, FloodsBeforeItAnswers,
    PrintsAnEndlessLine, PrintsGarbage,
};

/// 100 MB without a line feed, as a server writes them.
async fn endless(wire: &mut Wire) {
    let block = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        wire.output.write_all(&block).await.unwrap();
    }
}

fn result(id: &Value, text: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": text}).to_string()
}

/// Two calls are there, of two sessions; the first meets what the server does.
async fn play(server: Server, wire: &mut Wire) {
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(wire.next().await.unwrap()["id"].clone());
    }
    let [first, second] = [&ids[0], &ids[1]];
    match server {
        FloodsBeforeItAnswers => {
            let line =
                r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}"#;
            let block = format!("{line}\n").repeat(1000);
            for _ in 0..200 {
                wire.output.write_all(block.as_bytes()).await.unwrap();
            }
        }
        AnswersTwice => {
            for _ in 0..1000 {
                wire.write(&result(first, "a")).await;
            }
        }
        AnswersUnknownIds => {
            for id in 0..1000 {
                wire.write(&result(&json!(id), "a")).await;
                wire.write(&result(&json!(format!("{id}-{id}")), "a")).await;
            }
        }
        PrintsGarbage => {
            for garbage in [
                &b"\xff\xfe\x00"[..],
                b"{",
                b"[[[[",
                b"\x1b[31m",
                b"null",
                b"{\"jsonrpc\":\"2.0\"}",
            ] {
                for _ in 0..100 {
                    wire.output.write_all(&[garbage, b"\n"].concat()).await.unwrap();
                }
            }
        }
        PrintsAnEndlessLine => {
            endless(wire).await;
            wire.write("").await;
        }
        AnswersWithAnEndlessLine => {
            let head = format!(r#"{{"jsonrpc":"2.0","id":{first},"result":""#);
            wire.output.write_all(head.as_bytes()).await.unwrap();
            endless(wire).await;
            wire.write("\"}").await;
        }
        DiesInTheCall => {
            wire.output.shutdown().await.unwrap();
            return;
        }
    }
    if !matches!(server, AnswersTwice | AnswersWithAnEndlessLine) {
        wire.write(&result(first, "a")).await;
    }
    wire.write(&result(second, "b")).await;
}

async fn call(served: &Served, session: &str) -> Answer {
    served
        .post(
            Some(session),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#,
        )
        .await
}

#[tokio::test]
async fn who_asked_is_told_at_once_and_others_go_on() {
    let before = peak();
    for (server, first, second) in [
        (FloodsBeforeItAnswers, "\"a\"", "\"b\""),
        (AnswersTwice, "\"a\"", "\"b\""),
        (AnswersUnknownIds, "\"a\"", "\"b\""),
        (PrintsGarbage, "\"a\"", "\"b\""),
        (PrintsAnEndlessLine, "\"a\"", "\"b\""),
        (AnswersWithAnEndlessLine, "longer than", "\"b\""),
        (
            DiesInTheCall,
            "the server ended during the call",
            "the server ended during the call",
        ),
    ] {
        let config = BridgeConfig {
            // Whoever waited for it would not be answered within the test.
            request_timeout: Duration::from_hours(1),
            ..BridgeConfig::default()
        };
        let (served, mut wire) = with_wire(config).await;
        let (session, ()) = tokio::join!(served.open(), wire.handshake());
        let other = served.open().await;
        let asking = async {
            // The first is with the server before the second is.
            let one = call(&served, &session);
            let two = async {
                common::eventually("the first call is under way", || {
                    served.bridge.stats().in_flight == 1
                })
                .await;
                call(&served, &other).await
            };
            tokio::join!(one, two)
        };
        let all = async { tokio::join!(asking, play(server, &mut wire)) };
        let ((one, two), ()) = tokio::time::timeout(PATIENCE, all)
            .await
            .unwrap_or_else(|_| panic!("{server:?}: somebody waits"));
        assert!(one.text.contains(first), "{server:?}: {}", one.text);
        assert!(two.text.contains(second), "{server:?}: {}", two.text);
        assert_eq!(served.bridge.stats().in_flight, 0, "{server:?}");
        let more = peak().saturating_sub(before);
        assert!(more < MOST, "{server:?}: {} MiB more", more >> 20);
    }
}
