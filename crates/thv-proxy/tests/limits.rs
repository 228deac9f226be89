//! What one client, or many, can make a proxy hold and wait for.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Served, eventually, read_until, served_with, wire, with_server, with_wire};
use serde_json::json;
use thv_proxy::{BridgeConfig, ServeOptions, StdioBridge};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const MIB: usize = 1 << 20;

/// A message of exactly `size` bytes.
fn message(size: usize) -> String {
    let text = |filler: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"echo","params":{{"text":"{filler}"}}}}"#)
    };
    text(&"x".repeat(size - text("").len()))
}

fn head(served: &Served, framing: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n",
        served.address
    )
}

/// All that a connection says until it ends.
async fn said(mut stream: TcpStream) -> String {
    let mut seen = Vec::new();
    let reading = async {
        let _ = stream.read_to_end(&mut seen).await;
    };
    tokio::time::timeout(Duration::from_mins(2), reading)
        .await
        .expect("the connection is not closed");
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn the_limits_are_exact_and_a_refused_body_is_answered() {
    let served = with_server(BridgeConfig::default()).await;
    let passes = served.post(None, message(8 * MIB)).await;
    assert!(passes.status == 200 && passes.text.len() > 8 * MIB - 100);
    // A client that writes all before it reads.
    for chunked in [false, true] {
        let body = message(8 * MIB + 1);
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let framing = if chunked {
            "transfer-encoding: chunked\r\nconnection: close".to_owned()
        } else {
            format!("content-length: {}\r\nconnection: close", body.len())
        };
        stream
            .write_all(head(&served, &framing).as_bytes())
            .await
            .unwrap();
        if chunked {
            stream
                .write_all(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes())
                .await
                .unwrap();
        } else {
            stream.write_all(body.as_bytes()).await.unwrap();
        }
        let answer = said(stream).await;
        assert!(
            answer.starts_with("HTTP/1.1 413 "),
            "{}",
            &answer[..answer.len().min(200)]
        );
    }
}

#[tokio::test]
async fn a_line_of_the_limit_passes_whole() {
    assert_eq!(BridgeConfig::default().line_limit, 32 * MIB);
    let config = BridgeConfig {
        line_limit: 4 * MIB,
        ..BridgeConfig::default()
    };
    let (served, mut wire) = with_wire(config).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    for (size, status) in [(4 * MIB, 200), (4 * MIB + 1, 502)] {
        let asking = served.post(None, r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
        let playing = async {
            let id = wire.next().await.unwrap()["id"].clone();
            let text = |filler: &str| format!(r#"{{"jsonrpc":"2.0","result":"{filler}","id":{id}}}"#);
            wire.write(&text(&"x".repeat(size - text("").len()))).await;
        };
        let (answer, ()) = tokio::join!(asking, playing);
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn connections_that_send_nothing_keep_nobody_from_sending() {
    let served = with_server(BridgeConfig::default()).await;
    let mut idle = Vec::new();
    for framing in ["transfer-encoding: chunked", "content-length: 8388608"] {
        for _ in 0..9 {
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            stream.write_all(head(&served, framing).as_bytes()).await.unwrap();
            idle.push(stream);
        }
    }
    let answer = tokio::time::timeout(Duration::from_mins(2), served.post(None, message(MIB)))
        .await
        .expect("it waits for those that send nothing");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn slow_heads_and_bodies_end() {
    let (io, far) = wire();
    tokio::spawn(common::run_server(far));
    let config = BridgeConfig {
        body_timeout: Duration::from_millis(300),
        ..BridgeConfig::default()
    };
    let options = ServeOptions {
        head_timeout: Duration::from_millis(300),
        ..ServeOptions::default()
    };
    let served = served_with(StdioBridge::new(io, config.clone()).unwrap(), options).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream
        .write_all(b"POST /mcp HTTP/1.1\r\nhost: loc")
        .await
        .unwrap();
    said(stream).await;
    let (io, _wire) = wire();
    let served = common::served(StdioBridge::new(io, config).unwrap()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = head(&served, "content-length: 100\r\nconnection: close");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"{").await.unwrap();
    let answer = said(stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let (io, far) = wire();
    tokio::spawn(common::run_server(far));
    let options = ServeOptions {
        max_connections: 1,
        ..ServeOptions::default()
    };
    let served = served_with(StdioBridge::new(io, BridgeConfig::default()).unwrap(), options).await;
    let mut first = TcpStream::connect(served.address).await.unwrap();
    let health = format!("GET /health HTTP/1.1\r\nhost: {}\r\n\r\n", served.address);
    first.write_all(health.as_bytes()).await.unwrap();
    let mut some = [0; 12];
    first.read_exact(&mut some).await.unwrap();
    let mut second = TcpStream::connect(served.address).await.unwrap();
    second.write_all(health.as_bytes()).await.unwrap();
    let unanswered = tokio::time::timeout(Duration::from_millis(200), second.read_exact(&mut some)).await;
    assert!(unanswered.is_err(), "there were two at a time");
    drop(first);
    second.read_exact(&mut some).await.unwrap();
    assert_eq!(&some, b"HTTP/1.1 200");
}

/// A client that asks for 3 MiB and does not read more than the beginning of the answer, of which its socket takes little.
async fn ask_and_look_away(served: &Served) -> TcpStream {
    let body = message(3 * MIB);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(served.address).await.unwrap();
    let head = head(served, &format!("content-length: {}", body.len()));
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    stream
}

/// Memory for 6 MiB of answers and a little more.
async fn with_little_memory(write_timeout: Duration) -> Served {
    let (io, far) = wire();
    tokio::spawn(common::run_server(far));
    let config = BridgeConfig {
        body_limit: 4 * MIB,
        line_limit: 4 * MIB,
        answer_budget: 6 * MIB + MIB / 2,
        ..BridgeConfig::default()
    };
    let options = ServeOptions {
        write_timeout,
        ..ServeOptions::default()
    };
    served_with(StdioBridge::new(io, config).unwrap(), options).await
}

async fn is_answered_soon(served: &Served) {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(2);
    while served.post(None, message(MIB)).await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the memory is kept");
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    let served = with_little_memory(Duration::from_hours(1)).await;
    let away = [ask_and_look_away(&served).await, ask_and_look_away(&served).await];
    let refused = served.post(None, message(MIB)).await;
    assert!(
        refused.status == 503 && refused.text.contains("wait to be read"),
        "{}",
        refused.text
    );
    assert_eq!(
        served.post(None, message(1000)).await.status,
        200,
        "small ones pass"
    );
    drop(away);
    is_answered_soon(&served).await;
}

#[tokio::test]
async fn who_does_not_read_is_not_waited_for_without_end() {
    let served = with_little_memory(Duration::from_millis(200)).await;
    let _away = [ask_and_look_away(&served).await, ask_and_look_away(&served).await];
    is_answered_soon(&served).await;
}

#[tokio::test]
async fn a_client_that_has_sent_more_than_it_is_answered_is_noticed_when_it_goes() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    for more in [0, 1, 20] {
        let message = r#"{"jsonrpc":"2.0","id":1,"method":"w"}"#;
        let request = format!(
            "POST /mcp HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{message}",
            served.address,
            message.len()
        );
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(wire.next().await.unwrap()["method"], "w");
        // Now and in two pieces, so that it stands in every buffer on the way.
        for _ in 0..more {
            stream.write_all(request.as_bytes()).await.unwrap();
        }
        assert_eq!(served.bridge.stats().in_flight, 1);
        drop(stream);
        eventually("its call is given up", || served.bridge.stats().in_flight == 0).await;
    }
}

#[tokio::test]
async fn all_requests_of_a_burst_are_answered_in_their_order() {
    let served = with_server(BridgeConfig::default()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let mut burst = Vec::new();
    for id in 0..60 {
        let text = "x".repeat(1000);
        let message =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"echo","params":{{"text":"{text}"}}}}"#);
        let last = if id == 59 { "connection: close\r\n" } else { "" };
        let request = format!(
            "POST /mcp HTTP/1.1\r\nhost: {}\r\n{last}content-type: application/json\r\ncontent-length: {}\r\n\r\n{message}",
            served.address,
            message.len()
        );
        burst.extend_from_slice(request.as_bytes());
    }
    stream.write_all(&burst).await.unwrap();
    let mut answers = String::new();
    let reading = stream.read_to_string(&mut answers);
    tokio::time::timeout(Duration::from_mins(2), reading)
        .await
        .unwrap()
        .unwrap();
    let ids: Vec<u32> = answers
        .split(r#""id":"#)
        .skip(1)
        .map(|rest| rest.split_once(',').unwrap().0.parse().unwrap())
        .collect();
    assert_eq!(ids, (0..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn notifications_that_the_server_does_not_read_are_bounded() {
    let config = BridgeConfig {
        body_limit: MIB,
        body_budget: 2 * MIB,
        request_timeout: Duration::from_millis(100),
        ..BridgeConfig::default()
    };
    let (served, mut wire) = with_wire(config).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let body = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/x","params":["{}"]}}"#,
        "z".repeat(MIB / 2)
    );
    let mut taken = 0;
    while served.post(None, body.clone()).await.status == 202 {
        taken += 1;
        assert!(taken < 8, "there is memory for any number of them");
    }
    drop(wire);
}

#[tokio::test]
async fn events_that_nobody_reads_are_bounded_in_bytes() {
    let config = BridgeConfig {
        stream_bytes: 2 * MIB,
        ..BridgeConfig::default()
    };
    let (served, mut wire) = with_wire(config).await;
    let (session, ()) = tokio::join!(served.open(), wire.handshake());
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let get = format!(
        "GET /mcp HTTP/1.1\r\nhost: {}\r\nmcp-session-id: {session}\r\n\r\n",
        served.address
    );
    stream.write_all(get.as_bytes()).await.unwrap();
    let mut some = [0; 12];
    stream.read_exact(&mut some).await.unwrap();
    let note = json!({
        "jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"x": "y".repeat(MIB)},
    })
    .to_string();
    // The socket takes a few of them, the queue of a hundred only two more.
    for _ in 0..40 {
        wire.write(&note).await;
    }
    eventually("some are dropped", || served.bridge.stats().dropped_messages > 10).await;
}

#[tokio::test]
async fn a_new_session_takes_the_place_of_the_one_that_was_idle_longest() {
    let served = with_server(BridgeConfig {
        max_sessions: 3,
        ..BridgeConfig::default()
    })
    .await;
    let first = served.open().await;
    for _ in 0..10 {
        served.open().await;
    }
    assert_eq!(served.bridge.stats().sessions, 3);
    let echo = r#"{"jsonrpc":"2.0","id":1,"method":"echo"}"#;
    assert_eq!(served.post(Some(&first), echo).await.status, 404);
}

#[tokio::test]
async fn ids_and_tokens_without_end_are_refused() {
    let served = with_server(BridgeConfig::default()).await;
    let long = "i".repeat(2000);
    for body in [
        json!({"jsonrpc": "2.0", "id": long, "method": "echo"}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "echo", "params": {"_meta": {"progressToken": long}}}),
    ] {
        let answer = served.post(None, body.to_string()).await;
        assert!(
            answer.status == 400 && answer.text.contains("longer than 1024"),
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn progress_that_nobody_reads_is_bounded_in_bytes() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let body = r#"{"jsonrpc":"2.0","id":9,"method":"work","params":{"_meta":{"progressToken":"t"}}}"#;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let framing = format!("accept: text/event-stream\r\ncontent-length: {}", body.len());
    stream
        .write_all(head(&served, &framing).as_bytes())
        .await
        .unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let asked = wire.next().await.unwrap();
    let token = &asked["params"]["_meta"]["progressToken"];
    let params = json!({"progressToken": token, "progress": 1, "message": "x".repeat(MIB)});
    let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).to_string();
    // The socket takes a few of them.
    for _ in 0..16 {
        wire.write(&note).await;
    }
    eventually("some are dropped", || served.bridge.stats().dropped_messages > 2).await;
}

#[tokio::test]
async fn a_flood_of_events_reaches_a_client_that_reads() {
    let config = BridgeConfig {
        stream_bytes: MIB,
        ..BridgeConfig::default()
    };
    let (served, mut wire) = with_wire(config).await;
    let (session, ()) = tokio::join!(served.open(), wire.handshake());
    let request = served.client.get(served.url("/mcp"));
    let mut stream = request.header("mcp-session-id", &session).send().await.unwrap();
    let note = json!({
        "jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"x": "y".repeat(2 * MIB)},
    })
    .to_string();
    let playing = async {
        for _ in 0..3 {
            wire.write(&note).await;
        }
    };
    let mut seen = String::new();
    tokio::join!(playing, read_until(&mut stream, &mut seen, "\"}}\n\n"));
    assert!(
        seen.len() >= 2 * MIB,
        "a single event may be larger than the queue"
    );
}
