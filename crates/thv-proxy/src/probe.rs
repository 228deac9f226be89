//! Readiness: a server is ready when it has answered `initialize`.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use thv_core::TransportType;
use url::Url;

use crate::error::ProxyError;
use crate::jsonrpc;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerInfo {
    /// `serverInfo.name`; empty when it says none.
    pub name: String,
    /// `serverInfo.version`; empty when it says none.
    pub version: String,
    /// The revision it chose; empty when it says none.
    pub protocol_version: String,
}

/// An answer to a probe larger than this is not read further.
const LONGEST_ANSWER: usize = 1 << 20;

impl ServerInfo {
    pub(crate) fn from_result(result: &[u8]) -> Self {
        let text = |value: Option<&[u8]>| {
            value
                .and_then(|text| serde_json::from_slice(text).ok())
                .unwrap_or_default()
        };
        let info = jsonrpc::member(result, "serverInfo").unwrap_or_default();
        Self {
            name: text(jsonrpc::member(info, "name")),
            version: text(jsonrpc::member(info, "version")),
            protocol_version: text(jsonrpc::member(result, "protocolVersion")),
        }
    }
}

/// Asks the server at `url` once whether it is ready: streamable HTTP by `initialize`, SSE by opening its stream. Redirects are not followed.
///
/// For a stdio server use [`StdioBridge::initialize`](crate::StdioBridge::initialize). Whoever starts a server repeats
/// this while the error is retryable.
///
/// # Errors
/// [`ProxyError::Unavailable`] when it cannot be reached, [`ProxyError::Refused`] when it answers otherwise,
/// [`ProxyError::Timeout`] after `timeout`. Cancel-safe.
pub async fn initialize(
    url: &Url,
    transport: TransportType,
    timeout: Duration,
) -> Result<ServerInfo, ProxyError> {
    let asking = async {
        let client = client(url)?;
        match transport {
            TransportType::Sse => open_stream(&client, url).await,
            _ => ask(&client, url).await,
        }
    };
    match tokio::time::timeout(timeout, asking).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ProxyError::Timeout {
            what: "initialize",
            seconds: timeout.as_secs(),
        }),
    }
}

/// Asks the server at `url` whether it is there: any answer below 500 counts, and nothing of it is read. Lighter than
/// [`initialize`], and no session is made: for looking again and again.
///
/// # Errors
/// [`ProxyError::Unavailable`] when it cannot be reached or answers with an error of its own,
/// [`ProxyError::Timeout`] after `timeout`. Cancel-safe.
pub async fn reachable(url: &Url, timeout: Duration) -> Result<(), ProxyError> {
    let asking = async {
        let client = client(url)?;
        let request = client
            .get(url.clone())
            .header(ACCEPT, "application/json, text/event-stream");
        let status = request.send().await.map_err(unavailable)?.status();
        if status.is_server_error() {
            let reason = format!("the health check was answered with status {status}");
            return Err(ProxyError::Unavailable { reason, source: None });
        }
        Ok(())
    };
    match tokio::time::timeout(timeout, asking).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ProxyError::Timeout {
            what: "the health check",
            seconds: timeout.as_secs(),
        }),
    }
}

/// No connection outlives a probe, and no redirect is followed.
fn client(url: &Url) -> Result<reqwest::Client, ProxyError> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0);
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(unavailable)
}

/// Whether `url` is on this machine: then no proxy of the environment stands between.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

fn unavailable(error: reqwest::Error) -> ProxyError {
    // The address of a remote may carry a secret in its query.
    ProxyError::Unavailable {
        reason: "the readiness probe failed".into(),
        source: Some(Box::new(error.without_url())),
    }
}

fn refused(response: &reqwest::Response) -> Option<ProxyError> {
    let status = response.status();
    if status.is_success() {
        return None;
    }
    let reason = format!("the readiness probe was answered with status {status}");
    Some(if status.is_server_error() {
        ProxyError::Unavailable { reason, source: None }
    } else {
        ProxyError::Refused { reason }
    })
}

async fn open_stream(client: &reqwest::Client, url: &Url) -> Result<ServerInfo, ProxyError> {
    let request = client.get(url.clone()).header(ACCEPT, "text/event-stream");
    let response = request.send().await.map_err(unavailable)?;
    refused(&response).map_or_else(|| Ok(ServerInfo::default()), Err)
}

async fn ask(client: &reqwest::Client, url: &Url) -> Result<ServerInfo, ProxyError> {
    let version = env!("CARGO_PKG_VERSION");
    let message = format!(
        r#"{{"jsonrpc":"2.0","id":"toolhive-init-check","method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{{}},"clientInfo":{{"name":"thv","version":"{version}"}}}}}}"#
    );
    let request = client
        .post(url.clone())
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json, text/event-stream")
        .body(message);
    let mut response = request.send().await.map_err(unavailable)?;
    if let Some(error) = refused(&response) {
        return Err(error);
    }
    let session = response.headers().get("mcp-session-id").cloned();
    let mut received = Vec::new();
    let outcome = loop {
        if let Some(outcome) = find_answer(&received) {
            break outcome;
        }
        match response.chunk().await.map_err(unavailable)? {
            Some(chunk) if received.len() + chunk.len() <= LONGEST_ANSWER => {
                received.extend_from_slice(&chunk);
            }
            _ => {
                break Err(ProxyError::Refused {
                    reason: "the answer to initialize is not one".into(),
                });
            }
        }
    };
    if let Some(session) = session {
        // The probe's own session is of no use to anybody; a server that keeps it all the same is still ready.
        let _ = client
            .delete(url.clone())
            .header("mcp-session-id", session)
            .send()
            .await;
    }
    outcome
}

/// The answer in a JSON body or in one event of a stream, as far as it was received.
fn find_answer(received: &[u8]) -> Option<Result<ServerInfo, ProxyError>> {
    let data = |line: &[u8]| {
        line.strip_prefix(b"data:")
            .map(<[u8]>::trim_ascii)
            .map(<[u8]>::to_vec)
    };
    let candidates =
        std::iter::once(received.to_vec()).chain(received.split(|byte| *byte == b'\n').filter_map(data));
    for candidate in candidates {
        let Ok(envelope) = jsonrpc::scan(&candidate) else {
            continue;
        };
        if envelope.id_in(&candidate) != b"\"toolhive-init-check\"" {
            continue;
        }
        if let Some(result) = envelope.result {
            return Some(Ok(ServerInfo::from_result(result.of(&candidate))));
        }
        if let Some(error) = envelope.error {
            let reason = format!(
                "initialize answered with {}",
                String::from_utf8_lossy(error.of(&candidate))
            );
            return Some(Err(ProxyError::Refused { reason }));
        }
    }
    None
}
