//! The state that all clients of one server share, and the way of a message in either direction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use thv_core::ProxyMode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::BridgeEnd;
use super::calls::{CallError, Calls, Pending, ServerLine};
use super::config::BridgeConfig;
use super::link::{Link, Outgoing};
use super::sessions::Sessions;
use crate::answer;
use crate::framer::Frame;
use crate::jsonrpc::{self, Envelope, Kind, Span};

/// Bodies up to this size are not counted against the budget: the bound on calls bounds them.
pub(super) const SMALL_BODY: usize = 16 * 1024;
/// How long a closed SSE session is still told apart from an unknown one.
const CLOSED_STREAM: Duration = Duration::from_mins(1);
/// A server's request with a longer id is not answered.
const LONGEST_SERVER_ID: usize = 1024;

/// What one bridge knows.
#[derive(Debug)]
pub(crate) struct Core {
    pub(super) config: BridgeConfig,
    /// The id prefix behind its opening quote.
    prefix: Vec<u8>,
    pub(super) calls: Calls,
    pub(super) sessions: Sessions,
    link: RwLock<Option<Arc<Link>>>,
    pub(super) budget: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) ended: watch::Sender<Option<BridgeEnd>>,
    pub(super) counters: Counters,
}

/// What was thrown away.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) unknown_answers: AtomicU64,
    pub(super) unusable_lines: AtomicU64,
    pub(super) dropped_messages: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Core {
    pub(super) fn new(config: BridgeConfig) -> Self {
        // With SSE a session is its stream: once that is closed, nobody can come back to it.
        let ttl = match config.mode {
            ProxyMode::StreamableHttp => config.session_ttl,
            ProxyMode::Sse => config.session_ttl.min(CLOSED_STREAM),
        };
        Self {
            prefix: format!("\"{}", config.id_prefix).into_bytes(),
            calls: Calls::new(config.max_in_flight),
            sessions: Sessions::new(ttl, config.max_sessions),
            link: RwLock::default(),
            budget: Arc::new(Semaphore::new(
                config.body_budget.max(config.body_limit) / 1024 + 1,
            )),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            ended: watch::Sender::new(None),
            counters: Counters::default(),
            config,
        }
    }

    pub(super) fn attach(&self, link: Arc<Link>) {
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = Some(link);
    }

    /// The connection is over: nobody can start a call on it, then everybody who waits is told.
    pub(super) fn detach(&self) {
        if let Some(link) = self.link.write().unwrap_or_else(PoisonError::into_inner).take() {
            link.closed.store(true, Ordering::Release);
        }
        self.calls.fail_all(&CallError::Died);
    }

    pub(super) fn link(&self) -> Result<Arc<Link>, CallError> {
        self.link
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or(CallError::Disconnected)
    }

    /// Sends a request of a client to the initialized server.
    pub(super) async fn begin(
        self: &Arc<Self>,
        session: u128,
        message: Bytes,
        envelope: &Envelope,
        events: Option<mpsc::Sender<Bytes>>,
        budget: Option<OwnedSemaphorePermit>,
    ) -> Result<InFlight, CallError> {
        let deadline = Instant::now() + self.config.request_timeout;
        let link = self.link()?;
        if link.ready.get().is_none() {
            tokio::time::timeout_at(deadline, self.initialized(&link))
                .await
                .map_err(|_| CallError::Timeout)??;
        }
        self.send(&link, session, message, envelope, events, budget, deadline)
            .await
    }

    /// Puts a request under a number of ours and queues it.
    #[expect(
        clippy::too_many_arguments,
        reason = "one private call with the parts of one message"
    )]
    pub(super) async fn send(
        self: &Arc<Self>,
        link: &Arc<Link>,
        session: u128,
        mut message: Bytes,
        envelope: &Envelope,
        events: Option<mpsc::Sender<Bytes>>,
        budget: Option<OwnedSemaphorePermit>,
        deadline: Instant,
    ) -> Result<InFlight, CallError> {
        let number = self.calls.number();
        let id = self.server_id(number);
        let mut id_span = envelope.id.unwrap_or_default();
        // Copies, so that a small id does not keep a large body in memory.
        let client_id = Bytes::copy_from_slice(id_span.of(&message));
        let mut token = None;
        if let Some(span) = progress_token(&message, envelope) {
            token = Some(Bytes::copy_from_slice(span.of(&message)));
            message = splice(&message, span, &id);
            if span.start < id_span.start {
                let shift = |at: usize| at + id.len() - (span.end - span.start);
                id_span = Span {
                    start: shift(id_span.start),
                    end: shift(id_span.end),
                };
            }
        }
        if envelope.line_breaks {
            message = one_line(&message);
        }
        let (reply, answer) = oneshot::channel();
        let pending = Pending {
            session,
            id: client_id.clone(),
            token,
            reply,
            events,
        };
        self.calls.insert(number, pending)?;
        let call = InFlight {
            core: Arc::clone(self),
            link: Arc::clone(link),
            number,
            id: client_id,
            answer,
            deadline,
            done: false,
        };
        let outgoing = Outgoing {
            pieces: [message.slice(..id_span.start), id, message.slice(id_span.end..)],
            _budget: budget,
        };
        match tokio::time::timeout_at(deadline, link.queue.send(outgoing)).await {
            Err(_) => Err(CallError::Timeout),
            Ok(Err(_)) => Err(CallError::Died),
            // The connection may have ended between the look at it and the entry in the table.
            Ok(Ok(())) if link.is_closed() => Err(CallError::Died),
            Ok(Ok(())) => Ok(call),
        }
    }

    /// Queues a message that has no answer.
    pub(super) async fn notify(&self, link: &Link, message: Bytes) -> Result<(), CallError> {
        let sending = link.queue.send(Outgoing::whole(message));
        match tokio::time::timeout(self.config.request_timeout, sending).await {
            Err(_) => Err(CallError::Timeout),
            Ok(outcome) => outcome.map_err(|_| CallError::Died),
        }
    }

    /// A number of ours as the server sees it, quotes included.
    fn server_id(&self, number: u64) -> Bytes {
        let mut id = Vec::with_capacity(self.prefix.len() + 21);
        id.extend_from_slice(&self.prefix);
        id.extend_from_slice(number.to_string().as_bytes());
        id.push(b'"');
        id.into()
    }

    /// The number in an id or token that came back; none when it is not one of ours.
    fn number_in(&self, id: &[u8]) -> Option<u64> {
        let digits = id.strip_prefix(self.prefix.as_slice())?.strip_suffix(b"\"")?;
        let leading_zero = digits.first() == Some(&b'0');
        if leading_zero || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Takes what the server wrote. Never waits.
    pub(super) fn receive(&self, link: &Link, frame: Frame) {
        match frame {
            Frame::Line(line) => self.receive_line(link, line),
            Frame::TooLong { head } => {
                tracing::warn!(limit = self.config.line_limit, "a line of the server is too long");
                count(&self.counters.unusable_lines);
                let number = jsonrpc::id_in_fragment(&head).and_then(|id| self.number_in(id));
                if let Some(pending) = number.and_then(|number| self.calls.remove(number)) {
                    let _ = pending.reply.send(Err(CallError::TooLong {
                        limit: self.config.line_limit,
                    }));
                }
            }
        }
    }

    fn receive_line(&self, link: &Link, line: Bytes) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let Some((line, envelope)) = scan_leniently(line) else {
            count(&self.counters.unusable_lines);
            tracing::debug!("a line of the server is not a JSON-RPC message");
            return;
        };
        match envelope.kind() {
            Kind::Response => {
                let pending = self
                    .number_in(envelope.id_in(&line))
                    .and_then(|number| self.calls.remove(number));
                let Some(pending) = pending else {
                    return count(&self.counters.unknown_answers);
                };
                // A carriage return between tokens would end a line of an event stream.
                let line = if envelope.line_breaks {
                    one_line(&line)
                } else {
                    line
                };
                let id = envelope.id.unwrap_or_default();
                let _ = pending.reply.send(Ok(ServerLine { line, id }));
            }
            Kind::Request => self.answer_server(link, &line, &envelope),
            Kind::Notification => self.pass_notification(line, &envelope),
        }
    }

    /// A request of the server: the proxy answers it, since it does not know for which client it is.
    fn answer_server(&self, link: &Link, line: &[u8], envelope: &Envelope) {
        let id = envelope.id_in(line);
        if id.len() > LONGEST_SERVER_ID {
            return count(&self.counters.dropped_messages);
        }
        let reply: Bytes = if envelope.method_in(line) == b"ping" {
            [br#"{"jsonrpc":"2.0","id":"#, id, br#","result":{}}"#]
                .concat()
                .into()
        } else {
            answer::error_message(
                -32601,
                "the proxy passes no requests of the server to clients",
                id,
            )
        };
        if link.urgent.try_send(reply).is_err() {
            count(&self.counters.dropped_messages);
        }
    }

    fn pass_notification(&self, line: Bytes, envelope: &Envelope) {
        let line = if envelope.line_breaks {
            one_line(&line)
        } else {
            line
        };
        let params = envelope.params_in(&line);
        match envelope.method_in(&line) {
            b"notifications/progress" => self.pass_progress(&line, envelope),
            b"notifications/tools/list_changed"
            | b"notifications/resources/list_changed"
            | b"notifications/prompts/list_changed" => self.sessions.broadcast(&answer::event(&line)),
            b"notifications/resources/updated" => {
                if let Some(uri) = jsonrpc::member(params, "uri") {
                    self.sessions.publish(uri, &answer::event(&line));
                }
            }
            _ => count(&self.counters.dropped_messages),
        }
    }

    fn pass_progress(&self, line: &Bytes, envelope: &Envelope) {
        let params = envelope.params_in(line);
        let found = jsonrpc::member_span(params, "progressToken").and_then(|span| {
            let number = self.number_in(span.of(params))?;
            Some((span, self.calls.progress(number)?))
        });
        let Some((span, (events, token))) = found else {
            return count(&self.counters.dropped_messages);
        };
        let start = envelope.params.map_or(0, |params| params.start);
        let span = Span {
            start: start + span.start,
            end: start + span.end,
        };
        if events
            .try_send(answer::event(&splice(line, span, &token)))
            .is_err()
        {
            count(&self.counters.dropped_messages);
        }
    }
}

