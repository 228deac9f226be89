//! The proxies that people use, beside ours and the bare reference, in one run: each before the same echo server, asked
//! by the same clients. Every answer is checked; one that is wrong ends the contestant's turn and is said.
//!
//! `cargo bench -p thv-benches --bench peers`. A peer that is not installed is left out. Three programs are called
//! `mcp-proxy`, so each is named by a variable:
//!
//! | variable | program |
//! |---|---|
//! | `PEER_CRATE_MCP_PROXY` | `mcp-proxy` of the crate of that name |
//! | `PEER_NPM_MCP_PROXY` | `mcp-proxy` of npm |
//! | `PEER_PYPI_MCP_PROXY` | `mcp-proxy` of PyPI |
//! | `PEER_SUPERGATEWAY` | `supergateway` of npm; else the one in `PATH` |
//! | `PEER_HAPROXY` | `haproxy`; else the one in `PATH` |

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on has no figures"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use thv_benches::{bare, programs};
use thv_proxy::{
    BackendIo, BridgeConfig, ProxyService, ReverseProxy, ReverseProxyConfig, ServeOptions, StdioBridge, serve,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// How long each takes its turn, and how many there are; the middle one counts.
const RUN: Duration = Duration::from_secs(1);
const ROUNDS: usize = 3;
/// How long a peer may take to begin.
const BEGIN: Duration = Duration::from_secs(30);
/// A call that takes longer has failed: somebody waits for somebody who waits.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is compared; an argument leaves one of them.
const PARTS: [&str; 2] = ["stdio", "reverse"];
/// Sessions and bytes of each call.
const LOADS: [(usize, usize); 9] = [
    (1, 100),
    (8, 100),
    (64, 100),
    (8, 10_000),
    (8, 1_000_000),
    (256, 10_000),
    (16, 1_000_000),
    (256, 100),
    (1000, 100),
];

/// One who takes part.
struct Peer {
    name: &'static str,
    address: SocketAddr,
    path: &'static str,
    /// What it calls the tool.
    tool: &'static str,
    sessions: bool,
    child: Option<Child>,
    /// The server of a contestant within this program.
    _server: Option<Child>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted =
        |part: &str| std::env::args().all(|argument| !PARTS.contains(&&*argument) || argument == part);
    let folder = tempfile::tempdir().expect("a folder");
    if wanted("stdio") {
        println!("stdio server behind HTTP");
        let echo = programs::release("echo-server", "echo-server");
        let mut peers = vec![reference(&echo).await, bridge(&echo).await];
        peers.extend(programs_there(&echo, folder.path()).await);
        compare(&peers).await;
    }
    if !wanted("reverse") {
        return;
    }
    println!("HTTP server behind a reverse proxy");
    let server = http_server().await;
    let mut peers = vec![
        in_process("no proxy", server, "/mcp", false),
        reverse_proxy(server).await,
    ];
    peers.extend(haproxy(server, folder.path()).await);
    compare(&peers).await;
}

async fn compare(peers: &[Peer]) {
    println!(
        "{:>20} {:>9} {:>9} {:>12} {:>12} {:>12} {:>9}",
        "", "sessions", "bytes", "calls/s", "middle", "p99", "MiB"
    );
    for (sessions, bytes) in LOADS {
        for peer in peers {
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                match load(peer, sessions, bytes).await {
                    Ok(round) => rounds.push(round),
                    Err(reason) => {
                        println!("{:>20} {sessions:>9} {bytes:>9} failed: {reason}", peer.name);
                        break;
                    }
                }
            }
            if rounds.len() < ROUNDS {
                continue;
            }
            rounds.sort_by_key(Vec::len);
            let times = &rounds[ROUNDS / 2];
            let rate = f64::from(u32::try_from(times.len()).unwrap()) / RUN.as_secs_f64();
            let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
            println!(
                "{:>20} {sessions:>9} {bytes:>9} {rate:>12.0} {:>12.2?} {:>12.2?} {:>9}",
                peer.name,
                at(50),
                at(99),
                peer.resident()
            );
        }
    }
}

impl Peer {
    /// What its process holds; nothing for those that are in this one.
    fn resident(&self) -> String {
        let pid = self.child.as_ref().and_then(Child::id);
        let status = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let line = status
            .as_deref()
            .and_then(|text| text.lines().find_map(|line| line.strip_prefix("VmRSS:")));
        let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u32>().ok());
        kibibytes.map_or_else(String::new, |kib| format!("{:.1}", f64::from(kib) / 1024.0))
    }
}

