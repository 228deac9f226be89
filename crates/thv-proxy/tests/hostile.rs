//! A corpus of hostile requests: each is answered as its file says, and the proxy goes on.
//!
//! The first line of a file has the statuses that may come, 0 for a connection that is closed without an answer. The
//! rest is the request: line ends stand for `\r\n`, `\xNN`, `\r`, `\n` and `\\` for bytes, `{repeat TEXT N}` for a text
//! many times, and `{length}` for the length of the body.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{finish, with_server};
use thv_proxy::{BridgeConfig, ReverseProxy, ReverseProxyConfig, ServeOptions, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

fn bytes(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        if let Some((pattern, behind)) = rest
            .strip_prefix("{repeat ")
            .and_then(|rest| rest.split_once('}'))
        {
            let (what, count) = pattern.rsplit_once(' ').unwrap();
            out.extend(bytes(what).repeat(count.parse().unwrap()));
            rest = behind;
            continue;
        }
        if let Some(escaped) = rest.strip_prefix('\\') {
            let (byte, len) = match escaped.as_bytes()[0] {
                b'r' => (b'\r', 1),
                b'n' => (b'\n', 1),
                b'x' => (u8::from_str_radix(&escaped[1..3], 16).unwrap(), 3),
                other => (other, 1),
            };
            out.push(byte);
            rest = &escaped[len..];
            continue;
        }
        match first {
            '\n' => out.extend(b"\r\n"),
            other => out.extend(other.to_string().bytes()),
        }
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// The request of a file, and the statuses that may come.
fn request(text: &str) -> (Vec<u16>, Vec<u8>) {
    let (expected, text) = text.split_once('\n').unwrap();
    let expected = expected.trim_start_matches("# ").split(',');
    let expected = expected.map(|status| status.parse().unwrap()).collect();
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let ended = if text.contains("\n\n") { "\n\n" } else { "" };
    let body = bytes(body);
    let head = head.replace("{length}", &body.len().to_string());
    (expected, [bytes(&head), bytes(ended), body].concat())
}

/// The status of the answer; 0 when there is none. The end of the request is told when nothing of an answer has come for
/// `first`, or no more of it for `more`.
async fn status(address: SocketAddr, request: &[u8], first: Duration, more: Duration) -> u16 {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let heard = Notify::new();
    let mut answer = Vec::new();
    let write = async {
        // It may be closed before all of it is sent.
        let _ = to.write_all(request).await;
        let mut patience = first;
        while tokio::time::timeout(patience, heard.notified()).await.is_ok() {
            patience = more;
        }
        let _ = to.shutdown().await;
        std::future::pending::<()>().await;
    };
    let read = async {
        while from.read_buf(&mut answer).await.unwrap_or(0) > 0 {
            heard.notify_one();
        }
    };
    let talk = async {
        tokio::select! {
            () = write => {}
            () = read => {}
        }
    };
    let done = tokio::time::timeout(Duration::from_mins(2), talk).await;
    assert!(done.is_ok(), "no end: {:?}", String::from_utf8_lossy(&answer));
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.1 ").or(text.strip_prefix("HTTP/1.0 "));
    status.map_or(0, |rest| rest[..3].parse().unwrap())
}

/// The files of the corpus: name, statuses that may come, request.
fn corpus() -> Vec<(String, Vec<u16>, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 60, "the corpus is there");
    let read = |file: std::path::PathBuf| {
        let (expected, request) = request(&std::fs::read_to_string(&file).unwrap());
        (file.file_name().unwrap().display().to_string(), expected, request)
    };
    files.into_iter().map(read).collect()
}

/// What a server behind the proxy would take for another request than the one that the proxy has seen is never
/// passed on: of a connection's bytes it gets one request at most.
#[tokio::test]
async fn no_request_is_smuggled_through_a_reverse_proxy() {
    // Some of them at a time, each with a proxy and a server of their own.
    const LANES: usize = 8;
    let corpus = corpus();
    let lanes = (0..LANES).map(|lane| smuggled(corpus.iter().skip(lane).step_by(LANES)));
    let wrong = futures_util::future::join_all(lanes).await.concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Which of these requests reach a server that should not.
async fn smuggled(requests: impl Iterator<Item = &(String, Vec<u16>, Vec<u8>)>) -> Vec<String> {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    let server = axum::Router::new().fallback(move |request: http::Request<axum::body::Body>| {
        count.fetch_add(1, Ordering::SeqCst);
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        async move { host }
    });
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let run = async |router: axum::Router| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router, ServeOptions::default(), stop.clone()));
        address
    };
    let server = run(server).await;
    let target = format!("http://{server}").parse().unwrap();
    let proxy = ReverseProxy::new(target, ReverseProxyConfig::default()).unwrap();
    let address = run(proxy.into_router()).await;
    let mut wrong = Vec::new();
    let pause = Duration::from_millis(50);
    for (name, expected, request) in requests {
        let before = reached.load(Ordering::SeqCst);
        // Who is refused for its head reaches nobody, and is told.
        let refused = *expected == [403];
        let first = if refused { Duration::from_mins(1) } else { pause };
        let status = status(address, request, first, pause).await;
        let reaches = reached.load(Ordering::SeqCst) - before;
        let refused = refused && status != 403;
        if reaches > 1 || refused || (status == 403 && reaches > 0) {
            wrong.push(format!("{name}: {status}, {reaches} reached the server"));
        }
    }
    let alive = b"GET /x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let patience = Duration::from_mins(1);
    assert_eq!(status(address, alive, patience, patience).await, 200);
    wrong
}

#[tokio::test]
async fn hostile_requests_are_refused_and_others_served() {
    let served = with_server(BridgeConfig::default()).await;
    let mut wrong = Vec::new();
    for (name, expected, request) in corpus() {
        let status = status(served.address, &request, Duration::ZERO, Duration::ZERO).await;
        if !expected.contains(&status) {
            wrong.push(format!("{name}: {status}, not {expected:?}"));
        }
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"echo","params":{"alive":1}}"#;
        let answer = finish(served.post_request(None, ping)).await;
        assert!(answer.text.contains("alive"), "after {name}: {}", answer.text);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(served.bridge.stats().in_flight, 0);
}