/// A call under way. Dropping it frees its place; a late answer is then dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    core: Arc<Core>,
    link: Arc<Link>,
    number: u64,
    id: Bytes,
    answer: oneshot::Receiver<Result<ServerLine, CallError>>,
    deadline: Instant,
    done: bool,
}

impl InFlight {
    /// The server's line. Cancel-safe.
    pub(super) async fn reply(&mut self) -> Result<ServerLine, CallError> {
        let outcome = tokio::time::timeout_at(self.deadline, &mut self.answer).await;
        if let Ok(answer) = outcome {
            self.done = true;
            return answer.unwrap_or(Err(CallError::Died));
        }
        self.cancel();
        Err(CallError::Timeout)
    }

    /// The answer for the client, in pieces, its own id restored. Cancel-safe.
    pub(super) async fn answer(&mut self) -> Result<[Bytes; 3], CallError> {
        let ServerLine { line, id } = self.reply().await?;
        Ok([line.slice(..id.start), self.id.clone(), line.slice(id.end..)])
    }

    /// Tells the server that nobody waits any more.
    fn cancel(&self) {
        let id = self.core.server_id(self.number);
        let message = [
            br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"#.as_slice(),
            &id,
            br#","reason":"timeout"}}"#,
        ];
        let _ = self.link.urgent.try_send(message.concat().into());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.done {
            self.core.calls.remove(self.number);
        }
    }
}

