//! A server in memory, a served bridge, and an HTTP client.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "helpers of tests; each test binary uses a part"
)]

pub mod played;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use thv_proxy::{Backend, BackendIo, BridgeConfig, ServeOptions, StdioBridge, serve};
use tokio::io::{
    AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

/// The server's end of the pipe.
pub struct Wire {
    pub lines: BufReader<ReadHalf<DuplexStream>>,
    pub output: WriteHalf<DuplexStream>,
}

/// A pipe: what the bridge gets, and what the server gets.
pub fn wire() -> (BackendIo, Wire) {
    let (near, far) = duplex(64 * 1024);
    let (reader, writer) = split(near);
    let (input, output) = split(far);
    (
        BackendIo::new(reader, writer),
        Wire {
            lines: BufReader::new(input),
            output,
        },
    )
}

impl Wire {
    /// The next message as it came, without its line feed; `None` at the end.
    pub async fn raw(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.lines.read_line(&mut line).await.ok()? > 0).then(|| line.trim_end_matches('\n').to_owned())
    }

    /// The next message.
    pub async fn next(&mut self) -> Option<Value> {
        Some(serde_json::from_str(&self.raw().await?).expect("one JSON message on each line"))
    }

    pub async fn write(&mut self, text: &str) {
        let _ = self.output.write_all(format!("{text}\n").as_bytes()).await;
    }

    /// Answers `initialize` and takes `notifications/initialized`.
    pub async fn handshake(&mut self) {
        let asked = self.next().await.expect("initialize");
        assert_eq!(asked["method"], "initialize");
        self.write(&initialize_answer(&asked["id"])).await;
        assert_eq!(
            self.next().await.expect("initialized")["method"],
            "notifications/initialized"
        );
    }
}

pub fn initialize_answer(id: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "fake", "version": "1"},
    }})
    .to_string()
}

/// A server: answers `initialize`; `echo` with its params; `slow` never; `quit` by ending; `notify` with a
/// notification of that method before its answer; `count` with how many `initialize` it has seen.
pub async fn run_server(mut wire: Wire) {
    let (sender, mut outgoing) = mpsc::channel::<String>(64);
    let mut output = wire.output;
    let writer = tokio::spawn(async move {
        while let Some(line) = outgoing.recv().await {
            if output.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let mut initialized = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if wire.lines.read_line(&mut line).await.unwrap_or(0) == 0 {
            break;
        }
        let message: Value = serde_json::from_str(&line).expect("one JSON message on each line");
        let Some(id) = message.get("id") else { continue };
        let result = match message["method"].as_str().unwrap_or_default() {
            "initialize" => {
                initialized += 1;
                let _ = sender.send(initialize_answer(id)).await;
                continue;
            }
            "slow" => continue,
            "quit" => break,
            "count" => json!(initialized),
            "notify" => {
                let line = json!({"jsonrpc": "2.0", "method": message["params"]["method"], "params": message["params"]["params"]});
                let _ = sender.send(line.to_string()).await;
                json!({})
            }
            _ => message["params"].clone(),
        };
        let _ = sender
            .send(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
            .await;
    }
    drop(sender);
    let _ = writer.await;
}

/// A served bridge. Its tasks end with it.
pub struct Served {
    pub bridge: StdioBridge,
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub server: JoinHandle<()>,
    pub client: reqwest::Client,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub async fn served(bridge: StdioBridge) -> Served {
    // Whoever is waited for is waited for as long as it takes.
    let options = ServeOptions {
        drain: Duration::from_hours(1),
        ..ServeOptions::default()
    };
    served_with(bridge, options).await
}

pub async fn served_with(bridge: StdioBridge, options: ServeOptions) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(
        listener,
        bridge.clone().into_router(),
        options,
        stop.clone(),
    ));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    Served {
        bridge,
        address,
        stop,
        server,
        client,
    }
}

/// A bridge over [`run_server`].
pub async fn with_server(config: BridgeConfig) -> Served {
    let (io, wire) = wire();
    tokio::spawn(run_server(wire));
    served(StdioBridge::new(io, config).unwrap()).await
}

/// A bridge over a server that the test plays itself.
pub async fn with_wire(config: BridgeConfig) -> (Served, Wire) {
    let (io, wire) = wire();
    (served(StdioBridge::new(io, config).unwrap()).await, wire)
}

pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Served {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn post_request(
        &self,
        session: Option<&str>,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::RequestBuilder {
        let mut request = self
            .client
            .post(self.url("/mcp"))
            .header("content-type", "application/json")
            .body(body);
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        request
    }

    pub async fn post(&self, session: Option<&str>, body: impl Into<reqwest::Body>) -> Answer {
        finish(self.post_request(session, body)).await
    }

    /// A new session's id.
    pub async fn open(&self) -> String {
        let answer = self
            .post(
                None,
                r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#,
            )
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.headers["mcp-session-id"].to_str().unwrap().to_owned()
    }
}

pub async fn finish(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer {
        status,
        headers,
        text: response.text().await.unwrap(),
    }
}

/// Waits until `done`, checked often, with a deadline that only a broken promise reaches.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(2);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What must come, however slow the machine is.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(2), work)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Reads an event stream until `wanted` was seen.
pub async fn read_until(response: &mut reqwest::Response, seen: &mut String, wanted: &str) {
    let reading = async {
        // What was looked through is not looked through again: an event may be large.
        let mut from = 0;
        while memchr::memmem::find(&seen.as_bytes()[from..], wanted.as_bytes()).is_none() {
            from = seen.len().saturating_sub(wanted.len());
            let chunk = response
                .chunk()
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("the stream ended: {seen}"));
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    soon(wanted, reading).await;
}

/// A server that is there again at once.
#[derive(Debug)]
pub struct Again(pub Mutex<Option<BackendIo>>);

#[thv_proxy::async_trait]
impl Backend for Again {
    async fn attach(&self) -> std::io::Result<Option<BackendIo>> {
        Ok(self.0.lock().unwrap().take())
    }
}

/// The TLS of a server with a certificate of the tests' authority, which offers these protocols.
pub fn tls(protocols: &[&str]) -> TlsAcceptor {
    let certificate = CertificateDer::from_slice(include_bytes!("../tls/server.der"));
    let key = PrivateKeyDer::try_from(&include_bytes!("../tls/server.key.der")[..]).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// The most memory that this program has had, in bytes.
pub fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes << 10
}
