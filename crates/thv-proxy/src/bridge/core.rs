//! The state that all clients of one server share, and the way of a message to it.

use std::io::Write as _;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use memchr::memmem::Finder;
use thv_core::ProxyMode;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::BridgeEnd;
use super::calls::{CallError, Calls, Pending, Then};
use super::config::BridgeConfig;
use super::events::Events;
use super::in_flight::{InFlight, Shape};
use super::link::{Link, Numbered, Outgoing};
use super::listen::Listeners;
use super::rounds::Rounds;
use super::server_requests::{Abilities, ServerRequests};
use super::sessions::Sessions;
use super::stateless;
use super::subscriptions::Subscriptions;
use super::tasks::Tasks;
use crate::budget::{Budget, Share};
use crate::jsonrpc::{self, Envelope, Span};
use crate::seldom::Seldom;
use crate::suspension::Suspension;
use crate::timers::Timers;

/// How long a closed SSE session is still told apart from an unknown one.
const CLOSED_STREAM: Duration = Duration::from_mins(1);

/// Timers of calls that are kept for the next ones.
const KEPT_TIMERS: usize = 64;

/// What one bridge knows.
#[derive(Debug)]
pub(crate) struct Core {
    pub(super) config: BridgeConfig,
    /// The id prefix behind its opening quote.
    prefix: Vec<u8>,
    pub(super) calls: Calls,
    /// Those of calls that wait.
    pub(super) timers: Timers,
    pub(super) sessions: Sessions,
    pub(super) server_requests: ServerRequests,
    pub(super) rounds: Rounds,
    pub(super) listeners: Listeners,
    pub(super) subscriptions: Subscriptions,
    /// Whose tasks the server works on.
    pub(super) server_tasks: Tasks,
    /// URIs that the server should stop sending.
    pub(super) orphans: Mutex<Vec<Arc<str>>>,
    pub(super) orphaned: Notify,
    link: RwLock<Option<Arc<Link>>>,
    pub(super) suspension: Arc<Suspension>,
    /// A call has waited for a while.
    pub(super) doubted: Notify,
    /// What the attached server was told to log; zero is nothing yet.
    pub(super) level: AtomicU8,
    /// Memory for what clients send.
    pub(super) bodies: Budget,
    /// Memory for what the server sends and clients have not read.
    pub(super) answers: Budget,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) ended: watch::Sender<Option<BridgeEnd>>,
    pub(super) counters: Counters,
    /// Calls that go on without their clients.
    pub(super) away: AtomicUsize,
}

/// What was thrown away.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) unknown_answers: AtomicU64,
    pub(super) unusable_lines: AtomicU64,
    /// A server may write nothing else.
    pub(super) unusable: Seldom,
    pub(super) dropped_messages: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A request on its way to the server.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) session: Option<u128>,
    pub(super) message: Bytes,
    pub(super) envelope: Envelope,
    pub(super) events: Option<Events>,
    pub(super) share: Share,
    pub(super) then: Then,
    /// The proxy itself asks.
    pub(super) own: bool,
    pub(super) shape: Shape,
    /// What its client can be asked for in the answer to it; none when it cannot.
    pub(super) askable: Option<Abilities>,
}

impl Ask {
    /// A request that the proxy itself makes.
    pub(super) fn own(message: Bytes) -> Result<Self, CallError> {
        let envelope = jsonrpc::scan(&message).map_err(|error| CallError::NotReady {
            reason: error.to_string(),
        })?;
        Ok(Self {
            session: None,
            message,
            envelope,
            events: None,
            share: Share::default(),
            then: Then::Nothing,
            own: true,
            shape: Shape::AsItComes,
            askable: None,
        })
    }
}