impl Core {
    /// `notifications/cancelled` of a client, its request id replaced by ours; none when no such call waits.
    pub(super) fn cancellation(&self, session: u128, message: &Bytes, envelope: &Envelope) -> Option<Bytes> {
        let params = envelope.params_in(message);
        let span = jsonrpc::member_span(params, "requestId")?;
        let number = self.calls.find(session, span.of(params))?;
        let start = envelope.params?.start;
        let span = Span {
            start: start + span.start,
            end: start + span.end,
        };
        Some(splice(message, span, &self.server_id(number)))
    }
}

/// Where `params._meta.progressToken` is.
pub(super) fn progress_token(message: &[u8], envelope: &Envelope) -> Option<Span> {
    let params = envelope.params?;
    let text = params.of(message);
    memchr::memmem::find(text, b"\"progressToken\"")?;
    let meta = jsonrpc::member_span(text, "_meta")?;
    let token = jsonrpc::member_span(meta.of(text), "progressToken")?;
    let start = params.start + meta.start;
    Some(Span {
        start: start + token.start,
        end: start + token.end,
    })
}

fn splice(message: &[u8], span: Span, with: &[u8]) -> Bytes {
    [&message[..span.start], with, &message[span.end..]]
        .concat()
        .into()
}

/// Line breaks between tokens become spaces; within strings JSON has none.
pub(super) fn one_line(message: &[u8]) -> Bytes {
    message
        .iter()
        .map(|byte| {
            if matches!(byte, b'\n' | b'\r') {
                b' '
            } else {
                *byte
            }
        })
        .collect()
}

/// Some servers print a marker or colour before a message: what stands between the first and the last brace counts.
fn scan_leniently(line: Bytes) -> Option<(Bytes, Envelope)> {
    if let Ok(envelope) = jsonrpc::scan(&line) {
        return Some((line, envelope));
    }
    let start = memchr::memchr(b'{', &line)?;
    let end = memchr::memrchr(b'}', &line)? + 1;
    if start >= end || (start == 0 && end == line.len()) {
        return None;
    }
    let inner = line.slice(start..end);
    let envelope = jsonrpc::scan(&inner).ok()?;
    Some((inner, envelope))
}