/// All calls of one turn, sorted by how long they took.
async fn load(peer: &Peer, sessions: usize, bytes: usize) -> Result<Vec<Duration>, String> {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..sessions {
        let (address, path, tool, opens) = (peer.address, peer.path, peer.tool, peer.sessions);
        clients.spawn(async move {
            let mut client = Session::open(address, path, opens).await?;
            let payload = format!("{number}-{}", "x".repeat(bytes.saturating_sub(20)));
            let (mut times, begin) = (Vec::new(), Instant::now());
            while begin.elapsed() < RUN {
                let asked = Instant::now();
                let calling = client.call(number, tool, &payload);
                let called = tokio::time::timeout(PATIENCE, calling).await;
                called.map_err(|_| format!("no answer in {PATIENCE:?}"))??;
                times.push(asked.elapsed());
            }
            Ok::<_, String>(times)
        });
    }
    let mut all = Vec::new();
    while let Some(outcome) = clients.join_next().await {
        all.extend(outcome.map_err(|error| error.to_string())??);
    }
    all.sort_unstable();
    Ok(all)
}

/// One connection, with a session where there are some.
struct Session {
    sender: http1::SendRequest<Full<Bytes>>,
    address: SocketAddr,
    path: &'static str,
    id: Option<http::HeaderValue>,
}

impl Session {
    async fn open(address: SocketAddr, path: &'static str, opens: bool) -> Result<Self, String> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let mut session = Self {
            sender,
            address,
            path,
            id: None,
        };
        if opens {
            let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
            let response = session.post(hello.into()).await?;
            session.id = response.headers().get("mcp-session-id").cloned();
            read(response, b"result").await?;
            let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
            let response = session.post(initialized.into()).await?;
            let _ = response.into_body().collect().await;
        }
        Ok(session)
    }

    async fn call(&mut self, number: usize, tool: &str, payload: &str) -> Result<(), String> {
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"text":"{payload}"}}}}}}"#
        );
        let response = self.post(message).await?;
        let answer = read(response, b"\"result\"").await?;
        let id = [format!("\"id\":{number}"), format!("\"id\": {number}")];
        let right = memmem::find(&answer, payload.as_bytes()).is_some()
            && id.iter().any(|id| memmem::find(&answer, id.as_bytes()).is_some());
        right.then_some(()).ok_or_else(|| {
            let shown = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
            format!("a wrong answer: {shown}")
        })
    }

    async fn post(&mut self, message: String) -> Result<Response<Incoming>, String> {
        let mut request = Request::post(self.path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(Full::from(message))
            .unwrap();
        if let Some(id) = &self.id {
            request.headers_mut().insert("mcp-session-id", id.clone());
        }
        self.sender.ready().await.map_err(|error| error.to_string())?;
        let response = self
            .sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        if response.status().is_success() {
            Ok(response)
        } else {
            let status = response.status();
            let body = response
                .into_body()
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            Err(format!(
                "status {status}: {}",
                String::from_utf8_lossy(&body[..body.len().min(200)])
            ))
        }
    }
}

/// The whole body, which has to hold this.
async fn read(response: Response<Incoming>, expected: &[u8]) -> Result<Bytes, String> {
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| error.to_string())?
        .to_bytes();
    if memmem::find(&body, expected).is_some() {
        return Ok(body);
    }
    Err(format!(
        "no answer: {}",
        String::from_utf8_lossy(&body[..body.len().min(200)])
    ))
}

fn in_process(name: &'static str, address: SocketAddr, path: &'static str, sessions: bool) -> Peer {
    Peer {
        name,
        address,
        path,
        tool: "echo",
        sessions,
        child: None,
        _server: None,
    }
}

/// The echo server as a child of this program.
fn child(echo: &Path) -> Child {
    Command::new(echo)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the echo server starts")
}

async fn reference(echo: &Path) -> Peer {
    let mut child = child(echo);
    let (reader, writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let address = bare::start(reader, writer).await;
    Peer {
        _server: Some(child),
        ..in_process("bare reference", address, "/mcp", false)
    }
}

async fn bridge(echo: &Path) -> Peer {
    let mut child = child(echo);
    let (reader, writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let bridge = StdioBridge::new(BackendIo::new(reader, writer), BridgeConfig::default()).unwrap();
    Peer {
        _server: Some(child),
        ..in_process("thv-proxy", listen(bridge.into_service()).await, "/mcp", true)
    }
}

async fn listen(service: ProxyService) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(
        listener,
        service,
        ServeOptions::default(),
        CancellationToken::new(),
    ));
    address
}