impl Core {
    pub(super) fn new(config: BridgeConfig) -> Self {
        // With SSE a session is its stream: once that is closed, nobody can come back to it.
        let ttl = match config.mode {
            ProxyMode::StreamableHttp => config.session_ttl,
            ProxyMode::Sse => config.session_ttl.min(CLOSED_STREAM),
        };
        let suspension = Arc::<Suspension>::default();
        Self {
            prefix: format!("\"{}", config.id_prefix).into_bytes(),
            calls: Calls::new(config.max_in_flight, Arc::clone(&suspension)),
            timers: Timers::new(KEPT_TIMERS),
            sessions: Sessions::new(ttl, config.max_sessions, config.mode == ProxyMode::StreamableHttp),
            server_requests: ServerRequests::default(),
            rounds: Rounds::default(),
            listeners: Listeners::new(config.max_sessions),
            subscriptions: Subscriptions::default(),
            server_tasks: Tasks::default(),
            orphans: Mutex::default(),
            orphaned: Notify::new(),
            link: RwLock::default(),
            suspension,
            doubted: Notify::new(),
            level: AtomicU8::new(0),
            bodies: Budget::new(config.body_budget.max(config.body_limit)),
            answers: Budget::new(config.answer_budget.max(config.line_limit)),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            ended: watch::Sender::new(None),
            counters: Counters::default(),
            away: AtomicUsize::new(0),
            config,
        }
    }

    pub(super) fn attach(&self, link: Arc<Link>) {
        self.level.store(0, Ordering::Release);
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = Some(link);
    }

    /// The connection is over: nobody can start a call on it, then everybody who waits is told.
    pub(super) fn detach(&self) {
        if let Some(link) = self.link.write().unwrap_or_else(PoisonError::into_inner).take() {
            link.closed.store(true, Ordering::Release);
        }
        self.calls.fail_all(&CallError::Died);
        self.server_requests.clear();
        self.server_tasks.clear();
    }

    pub(super) fn link(&self) -> Result<Arc<Link>, CallError> {
        self.link
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or(CallError::Disconnected)
    }

    /// Whether a server is attached, has answered `initialize` and does not stand still.
    pub(super) fn available(&self) -> bool {
        self.link().is_ok_and(|link| link.ready.get().is_some()) && self.working().is_ok()
    }

    /// Whether the server does not stand still.
    pub(super) fn working(&self) -> Result<(), CallError> {
        let reason = self.suspension.reason();
        reason.map_or(Ok(()), |reason| Err(CallError::Suspended { reason }))
    }

    /// What `waiting` for the server comes to, as long as that does not stand still.
    pub(super) async fn while_working<T>(
        &self,
        waiting: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        tokio::select! {
            biased;
            outcome = waiting => outcome,
            reason = self.suspension.begun() => Err(CallError::Suspended { reason }),
        }
    }

    /// The server stands still: who waits for it is told, and it is told what nobody waits for any more.
    pub(super) fn suspended(&self) {
        let Err(error) = self.working() else { return };
        let link = self.link();
        for (number, pending) in self.calls.give_up_clients() {
            self.unsettled(&pending);
            if pending.written
                && let Ok(link) = &link
            {
                self.tell_cancelled(link, number, "the server stands still");
            }
            let _ = pending.reply.send(Err(error.clone()));
        }
    }

    /// Sends a request to the initialized server.
    pub(super) async fn begin(self: &Arc<Self>, ask: Ask) -> Result<InFlight, CallError> {
        let deadline = Instant::now() + self.config.request_timeout;
        let link = self.link()?;
        if link.ready.get().is_none() {
            Box::pin(self.initialized_by(&link, deadline)).await?;
        }
        self.send(&link, ask, deadline).await
    }

