//! The stdio bridge against a bare reference that does only what cannot be avoided: hyper, splice the id, pipe.
//!
//! Both serve the same echo server, which is a thread at the other end of a socket pair, to the same clients, in one
//! run: `cargo bench -p thv-benches --bench stdio_proxy`. Client, proxy and server share the machine, so the ratio is
//! what counts. Every answer is checked.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has no figures"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use thv_benches::bare::{self, id_text};
use thv_proxy::{BackendIo, BridgeConfig, ServeOptions, StdioBridge, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

/// How often each takes its turn; the middle one counts, so that a neighbour's burst does not.
const ROUNDS: usize = 3;
const RUN: Duration = Duration::from_millis(600);
const WARM_UP: Duration = Duration::from_millis(100);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (reader, writer) = start_echo();
        let reference = bare::start(reader, writer);
        let (bridge, stop) = start_bridge().await;
        println!(
            "{:>8} {:>8} {:>12} {:>10} {:>12} {:>10} {:>7} {:>7}",
            "sessions", "bytes", "ref req/s", "ref p99", "bridge req/s", "bridge p99", "ratio", "p99"
        );
        for size in [100, 10_000, 1_000_000] {
            for sessions in [1, 8, 64] {
                let (mut bare, mut ours) = (Vec::new(), Vec::new());
                for _ in 0..ROUNDS {
                    bare.push(load(reference, sessions, size, false).await);
                    ours.push(load(bridge, sessions, size, true).await);
                }
                let (bare, ours) = (middle(bare), middle(ours));
                println!(
                    "{sessions:>8} {size:>8} {:>12.0} {:>10.2?} {:>12.0} {:>10.2?} {:>7.2} {:>7.2}",
                    bare.rate,
                    bare.p99,
                    ours.rate,
                    ours.p99,
                    ours.rate / bare.rate,
                    ours.p99.as_secs_f64() / bare.p99.as_secs_f64(),
                );
            }
        }
        stop.cancel();
    });
}

/// An MCP server of the plainest kind: answers `initialize`, and everything else with its params.
fn start_echo() -> (OwnedReadHalf, OwnedWriteHalf) {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let mut output = far.try_clone().unwrap();
        let mut input = BufReader::with_capacity(256 * 1024, far);
        let mut line = Vec::new();
        let mut answers = Vec::new();
        while input.read_until(b'\n', &mut line).unwrap_or(0) > 0 {
            if let Some(id) = id_text(&line) {
                answers.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
                answers.extend_from_slice(&line[id.0..id.1]);
                answers.extend_from_slice(br#","result":"#);
                let params = memmem::find(&line, br#""params":"#).unwrap() + 9;
                answers.extend_from_slice(&line[params..line.len() - 1]);
                answers.push(b'\n');
            }
            line.clear();
            if input.buffer().is_empty() || answers.len() > 256 * 1024 {
                if output.write_all(&answers).is_err() {
                    return;
                }
                answers.clear();
            }
        }
    });
    UnixStream::from_std(near).unwrap().into_split()
}

async fn start_bridge() -> (SocketAddr, CancellationToken) {
    let (reader, writer) = start_echo();
    let bridge = StdioBridge::new(BackendIo::new(reader, writer), BridgeConfig::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve(
        listener,
        bridge.into_service(),
        ServeOptions::default(),
        stop.clone(),
    ));
    (address, stop)
}

struct Figures {
    rate: f64,
    p99: Duration,
}

fn middle(mut rounds: Vec<Figures>) -> Figures {
    rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    rounds.swap_remove(ROUNDS / 2)
}

async fn load(address: SocketAddr, sessions: usize, size: usize, with_session: bool) -> Figures {
    let mut clients = tokio::task::JoinSet::new();
    let begin = Instant::now();
    for client in 0..sessions {
        clients.spawn(async move { run_client(address, client, size, with_session, begin).await });
    }
    let mut times = Vec::new();
    while let Some(outcome) = clients.join_next().await {
        times.extend(outcome.unwrap());
    }
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    Figures {
        rate: f64::from(u32::try_from(times.len()).unwrap()) / RUN.as_secs_f64(),
        p99,
    }
}

/// One connection that asks again as soon as it is answered; how long each answer took.
async fn run_client(
    address: SocketAddr,
    client: usize,
    size: usize,
    with_session: bool,
    begin: Instant,
) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = BytesMut::new();
    let mut session = String::new();
    if with_session {
        let body =
            r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
        let head = ask(&mut stream, &mut buffer, &message(address, "", body)).await.0;
        let id = head
            .lines()
            .find_map(|line| line.strip_prefix("mcp-session-id: "))
            .expect("a session");
        session = format!("mcp-session-id: {id}\r\n");
    }
    let payload = format!("{client}-{}", "x".repeat(size.saturating_sub(80)));
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":{client},"method":"tools/call","params":{{"text":"{payload}"}}}}"#);
    let request = message(address, &session, &body);
    let expected = format!(r#"{{"jsonrpc":"2.0","id":{client},"result":{{"text":"{payload}"}}}}"#);
    let mut times = Vec::new();
    loop {
        let asked = Instant::now();
        if asked - begin > RUN + WARM_UP {
            return times;
        }
        let (_, answer) = ask(&mut stream, &mut buffer, &request).await;
        let answer = answer
            .strip_prefix(b"event: message\ndata: ".as_slice())
            .unwrap_or(&answer);
        assert!(
            answer.trim_ascii_end() == expected.as_bytes(),
            "{}",
            String::from_utf8_lossy(answer)
        );
        if asked - begin > WARM_UP {
            times.push(asked.elapsed());
        }
    }
}

fn message(address: SocketAddr, session: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /mcp HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n{session}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn ask(stream: &mut TcpStream, buffer: &mut BytesMut, request: &[u8]) -> (String, Bytes) {
    stream.write_all(request).await.unwrap();
    let end = loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        assert!(stream.read_buf(buffer).await.unwrap() > 0, "the connection ended");
    };
    let head = String::from_utf8_lossy(&buffer.split_to(end)).into_owned();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .expect("a length");
    let length: usize = length.parse().unwrap();
    buffer.reserve(length.saturating_sub(buffer.len()));
    while buffer.len() < length {
        assert!(stream.read_buf(buffer).await.unwrap() > 0, "the connection ended");
    }
    (head, buffer.split_to(length).freeze())
}
