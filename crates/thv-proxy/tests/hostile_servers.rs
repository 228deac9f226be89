//! Servers that do what no server should: who asked is told at once, others are answered, memory stays bounded.
//!
//! One test in a program of its own, because it measures the program.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Answer, Served, Wire, peak, with_wire};
use serde_json::{Value, json};
use thv_proxy::{BackendIo, BridgeConfig, BridgeEnd, StdioBridge};
use tokio::io::AsyncWriteExt;

/// What this program may take more at its most, in bytes: a line that is at its limit, and room for allocators.
const MOST: u64 = 160 << 20;
/// Long after the promise. Nobody waits for it but a test that fails.
const PATIENCE: Duration = Duration::from_mins(5);
/// What a server writes that never says anything, in bytes.
const FLOOD: usize = if cfg!(debug_assertions) { 1 << 20 } else { 1 << 30 };
/// So many sessions are opened meanwhile.
const MEANWHILE: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Server {
    FloodsBeforeItAnswers,
    AnswersTwice,
    AnswersUnknownIds,
    PrintsGarbage,
    FloodsGarbage,
    FloodsOtherJson,
    PrintsAnEndlessLine,
    AnswersWithAnEndlessLine,
    DiesInTheCall,
}
use Server::{
    AnswersTwice, AnswersUnknownIds, AnswersWithAnEndlessLine, DiesInTheCall, FloodsBeforeItAnswers,
    FloodsGarbage, FloodsOtherJson, PrintsAnEndlessLine, PrintsGarbage,
};

/// Counts warnings in the log.
struct Log(Arc<AtomicUsize>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("thv_proxy") && *metadata.level() <= tracing::Level::WARN
    }

    fn event(&self, _event: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}
    fn enter(&self, _span: &tracing::span::Id) {}
    fn exit(&self, _span: &tracing::span::Id) {}
}

/// Writes these lines again and again: until it is enough, and others were served meanwhile.
async fn flood(wire: &mut Wire, lines: &str, served: &AtomicUsize) {
    let block = lines.repeat((64 << 10) / lines.len() + 1);
    let mut written = 0;
    while written < FLOOD || served.load(Ordering::Relaxed) < MEANWHILE {
        wire.output.write_all(block.as_bytes()).await.unwrap();
        written += block.len();
    }
}

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
async fn play(server: Server, wire: &mut Wire, served: &AtomicUsize) {
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
            for _ in 0..FLOOD / block.len() {
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
        FloodsGarbage => flood(wire, "garbage\n}{\n\u{1}\n[[[[\n", served).await,
        FloodsOtherJson => flood(wire, "{\"a\":[1,2]}\n17\n[{}]\n\"text\"\n", served).await,
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
    let lines = Arc::new(AtomicUsize::new(0));
    let _log = tracing::subscriber::set_default(Log(Arc::clone(&lines)));
    let before = peak();
    for (server, first, second) in [
        (FloodsBeforeItAnswers, "\"a\"", "\"b\""),
        (AnswersTwice, "\"a\"", "\"b\""),
        (AnswersUnknownIds, "\"a\"", "\"b\""),
        (PrintsGarbage, "\"a\"", "\"b\""),
        (FloodsGarbage, "\"a\"", "\"b\""),
        (FloodsOtherJson, "\"a\"", "\"b\""),
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
        let opened = AtomicUsize::new(0);
        let others = async {
            if matches!(server, FloodsGarbage | FloodsOtherJson) {
                // Once the server has both calls and begins.
                common::eventually("the flood has begun", || served.bridge.stats().unusable_lines > 0).await;
                for _ in 0..MEANWHILE {
                    served.open().await;
                    opened.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let all = async { tokio::join!(asking, play(server, &mut wire, &opened), others) };
        let ((one, two), (), ()) = tokio::time::timeout(PATIENCE, all)
            .await
            .unwrap_or_else(|_| panic!("{server:?}: somebody waits"));
        assert!(one.text.contains(first), "{server:?}: {}", one.text);
        assert!(two.text.contains(second), "{server:?}: {}", two.text);
        assert_eq!(served.bridge.stats().in_flight, 0, "{server:?}");
        let lines = lines.swap(0, Ordering::Relaxed);
        assert!(lines < 10, "{server:?}: {lines} lines in the log");
        if matches!(
            server,
            PrintsGarbage | FloodsGarbage | FloodsOtherJson | PrintsAnEndlessLine
        ) {
            assert!(lines > 0, "{server:?}: nothing in the log");
        }
        let more = peak().saturating_sub(before);
        assert!(more < MOST, "{server:?}: {} MiB more", more >> 20);
    }

    // No end of a line at all, out of a pipe of the system's.
    let mut child = tokio::process::Command::new("head")
        .args(["-c", &((16 * FLOOD).max(64 << 20)).to_string(), "/dev/zero"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let io = BackendIo::new(child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let bridge = StdioBridge::new(io, BridgeConfig::default()).unwrap();
    let end = tokio::time::timeout(PATIENCE, bridge.closed()).await;
    assert_eq!(end, Ok(BridgeEnd::ServerEnded));
    assert_eq!(bridge.stats().unusable_lines, 1);
    let more = peak().saturating_sub(before);
    assert!(more < MOST, "{} MiB more", more >> 20);
}
