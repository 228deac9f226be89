//! A stdio server behind streamable HTTP.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Wire, finish, initialize_answer, run_server, served, wire, with_server, with_wire};
use serde_json::{Value, json};
use thv_proxy::{Backend, BackendIo, BridgeConfig, BridgeEnd, StdioBridge};
use tokio::sync::{Mutex, mpsc};

#[tokio::test]
async fn sixty_four_sessions_with_the_same_ids_never_get_anothers_answer() {
    let served = Arc::new(with_server(BridgeConfig::default()).await);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..64 {
        let served = Arc::clone(&served);
        clients.spawn(async move {
            let session = served.open().await;
            for round in 0..8 {
                let secret = format!("{client}/{round}");
                let body = json!({"jsonrpc": "2.0", "id": round % 3, "method": "echo", "params": {"secret": secret}});
                let answer: Value =
                    serde_json::from_str(&served.post(Some(&session), body.to_string()).await.text).unwrap();
                assert_eq!(answer["id"], round % 3);
                assert_eq!(answer["result"]["secret"], secret);
            }
        });
    }
    while let Some(outcome) = clients.join_next().await {
        outcome.unwrap();
    }
    let count = served
        .post(None, r#"{"jsonrpc":"2.0","id":1,"method":"count"}"#)
        .await
        .text;
    assert!(
        count.contains(r#""result":1"#),
        "initialize was made more than once: {count}"
    );
    assert_eq!(served.bridge.stats().in_flight, 0);
}

#[tokio::test]
async fn ids_come_back_as_they_were_sent() {
    let served = with_server(BridgeConfig::default()).await;
    for id in [
        "1",
        "-0",
        "1.0",
        "1e5",
        "123456789012345678901234567890",
        r#""""#,
        r#""a""#,
        r#""\u0041\n\"""#,
        r#""\ud800""#,
        r#""\udc00\ud800x""#,
        "-1.5E+400",
        r#""é""#,
        r#""1""#,
    ] {
        let answer = served
            .post(
                None,
                format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"echo","params":{{}}}}"#),
            )
            .await;
        assert!(
            answer.text.contains(&format!(r#""id":{id},"#)),
            "{id}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn payloads_pass_byte_for_byte_in_both_directions() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let request = "{ \"params\" : {\"n\":1.0e+2,\"s\":\"\\u0041 \\/ é\" , \"z\":[ ] },\r\n \"id\": 7,\"method\":\"m\" ,\"jsonrpc\":\"2.0\"}";
    let playing = tokio::spawn(async move {
        wire.handshake().await;
        let line = wire.raw().await.unwrap();
        let id = line
            .split("\"id\": ")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .to_owned();
        wire.write(&format!(
            "{{\"result\" : {{\"a\":1.50,\"b\":\"\\u00e9\"}} , \"jsonrpc\":\"2.0\",\"id\" :{id} }}\r"
        ))
        .await;
        (line, id, wire)
    });
    let answer = served.post(None, request).await;
    let (line, id, _wire) = playing.await.unwrap();
    assert_eq!(line.replace(&id, "7"), request.replace("\r\n", "  "));
    assert_eq!(
        answer.text,
        "{\"result\" : {\"a\":1.50,\"b\":\"\\u00e9\"} , \"jsonrpc\":\"2.0\",\"id\" :7 }"
    );
}

#[tokio::test]
async fn bad_input_gets_a_named_error_and_the_server_sees_nothing_of_it() {
    let config = BridgeConfig {
        body_limit: 1000,
        ..BridgeConfig::default()
    };
    let (served, mut wire) = with_wire(config).await;
    let post = |body: &'static str| served.post_request(None, body);
    let good = r#"{"jsonrpc":"2.0","id":"x","method":"m"}"#;
    let unknown = "3e0e6b35-3c2e-4b6e-9f57-0b1f3a0d7a11";
    let table: Vec<(reqwest::RequestBuilder, u16, &str)> = vec![
        (post("[]"), 400, "-32600"),
        (post(" \n[{}]"), 400, "-32600"),
        (post("{"), 400, "Invalid JSON-RPC 2.0 message"),
        (post(""), 400, "Invalid JSON-RPC 2.0 message"),
        (
            post(r#"{"jsonrpc":"2.0","id":1,"method":"m","id":2}"#),
            400,
            "Invalid JSON-RPC 2.0 message",
        ),
        (
            post(r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#),
            400,
            "Invalid JSON-RPC 2.0 message",
        ),
        (served.post_request(None, "x".repeat(1001)), 413, "Too Large"),
        (served.post_request(None, vec![b'['; 1000]), 400, "-32600"),
        (
            post(good).header("mcp-session-id", unknown),
            404,
            r#"{"error":{"code":-32001,"message":"Session not found"},"id":"x","jsonrpc":"2.0"}"#,
        ),
        (post(good).header("mcp-session-id", "garbage"), 404, "-32001"),
        (
            post(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#).header("mcp-session-id", unknown),
            404,
            "-32001",
        ),
        (
            post(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).header("mcp-session-id", unknown),
            404,
            "-32001",
        ),
        (
            post(good).header("mcp-protocol-version", "1999-01-01"),
            400,
            r#""supported":["2026-07-28","2025-11-25""#,
        ),
        (
            served
                .client
                .post(served.url("/mcp"))
                .header("content-type", "text/plain")
                .body(good),
            415,
            "-32600",
        ),
        (served.client.post(served.url("/mcp")).body(good), 415, "-32600"),
        (served.client.get(served.url("/mcp")), 400, "Mcp-Session-Id"),
        (
            served
                .client
                .get(served.url("/mcp"))
                .header("mcp-protocol-version", "1999-01-01"),
            400,
            "-32022",
        ),
        (
            served
                .client
                .delete(served.url("/mcp"))
                .header("mcp-protocol-version", "latest"),
            400,
            "-32022",
        ),
        (
            served
                .client
                .get(served.url("/mcp"))
                .header("mcp-session-id", unknown),
            404,
            "-32001",
        ),
        (served.client.delete(served.url("/mcp")), 400, "Mcp-Session-Id"),
        (served.client.put(served.url("/mcp")), 405, ""),
        (served.client.post(served.url("/health")).body(good), 405, ""),
        (served.client.delete(served.url("/health")), 405, ""),
        (served.client.get(served.url("/sse")), 404, ""),
        (
            served
                .client
                .get(served.url("/.well-known/oauth-protected-resource")),
            404,
            r#"{"error":"not_found"}"#,
        ),
        (
            post(good).header("origin", "http://evil.example"),
            403,
            "Origin not allowed",
        ),
        (post(good).header("host", "evil.example"), 403, "Host not allowed"),
        (
            served
                .client
                .get(served.url("/health"))
                .header("host", "evil.example"),
            403,
            "Host not allowed",
        ),
    ];
    for (index, (request, status, text)) in table.into_iter().enumerate() {
        let answer = finish(request).await;
        assert_eq!(answer.status, status, "row {index}: {}", answer.text);
        assert!(answer.text.contains(text), "row {index}: {}", answer.text);
    }
    let health = finish(served.client.get(served.url("/health"))).await;
    assert!(
        health.text.starts_with(r#"{"status":"degraded","timestamp":""#),
        "no server has answered initialize: {}",
        health.text
    );
    // The first thing that the server sees is the handshake of the first good message.
    let asking = served.post(None, good);
    let playing = async {
        wire.handshake().await;
        let asked = wire.next().await.unwrap();
        wire.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {}}).to_string())
            .await;
    };
    assert_eq!(tokio::join!(asking, playing).0.status, 200);
    let health = finish(served.client.get(served.url("/health"))).await;
    assert!(
        health.text.starts_with(r#"{"status":"healthy""#),
        "{}",
        health.text
    );
}

#[tokio::test]
async fn a_slow_call_delays_nobody_and_a_gone_client_frees_its_place() {
    let served = with_server(BridgeConfig {
        max_in_flight: 2,
        ..BridgeConfig::default()
    })
    .await;
    served.open().await;
    let slow = tokio::spawn(
        served
            .post_request(None, r#"{"jsonrpc":"2.0","id":1,"method":"slow"}"#)
            .send(),
    );
    common::eventually("the slow call waits", || served.bridge.stats().in_flight == 1).await;
    for _ in 0..10 {
        assert_eq!(
            served
                .post(None, r#"{"jsonrpc":"2.0","id":1,"method":"echo"}"#)
                .await
                .status,
            200
        );
    }
    let second = tokio::spawn(
        served
            .post_request(None, r#"{"jsonrpc":"2.0","id":1,"method":"slow"}"#)
            .send(),
    );
    common::eventually("two wait", || served.bridge.stats().in_flight == 2).await;
    let refused = served
        .post(None, r#"{"jsonrpc":"2.0","id":1,"method":"echo"}"#)
        .await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    slow.abort();
    second.abort();
    common::eventually("both places are free", || served.bridge.stats().in_flight == 0).await;
}

#[tokio::test]
async fn a_server_that_dies_in_a_call_fails_it_at_once() {
    let served = with_server(BridgeConfig::default()).await;
    served.open().await;
    let slow = tokio::spawn(finish(
        served.post_request(None, r#"{"jsonrpc":"2.0","id":"s","method":"slow"}"#),
    ));
    common::eventually("the slow call waits", || served.bridge.stats().in_flight == 1).await;
    let answer = served
        .post(None, r#"{"jsonrpc":"2.0","id":2,"method":"quit"}"#)
        .await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.text.contains("-32000") && answer.text.contains(r#""id":2"#),
        "{}",
        answer.text
    );
    let slow = slow.await.unwrap();
    assert!(
        slow.status == 502 && slow.text.contains(r#""id":"s""#),
        "{}",
        slow.text
    );
    assert_eq!(served.bridge.closed().await, BridgeEnd::ServerEnded);
    assert_eq!(
        served
            .post(None, r#"{"jsonrpc":"2.0","id":2,"method":"echo"}"#)
            .await
            .status,
        503
    );
}

#[derive(Debug)]
struct Next(Mutex<mpsc::Receiver<BackendIo>>);

#[async_trait::async_trait]
impl Backend for Next {
    async fn attach(&self) -> std::io::Result<Option<BackendIo>> {
        Ok(self.0.lock().await.recv().await)
    }
}

#[tokio::test]
async fn sessions_go_on_after_the_server_was_attached_to_again() {
    let (first, far) = wire();
    tokio::spawn(run_server(far));
    let (sender, receiver) = mpsc::channel(1);
    let backend = Arc::new(Next(Mutex::new(receiver)));
    let served = served(StdioBridge::with_backend(first, backend, BridgeConfig::default()).unwrap()).await;
    let session = served.open().await;
    let died = served
        .post(Some(&session), r#"{"jsonrpc":"2.0","id":1,"method":"quit"}"#)
        .await;
    assert_eq!(died.status, 502);
    let (second, far) = wire();
    tokio::spawn(run_server(far));
    sender.send(second).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_mins(2);
    loop {
        let answer = served
            .post(Some(&session), r#"{"jsonrpc":"2.0","id":3,"method":"count"}"#)
            .await;
        if answer.status == 200 {
            assert!(answer.text.contains(r#""result":1"#), "{}", answer.text);
            break;
        }
        assert!(
            answer.status == 503 && tokio::time::Instant::now() < deadline,
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn what_a_hostile_server_prints_harms_nobody() {
    let config = BridgeConfig {
        line_limit: 2000,
        id_prefix: "mine-".into(),
        ..BridgeConfig::default()
    };
    let (served, mut wire) = with_wire(config).await;
    let asking = served.post(None, r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#);
    let playing = async {
        wire.handshake().await;
        let asked = wire.next().await.unwrap();
        let id = asked["id"].as_str().unwrap().to_owned();
        for line in [
            "garbage",
            "",
            "{",
            "[]",
            "\u{1b}[31m",
            r#"{"jsonrpc":"2.0","id":"other-1","result":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1}"#,
            r#"{"jsonrpc":"2.0","id":"mine-999","result":1}"#,
            r#"{"jsonrpc":"2.0","id":"mine-1","result":"late"}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{}}"#,
            r#"{"jsonrpc":"2.0","id":"mine-02","result":"x"}"#,
        ] {
            wire.write(line).await;
        }
        wire.write(&"x".repeat(100_000)).await;
        wire.write(r#"{"jsonrpc":"2.0","id":"srv","method":"ping"}"#)
            .await;
        assert_eq!(
            wire.raw().await.unwrap(),
            r#"{"jsonrpc":"2.0","id":"srv","result":{}}"#
        );
        wire.write(r#"{"jsonrpc":"2.0","id":5,"method":"sampling/createMessage","params":{}}"#)
            .await;
        let refusal = wire.next().await.unwrap();
        assert_eq!(
            (&refusal["id"], &refusal["error"]["code"]),
            (&json!(5), &json!(-32601))
        );
        wire.write(&format!(
            r#"log: {{"jsonrpc":"2.0","id":"{id}","result":"good"}}"#
        ))
        .await;
        wire.write(&format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":"again"}}"#))
            .await;
        wire
    };
    let (answer, mut wire) = tokio::join!(asking, playing);
    assert_eq!(answer.text, r#"{"jsonrpc":"2.0","id":1,"result":"good"}"#);

    // An answer that is too long fails the call that it belongs to.
    let asking = served.post(None, r#"{"jsonrpc":"2.0","id":"big","method":"a"}"#);
    let playing = async {
        let id = wire.next().await.unwrap()["id"].clone();
        wire.write(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":"{}"}}"#,
            "y".repeat(5000)
        ))
        .await;
    };
    let (answer, ()) = tokio::join!(asking, playing);
    assert!(
        answer.status == 502 && answer.text.contains("2000 bytes"),
        "{}",
        answer.text
    );
    let stats = served.bridge.stats();
    assert_eq!(stats.unknown_answers, 7);
    assert_eq!(stats.unusable_lines, 6);
}

#[tokio::test]
async fn a_server_that_neither_reads_nor_stops_printing_delays_only_until_the_timeout() {
    let config = BridgeConfig {
        request_timeout: Duration::from_millis(300),
        ..BridgeConfig::default()
    };
    let (served, mut wire) = with_wire(config).await;
    let (ready, ()) = tokio::join!(served.bridge.initialize(), wire.handshake());
    ready.unwrap();
    let mut output = wire.output;
    let flood = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let line = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n".repeat(500);
        while output.write_all(line.as_bytes()).await.is_ok() {}
    });
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":["{}"]}}"#,
        "z".repeat(200_000)
    );
    let (first, second) = tokio::join!(served.post(None, body.clone()), served.post(None, body));
    assert_eq!((first.status, second.status), (504, 504));
    assert_eq!(served.bridge.stats().in_flight, 0);
    common::eventually("what it does not read is dropped", || {
        served.bridge.stats().dropped_messages > 0
    })
    .await;
    flood.abort();
}

#[tokio::test]
async fn each_client_gets_the_highest_revision_that_both_know() {
    let served = with_server(BridgeConfig::default()).await;
    for (asked, expected) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
    ] {
        let body = json!({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": {"protocolVersion": asked}});
        let answer: Value = serde_json::from_str(&served.post(None, body.to_string()).await.text).unwrap();
        assert_eq!(answer["result"]["protocolVersion"], expected);
        assert_eq!(answer["id"], "i");
    }
}

#[tokio::test]
async fn an_error_of_initialize_reaches_the_client_and_is_not_kept() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let body = r#"{"jsonrpc":"2.0","id":4,"method":"initialize","params":{}}"#;
    let refuse = |wire: &mut Wire, id: Value| {
        let _ = wire;
        json!({"jsonrpc": "2.0", "id": id, "error": {"code": -1, "message": "not yet"}}).to_string()
    };
    let playing = async {
        let id = wire.next().await.unwrap()["id"].clone();
        let line = refuse(&mut wire, id);
        wire.write(&line).await;
    };
    let (answer, ()) = tokio::join!(served.post(None, body), playing);
    assert!(
        answer.text.contains("not yet") && answer.text.contains(r#""id":4"#),
        "{}",
        answer.text
    );
    let playing = async {
        let id = wire.next().await.unwrap()["id"].clone();
        wire.write(&initialize_answer(&id)).await;
    };
    let (ready, ()) = tokio::join!(served.bridge.initialize(), playing);
    assert_eq!(ready.unwrap().name, "fake");
}

#[tokio::test]
async fn large_bodies_that_do_not_all_fit_at_once_get_through_one_after_the_other() {
    let config = BridgeConfig {
        body_limit: 200_000,
        body_budget: 200_000,
        ..BridgeConfig::default()
    };
    let served = Arc::new(with_server(config).await);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..16 {
        let served = Arc::clone(&served);
        clients.spawn(async move {
            let text = client.to_string().repeat(90_000);
            let body = json!({"jsonrpc": "2.0", "id": client, "method": "echo", "params": {"text": text}})
                .to_string();
            let answer = loop {
                let answer = served.post(None, body.clone()).await;
                if answer.status != 503 {
                    break answer;
                }
                assert_eq!(answer.headers["retry-after"], "1");
            };
            assert!(
                answer.status == 200 && answer.text.contains(&text),
                "{}",
                answer.status
            );
        });
    }
    let all = async {
        while let Some(outcome) = clients.join_next().await {
            outcome.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_mins(5), all)
        .await
        .expect("none of them gets on");
}

#[tokio::test]
async fn a_prompt_answer_is_one_piece_with_a_length() {
    let served = with_server(BridgeConfig::default()).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"echo","params":{"_meta":{"progressToken":1}}}"#;
    for _ in 0..50 {
        let answer = finish(
            served
                .post_request(None, body)
                .header("accept", "text/event-stream"),
        )
        .await;
        assert!(
            answer.headers.contains_key("content-length"),
            "{:?}",
            answer.headers
        );
    }
}

#[tokio::test]
async fn what_is_not_http_is_told_so() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let served = with_server(BridgeConfig::default()).await;
    for request in [&b"GET / HTTP/9.9\r\n\r\n"[..], b"\x16\x03\x01\x02\0\r\n\r\n"] {
        let mut stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // The rest of what was sent is not read, so the connection may end with a reset after the answer.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_calls_at_once_do_not_block_each_other() {
    // The pipe holds 64 KiB each way: whoever writes to the server without reading from it would stand still here.
    for (clients, size) in [(256, 10_000), (16, 250_000)] {
        let served = Arc::new(with_server(BridgeConfig::default()).await);
        let mut calls = tokio::task::JoinSet::new();
        for client in 0..clients {
            let served = Arc::clone(&served);
            calls.spawn(async move {
                let text = format!("{client}:{}", "x".repeat(size));
                let body = json!({"jsonrpc": "2.0", "id": 1, "method": "echo", "params": text_params(&text)});
                let answer = served.post(None, body.to_string()).await;
                assert!(
                    answer.status == 200 && answer.text.contains(&text),
                    "{}",
                    answer.status
                );
            });
        }
        let all = async {
            while let Some(outcome) = calls.join_next().await {
                outcome.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_mins(5), all)
            .await
            .expect("no deadlock");
    }
}

fn text_params(text: &str) -> Value {
    json!({ "text": text })
}

#[tokio::test]
async fn an_unknown_revision_is_served_where_that_is_wanted() {
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (strict_versions, expected) in [(true, 400), (false, 200)] {
        let served = with_server(BridgeConfig {
            strict_versions,
            ..BridgeConfig::default()
        })
        .await;
        let request = served.post_request(None, ping);
        let request = request.header("mcp-protocol-version", "2099-01-01");
        assert_eq!(finish(request).await.status, expected);
    }
}

#[tokio::test]
async fn the_server_hears_once_that_its_client_is_initialized() {
    let (served, mut wire) = with_wire(BridgeConfig::default()).await;
    let (first, ()) = tokio::join!(served.open(), wire.handshake());
    for session in [first, served.open().await] {
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert_eq!(served.post(Some(&session), initialized).await.status, 202);
    }
    let other = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
    assert_eq!(served.post(None, other).await.status, 202);
    let next = wire.next().await.unwrap();
    assert_eq!(next["method"], "notifications/roots/list_changed");
}
