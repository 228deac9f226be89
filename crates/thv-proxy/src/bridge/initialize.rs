//! `initialize`, made once for each connection to the server and shared by all clients.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::calls::CallError;
use super::core::{Ask, Core};
use super::link::Link;
use super::server_requests::CAPABILITIES;
use super::tasks;
use crate::budget::Share;
use crate::jsonrpc::{self, Span};
use crate::probe::ServerInfo;

/// Revisions of the protocol with a handshake, oldest first.
pub(crate) const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// The revision without one.
pub(crate) const STATELESS_REVISION: &str = "2026-07-28";
/// A server may have to fetch itself first; clients that wait are told earlier.
pub(super) const PATIENCE: Duration = Duration::from_mins(10);
/// A server that has refused to initialize is there: it answers soon, or not at all.
const DISCOVERY: Duration = Duration::from_secs(5);

/// What the server answered to `initialize`.
#[derive(Debug)]
pub(crate) struct Initialized {
    /// The text of `result`.
    result: Bytes,
    /// Where its `protocolVersion` is, with quotes.
    version: Option<Span>,
    /// The server has no sessions: its requests say themselves which revision they are of.
    pub(super) stateless: bool,
    /// Calls may become tasks.
    pub(super) tasks: bool,
    /// What clients are told behind their ids, by the revision that they are told, and those without sessions. It may be
    /// long, and many may leave it unread: it is made once.
    answers: [OnceLock<Bytes>; REVISIONS.len()],
    discovered: OnceLock<Bytes>,
}