    /// Puts a request under a number of ours.
    fn prepare(
        self: &Arc<Self>,
        link: &Arc<Link>,
        ask: Ask,
        deadline: Instant,
    ) -> Result<(InFlight, Outgoing), CallError> {
        let Ask {
            session,
            mut message,
            mut envelope,
            events,
            share,
            then,
            own,
            shape,
            askable,
        } = ask;
        if link.ready.get().is_some_and(|ready| ready.stateless) {
            (message, envelope) = stateless::introduced(message, envelope)?;
        }
        let number = self.calls.number();
        let mut id_span = envelope.id.unwrap_or_default();
        // Copies, so that a small id does not keep a large body in memory.
        let client_id = Bytes::copy_from_slice(id_span.of(&message));
        let mut token = None;
        if let Some(span) = progress_token(&message, &envelope) {
            token = Some(Bytes::copy_from_slice(span.of(&message)));
            let id = self.server_id(number);
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
            then,
            own,
            written: false,
            askable,
            untold: 0,
        };
        self.calls.insert(number, pending)?;
        let call = InFlight::new(self, link, number, client_id, answer, deadline, shape);
        let outgoing = Outgoing {
            message,
            call: Some(Numbered {
                number,
                client_id: id_span,
            }),
            _share: share,
        };
        Ok((call, outgoing))
    }

    /// Puts a request under a number of ours and queues it.
    pub(super) async fn send(
        self: &Arc<Self>,
        link: &Arc<Link>,
        ask: Ask,
        deadline: Instant,
    ) -> Result<InFlight, CallError> {
        let own = ask.own;
        let (mut call, outgoing) = self.prepare(link, ask, deadline)?;
        if own {
            call = call.own();
        } else {
            // In the table by now: what begins from here on finds it there.
            self.working()?;
        }
        if let Err(full) = link.queue.try_send(outgoing) {
            let queued = tokio::time::timeout_at(deadline, link.queue.send(full.into_inner()));
            let queued = async {
                queued
                    .await
                    .map_err(|_| CallError::Timeout)?
                    .map_err(|_| CallError::Died)
            };
            if own {
                Box::pin(queued).await?;
            } else {
                Box::pin(self.while_working(queued)).await?;
            }
        }
        // The connection may have ended between the look at it and the entry in the table.
        if link.is_closed() {
            return Err(CallError::Died);
        }
        Ok(call)
    }

    /// Queues a message that has no answer.
    pub(super) async fn notify(&self, link: &Link, message: Bytes, share: Share) -> Result<(), CallError> {
        let sending = link.queue.send(Outgoing::whole(message, share));
        let sending = tokio::time::timeout(self.config.request_timeout, sending);
        let sending = async {
            sending
                .await
                .map_err(|_| CallError::Timeout)?
                .map_err(|_| CallError::Died)
        };
        self.while_working(sending).await
    }

    /// A number of ours as the server sees it, quotes included.
    pub(super) fn server_id(&self, number: u64) -> Vec<u8> {
        let mut id = Vec::with_capacity(self.prefix.len() + 21);
        self.put_server_id(&mut id, number);
        id
    }

    /// Appends what [`Core::server_id`] makes.
    pub(super) fn put_server_id(&self, to: &mut Vec<u8>, number: u64) {
        to.extend_from_slice(&self.prefix);
        // Writing to memory does not fail.
        let _ = write!(to, "{number}\"");
    }

    /// The number in an id or token that came back; none when it is not one of ours.
    pub(super) fn number_in(&self, id: &[u8]) -> Option<u64> {
        let digits = id.strip_prefix(self.prefix.as_slice())?.strip_suffix(b"\"")?;
        let leading_zero = digits.first() == Some(&b'0');
        if leading_zero || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

static PROGRESS_TOKEN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"progressToken\""));

/// Where `params._meta.progressToken` is.
pub(super) fn progress_token(message: &[u8], envelope: &Envelope) -> Option<Span> {
    let params = envelope.params?;
    let text = params.of(message);
    PROGRESS_TOKEN.find(text)?;
    let meta = jsonrpc::member_span(text, "_meta")?;
    let token = jsonrpc::member_span(meta.of(text), "progressToken")?;
    let start = params.start + meta.start;
    Some(Span {
        start: start + token.start,
        end: start + token.end,
    })
}

pub(super) fn splice(message: &[u8], span: Span, with: &[u8]) -> Bytes {
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
