//! `initialize`, made once for each connection to the server and shared by all clients.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;

use super::calls::CallError;
use super::core::{Ask, Core};
use super::link::Link;
use super::server_requests::CAPABILITIES;
use crate::budget::Share;
use crate::jsonrpc::{self, Span};
use crate::probe::ServerInfo;

/// Revisions of the protocol with a handshake, oldest first.
pub(crate) const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// The revision without one.
pub(crate) const STATELESS_REVISION: &str = "2026-07-28";
/// A server may have to fetch itself first; clients that wait are told earlier.
pub(super) const PATIENCE: Duration = Duration::from_mins(10);

/// What the server answered to `initialize`.
#[derive(Debug)]
pub(crate) struct Initialized {
    /// The text of `result`.
    result: Bytes,
    /// Where its `protocolVersion` is, with quotes.
    version: Option<Span>,
}

impl Initialized {
    /// `result` for a client that asked for `wanted`, a place among the known revisions: the highest one that both know.
    pub(super) fn result_for(&self, wanted: Option<usize>) -> Bytes {
        let Some(span) = self.version else {
            return self.result.clone();
        };
        let server = span.of(&self.result);
        let chosen = match (wanted, revision(server)) {
            (Some(client), Some(server)) if client < server => REVISIONS[client],
            _ => return self.result.clone(),
        };
        let head = &self.result[..span.start];
        let tail = &self.result[span.end..];
        [head, b"\"", chosen.as_bytes(), b"\"", tail].concat().into()
    }

    pub(super) fn info(&self) -> ServerInfo {
        ServerInfo::from_result(&self.result)
    }
}

/// The place of a revision, a JSON string, among the known ones.
pub(super) fn revision(text: &[u8]) -> Option<usize> {
    REVISIONS
        .iter()
        .position(|known| known.as_bytes() == jsonrpc::unquoted(text))
}

impl Core {
    /// Waits until the server on `link` has answered `initialize`; the first who asks makes it happen.
    pub(super) async fn initialized(
        self: &Arc<Self>,
        link: &Arc<Link>,
    ) -> Result<Arc<Initialized>, CallError> {
        if let Some(ready) = link.ready.get() {
            return Ok(Arc::clone(ready));
        }
        let flight = link.initialization(|| {
            let task = self.tasks.spawn(initialize(Arc::clone(self), Arc::clone(link)));
            async move { task.await.unwrap_or(Err(CallError::Died)) }.boxed()
        });
        flight.await
    }
}

async fn initialize(core: Arc<Core>, link: Arc<Link>) -> Result<Arc<Initialized>, CallError> {
    let newest = REVISIONS[REVISIONS.len() - 1];
    let version = env!("CARGO_PKG_VERSION");
    let message = Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{newest}","capabilities":{CAPABILITIES},"clientInfo":{{"name":"thv-proxy","version":"{version}"}}}}}}"#
    ));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut call = core.send(&link, Ask::own(message)?, deadline).await?;
    let answer = core
        .stop
        .run_until_cancelled(call.reply())
        .await
        .unwrap_or(Err(CallError::Died))?;
    let envelope = jsonrpc::scan(&answer.line).map_err(|error| CallError::NotReady {
        reason: error.to_string(),
    })?;
    if let Some(error) = envelope.error {
        return Err(CallError::InitializeError {
            error: answer.line.slice(error.start..error.end),
        });
    }
    let result = envelope
        .result
        .map_or_else(Bytes::new, |span| answer.line.slice(span.start..span.end));
    let version = jsonrpc::member_span(&result, "protocolVersion").filter(|span| result[span.start] == b'"');
    let ready = Arc::new(Initialized {
        result: Bytes::copy_from_slice(&result),
        version,
    });
    core.notify(
        &link,
        Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
        Share::default(),
    )
    .await?;
    let _ = link.ready.set(Arc::clone(&ready));
    tracing::debug!(server = %ready.info().name, "the server is initialized");
    resubscribe(&core);
    core.orphaned.notify_one();
    Ok(ready)
}

/// A server that was attached to anew knows nothing of what clients listen to.
fn resubscribe(core: &Arc<Core>) {
    let uris = core.subscriptions.all();
    if uris.is_empty() {
        return;
    }
    let again = Arc::clone(core);
    core.tasks.spawn(async move {
        for uri in uris {
            if let Err(error) = again.ask_about("resources/subscribe", &uri).await {
                tracing::debug!(?error, "a subscription could not be made again");
            }
        }
    });
}
