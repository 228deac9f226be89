//! Readiness: a server is ready when it has answered `initialize`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap};
use http::{HeaderValue, Method, Response};
use thv_core::TransportType;

use crate::body::{Body, BodyError};
use crate::certificate;
use crate::error::ProxyError;
use crate::jsonrpc;
use crate::mcp_headers::SESSION_ID;
use crate::reverse::{Data, EventReader, Failure, ReverseProxy};
use crate::whole_events::{IDENTITY, is_coded, is_event_stream};

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
const ID: &[u8] = b"\"toolhive-init-check\"";

impl ServerInfo {
    pub(crate) fn from_result(result: &[u8]) -> Self {
        let text = |value: Option<&[u8]>| value.and_then(jsonrpc::text).unwrap_or_default();
        let info = jsonrpc::member(result, "serverInfo").unwrap_or_default();
        Self {
            name: text(jsonrpc::member(info, "name")),
            version: text(jsonrpc::member(info, "version")),
            protocol_version: text(jsonrpc::member(result, "protocolVersion")),
        }
    }
}

impl ReverseProxy {
    /// Asks the server once whether it is ready, as a client of the proxy would, with the headers that are set and the
    /// redirects that are followed: streamable HTTP by `initialize`, SSE by opening its stream.
    ///
    /// For a stdio server use [`StdioBridge::initialize`](crate::StdioBridge::initialize). Whoever starts a server
    /// repeats this while the error is retryable.
    ///
    /// # Errors
    /// [`ProxyError::Unavailable`] when it cannot be reached, [`ProxyError::Certificate`] when its certificate is not accepted,
    /// [`ProxyError::Refused`] when it answers otherwise, [`ProxyError::Timeout`] after `timeout`. Cancel-safe.
    pub async fn initialize(&self, timeout: Duration) -> Result<ServerInfo, ProxyError> {
        within(timeout, "initialize", async {
            match self.transport() {
                TransportType::Sse => {
                    let response = self.ask(Method::GET, "text/event-stream", None).await?;
                    refused(&response).map_or_else(|| Ok(ServerInfo::default()), Err)
                }
                _ => self.ask_to_initialize().await,
            }
        })
        .await
    }

    /// Asks the server whether it is there: any answer below 500 counts, and nothing of it is read. Lighter than
    /// [`ReverseProxy::initialize`], and no session is made: for looking again and again.
    ///
    /// # Errors
    /// [`ProxyError::Unavailable`] when it cannot be reached or answers with an error of its own,
    /// [`ProxyError::Certificate`] when its certificate is not accepted, [`ProxyError::Timeout`] after `timeout`. Cancel-safe.
    pub async fn reachable(&self, timeout: Duration) -> Result<(), ProxyError> {
        within(timeout, "the health check", async {
            let accept = "application/json, text/event-stream";
            let status = self.ask(Method::GET, accept, None).await?.status();
            if status.is_server_error() {
                let reason = format!("the health check was answered with status {status}");
                return Err(ProxyError::Unavailable { reason, source: None });
            }
            Ok(())
        })
        .await
    }

    async fn ask(
        &self,
        method: Method,
        accept: &'static str,
        body: Option<Bytes>,
    ) -> Result<Response<Body>, ProxyError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(ACCEPT_ENCODING, IDENTITY);
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let asked = self.ask_server(method, headers, body.unwrap_or_default());
        asked.await.map_err(failed)
    }

    async fn ask_to_initialize(&self) -> Result<ServerInfo, ProxyError> {
        let version = env!("CARGO_PKG_VERSION");
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":"toolhive-init-check","method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{{}},"clientInfo":{{"name":"thv","version":"{version}"}}}}}}"#
        );
        let accept = "application/json, text/event-stream";
        let mut response = self.ask(Method::POST, accept, Some(message.into())).await?;
        if let Some(error) = refused(&response) {
            return Err(error);
        }
        let session = response.headers().get(&SESSION_ID).cloned();
        let outcome = read_answer(&mut response).await;
        if let Some(session) = session {
            let mut headers = HeaderMap::new();
            headers.insert(&SESSION_ID, session);
            // The probe's own session is of no use to anybody; a server that keeps it all the same is still ready.
            let _ = self.ask_server(Method::DELETE, headers, Bytes::new()).await;
        }
        outcome
    }
}

async fn within<T>(
    timeout: Duration,
    what: &'static str,
    asking: impl Future<Output = Result<T, ProxyError>>,
) -> Result<T, ProxyError> {
    match tokio::time::timeout(timeout, asking).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ProxyError::Timeout {
            what,
            seconds: timeout.as_secs(),
        }),
    }
}

fn failed(failure: Failure) -> ProxyError {
    let reason = failure.message();
    match failure {
        Failure::Unreachable(error) => match certificate::refused(&*error) {
            Some(reason) => ProxyError::Certificate { reason },
            None => ProxyError::Unavailable {
                reason: "the readiness probe failed".into(),
                source: Some(error),
            },
        },
        _ => ProxyError::Refused {
            reason: reason.into(),
        },
    }
}

fn unavailable(error: BodyError) -> ProxyError {
    failed(Failure::Unreachable(error))
}

fn refused(response: &Response<Body>) -> Option<ProxyError> {
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

/// The answer in a JSON body, or in one event of a stream.
async fn read_answer(response: &mut Response<Body>) -> Result<ServerInfo, ProxyError> {
    if is_coded(response.headers()) {
        return Err(ProxyError::Refused {
            reason: "the answer to initialize is compressed, which nobody has asked for".into(),
        });
    }
    let streamed = is_event_stream(response.headers());
    let (mut reader, mut whole, mut received) = (EventReader::new(), Vec::new(), 0);
    while let Some(chunk) = response.body_mut().chunk().await.map_err(unavailable)? {
        received += chunk.len();
        if received > LONGEST_ANSWER {
            break;
        }
        if !streamed {
            whole.extend_from_slice(&chunk);
            continue;
        }
        reader.push(&chunk);
        while let Some(data) = reader.next_data() {
            if let Data::Whole(data) = data
                && let Some(answer) = answer_in(&data)
            {
                return answer;
            }
        }
    }
    answer_in(&whole).unwrap_or_else(|| {
        Err(ProxyError::Refused {
            reason: "the answer to initialize is not one".into(),
        })
    })
}

fn answer_in(message: &[u8]) -> Option<Result<ServerInfo, ProxyError>> {
    let envelope = jsonrpc::scan(message).ok()?;
    if envelope.id_in(message) != ID {
        return None;
    }
    if let Some(error) = envelope.error {
        let error = String::from_utf8_lossy(error.of(message));
        let reason = format!("initialize answered with {error}");
        return Some(Err(ProxyError::Refused { reason }));
    }
    Some(Ok(ServerInfo::from_result(envelope.result?.of(message))))
}