/// A program that is installed: named by a variable, or in `PATH` where its name is its own.
fn installed(variable: &str, in_path: Option<&str>) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(in_path.unwrap_or_default()))
        .find(|program| in_path.is_some() && program.is_file())
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The proxies that are installed, each before an echo server of its own.
async fn programs_there(echo: &Path, folder: &Path) -> Vec<Peer> {
    let echo = echo.to_str().expect("a plain path");
    let mut peers = Vec::new();
    for (name, variable, in_path) in [
        ("mcp-proxy (crate)", "PEER_CRATE_MCP_PROXY", None),
        ("mcp-proxy (npm)", "PEER_NPM_MCP_PROXY", None),
        ("mcp-proxy (PyPI)", "PEER_PYPI_MCP_PROXY", None),
        ("supergateway", "PEER_SUPERGATEWAY", Some("supergateway")),
    ] {
        let Some(program) = installed(variable, in_path) else {
            println!("{name} is not installed ({variable}): left out");
            continue;
        };
        let port = free_port();
        let text = port.to_string();
        let mut command = Command::new(program);
        let (mut path, mut tool) = ("/mcp", "echo");
        match name {
            "mcp-proxy (crate)" => {
                let config = folder.join("proxy.toml");
                let text = format!(
                    "[proxy]\nname = \"bench\"\nversion = \"1\"\nseparator = \"/\"\n[proxy.listen]\nhost = \"127.0.0.1\"\nport = {port}\n[[backends]]\nname = \"bench\"\ntransport = \"stdio\"\ncommand = \"{echo}\"\n"
                );
                std::fs::write(&config, text).unwrap();
                command.arg("--config").arg(config);
                (path, tool) = ("/", "bench/echo");
            }
            "mcp-proxy (npm)" => {
                command.args(["--port", &text, "--server", "stream", "--", echo]);
            }
            "mcp-proxy (PyPI)" => {
                command.args(["--port", &text, "--host", "127.0.0.1", "--", echo]);
                path = "/mcp/";
            }
            _ => {
                let form = [
                    "--outputTransport",
                    "streamableHttp",
                    "--stateful",
                    "--streamableHttpPath",
                    "/mcp",
                ];
                command.args(["--stdio", echo, "--port", &text]).args(form);
            }
        }
        peers.extend(begun(name, command, port, path, tool, true).await);
    }
    peers
}

/// A program that has begun to answer; none when it does not, which is said.
async fn begun(
    name: &'static str,
    mut command: Command,
    port: u16,
    path: &'static str,
    tool: &'static str,
    sessions: bool,
) -> Option<Peer> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("{name} does not start ({error}): left out");
            return None;
        }
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let (begin, mut last) = (Instant::now(), String::new());
    while begin.elapsed() < BEGIN {
        let trying = async {
            Session::open(address, path, sessions)
                .await?
                .call(1, tool, "hello")
                .await
        };
        match tokio::time::timeout(Duration::from_secs(5), trying).await {
            Ok(Ok(())) => {
                return Some(Peer {
                    tool,
                    child: Some(child),
                    ..in_process(name, address, path, sessions)
                });
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = "no answer".into(),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{name} does not answer ({last}): left out");
    None
}

/// An HTTP server that answers each call with its text, as the echo server would, and knows no sessions.
async fn http_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(echo_text));
            tokio::spawn(serving);
        }
    });
    address
}

async fn echo_text(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let id = bare::id_text(&body).map_or(&b"null"[..], |(start, end)| &body[start..end]);
    let marker = br#""text":"#;
    let text = memmem::find(&body, marker).map_or(&b"\"\""[..], |at| {
        let text = &body[at + marker.len()..];
        &text[..text.len().saturating_sub(3)]
    });
    let head = br#"{"jsonrpc":"2.0","id":"#.as_slice();
    let answer = [
        head,
        id,
        br#","result":{"content":[{"type":"text","text":"#,
        text,
        b"}]}}",
    ]
    .concat();
    let mut response = Response::new(Full::from(answer));
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn reverse_proxy(server: SocketAddr) -> Peer {
    let target = format!("http://{server}").parse().unwrap();
    let proxy = ReverseProxy::new(target, ReverseProxyConfig::default()).unwrap();
    in_process("thv-proxy", listen(proxy.into_service()).await, "/mcp", false)
}

async fn haproxy(server: SocketAddr, folder: &Path) -> Option<Peer> {
    let Some(program) = installed("PEER_HAPROXY", Some("haproxy")) else {
        println!("haproxy is not installed (PEER_HAPROXY): left out");
        return None;
    };
    let (port, config) = (free_port(), folder.join("haproxy.cfg"));
    let text = format!(
        "global\n  nbthread 2\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  http-reuse always\nlisten bench\n  bind 127.0.0.1:{port}\n  server one {server}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(config);
    begun("haproxy", command, port, "/mcp", "echo", false).await
}