/// What stands behind the id in an answer with this result.
fn behind_id(result: &[&[u8]]) -> Bytes {
    [br#","result":"#, &result.concat()[..], b"}"].concat().into()
}

impl Initialized {
    fn new(result: &[u8], stateless: bool) -> Self {
        let version =
            jsonrpc::member_span(result, "protocolVersion").filter(|span| result[span.start] == b'"');
        Self {
            result: Bytes::copy_from_slice(result),
            version,
            stateless,
            tasks: !stateless && tasks::declared(result).is_some(),
            answers: Default::default(),
            discovered: OnceLock::new(),
        }
    }

    /// The answer to a client that asked for `wanted`, a place among the known revisions: the highest one that both know.
    pub(super) fn answer_for(&self, wanted: Option<usize>) -> Bytes {
        let own = self
            .version
            .and_then(|span| Some((span, revision(span.of(&self.result))?)));
        let lower = own.and_then(|(span, own)| Some((span, wanted.filter(|wanted| *wanted < own)?)));
        let Some((span, chosen)) = lower else {
            let last = &self.answers[REVISIONS.len() - 1];
            return last.get_or_init(|| behind_id(&[&self.result])).clone();
        };
        let made = self.answers[chosen].get_or_init(|| {
            let (head, tail) = (&self.result[..span.start], &self.result[span.end..]);
            behind_id(&[head, b"\"", REVISIONS[chosen].as_bytes(), b"\"", tail])
        });
        made.clone()
    }

    /// What the server can do; empty when it does not say.
    pub(super) fn capabilities(&self) -> &[u8] {
        jsonrpc::member(&self.result, "capabilities").unwrap_or_default()
    }

    /// The revisions that clients of this server can speak, newest first: the one without sessions, and those up to the
    /// server's own.
    fn supported(&self) -> impl Iterator<Item = &'static str> {
        let own = self.version.and_then(|span| revision(span.of(&self.result)));
        let with_handshake = REVISIONS.iter().take(own.map_or(REVISIONS.len(), |own| own + 1));
        [STATELESS_REVISION]
            .into_iter()
            .chain(with_handshake.rev().copied())
    }

    /// The answer to `server/discover`.
    pub(super) fn discovered(&self) -> Bytes {
        let made = self
            .discovered
            .get_or_init(|| behind_id(&[self.discovery().as_bytes()]));
        made.clone()
    }

    fn discovery(&self) -> String {
        let versions: Vec<String> = self.supported().map(jsonrpc::quoted).collect();
        let text = |name| {
            let member = jsonrpc::member(&self.result, name)?;
            std::str::from_utf8(member).ok()
        };
        let capabilities = text("capabilities").unwrap_or("{}");
        let instructions =
            text("instructions").map_or_else(String::new, |text| format!(r#""instructions":{text},"#));
        let server = text("serverInfo").unwrap_or(r#"{"name":"","version":""}"#);
        format!(
            r#"{{"resultType":"complete","supportedVersions":[{}],"capabilities":{capabilities},{instructions}"ttlMs":0,"cacheScope":"private","_meta":{{"io.modelcontextprotocol/serverInfo":{server}}}}}"#,
            versions.join(",")
        )
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

impl Core {
    /// As [`initialized`](Self::initialized), for as long as a client may wait.
    pub(super) async fn initialized_in_time(
        self: &Arc<Self>,
        link: &Arc<Link>,
    ) -> Result<Arc<Initialized>, CallError> {
        self.initialized_by(link, Instant::now() + self.config.request_timeout)
            .await
    }

    /// As [`initialized`](Self::initialized), until `deadline`, and while the server does not stand still.
    pub(super) async fn initialized_by(
        self: &Arc<Self>,
        link: &Arc<Link>,
        deadline: Instant,
    ) -> Result<Arc<Initialized>, CallError> {
        let waiting = tokio::time::timeout_at(deadline, self.initialized(link));
        self.while_working(async { waiting.await.map_err(|_| CallError::Timeout)? })
            .await
    }
}

async fn initialize(core: Arc<Core>, link: Arc<Link>) -> Result<Arc<Initialized>, CallError> {
    let newest = REVISIONS[REVISIONS.len() - 1];
    let version = env!("CARGO_PKG_VERSION");
    let message = Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{newest}","capabilities":{CAPABILITIES},"clientInfo":{{"name":"thv-proxy","version":"{version}"}}}}}}"#
    ));
    let deadline = Instant::now() + PATIENCE;
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
        // A server without sessions does not know the method, or asks for what each of its requests has to say.
        if refuses_the_method(error.of(&answer.line))
            && let Some(ready) = discover(&core, &link).await?
        {
            core.listen_to_server(&link, &ready).await?;
            let _ = link.ready.set(Arc::clone(&ready));
            tracing::debug!(server = %ready.info().name, "the server has no sessions");
            return Ok(ready);
        }
        return Err(CallError::InitializeError {
            error: answer.line.slice(error.start..error.end),
        });
    }
    let result = envelope
        .result
        .map_or_else(Bytes::new, |span| answer.line.slice(span.start..span.end));
    let result = tasks::without_lists(result);
    let ready = Arc::new(Initialized::new(&result, false));
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

/// What a request of the proxy to a server without sessions says of itself.
pub(super) fn own_meta() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        r#""io.modelcontextprotocol/protocolVersion":"{STATELESS_REVISION}","io.modelcontextprotocol/clientInfo":{{"name":"thv-proxy","version":"{version}"}},"io.modelcontextprotocol/clientCapabilities":{{}}"#
    )
}

/// Whether an error of `initialize` may be that of a server that has no such method.
fn refuses_the_method(error: &[u8]) -> bool {
    let code = jsonrpc::member(error, "code").and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
    matches!(code, Some(-32602..=-32600 | -32022..=-32020))
}

/// Asks a server that refused to initialize whether it has no sessions; none when it has not said so.
async fn discover(core: &Arc<Core>, link: &Arc<Link>) -> Result<Option<Arc<Initialized>>, CallError> {
    let meta = own_meta();
    let message =
        format!(r#"{{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{{"_meta":{{{meta}}}}}}}"#);
    let deadline = Instant::now() + DISCOVERY;
    let mut call = core.send(link, Ask::own(message.into())?, deadline).await?;
    let answer = match core.stop.run_until_cancelled(call.reply()).await {
        Some(Ok(answer)) => answer,
        Some(Err(CallError::Timeout)) => return Ok(None),
        Some(Err(error)) => return Err(error),
        None => return Err(CallError::Died),
    };
    let found = answer
        .result
        .map(|span| serde_json::from_slice(span.of(&answer.line)));
    let Some(Ok(serde_json::Value::Object(found))) = found else {
        return Ok(None);
    };
    let versions = found
        .get("supportedVersions")
        .and_then(serde_json::Value::as_array);
    if !versions.is_some_and(|all| all.iter().any(|one| one == STATELESS_REVISION)) {
        return Ok(None);
    }
    let ready = Initialized::new(&as_initialized(&found), true);
    Ok(Some(Arc::new(ready)))
}

/// What a server without sessions would have answered to `initialize`. It is listened to for changes of its lists; those
/// of single resources are not passed on from it.
fn as_initialized(found: &serde_json::Map<String, serde_json::Value>) -> Bytes {
    let mut capabilities = found.get("capabilities").cloned().unwrap_or_default();
    if let Some(capabilities) = capabilities.as_object_mut() {
        for capability in capabilities
            .values_mut()
            .filter_map(serde_json::Value::as_object_mut)
        {
            capability.remove("subscribe");
        }
    }
    let meta = found
        .get("_meta")
        .and_then(|meta| meta.get("io.modelcontextprotocol/serverInfo"));
    let server = meta.or(found.get("serverInfo")).cloned();
    let mut result = serde_json::json!({
        "protocolVersion": REVISIONS[REVISIONS.len() - 1],
        "capabilities": capabilities,
        "serverInfo": server.unwrap_or_else(|| serde_json::json!({"name": "", "version": ""})),
    });
    if let (Some(instructions), Some(result)) = (found.get("instructions"), result.as_object_mut()) {
        result.insert("instructions".into(), instructions.clone());
    }
    result.to_string().into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_said_of_itself_is_in_memory_once_however_many_clients_are_told() {
        let text = r#"{"protocolVersion":"2025-06-18","capabilities":{},"instructions":"i"}"#;
        let ready = Initialized::new(text.as_bytes(), false);
        for (wanted, told) in [
            (Some(0), "2024-11-05"),
            (Some(2), "2025-06-18"),
            (Some(3), "2025-06-18"),
            (None, "2025-06-18"),
        ] {
            let (first, second) = (ready.answer_for(wanted), ready.answer_for(wanted));
            let expected = text.replace("2025-06-18", told);
            assert_eq!(first, format!(r#","result":{expected}}}"#));
            assert_eq!(first.as_ptr(), second.as_ptr());
        }
        assert_eq!(ready.discovered().as_ptr(), ready.discovered().as_ptr());
    }
}
