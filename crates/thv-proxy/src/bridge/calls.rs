//! Calls that wait for the server: who asked, under which id, and where the answer goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::events::Events;
use super::late::Late;
use super::levels::Level;
use super::rounds::Asked;
use super::server_requests::{Abilities, NO_ROOM, OF_CALLER, Refusal, UNKNOWN};
use crate::jsonrpc::Span;
use crate::suspension::Suspension;

/// The code of [`CallError::HeaderMismatch`].
pub(super) const HEADER_MISMATCH: i32 = -32020;

/// Why a call has no answer of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallError {
    /// Too many calls wait already.
    Busy,
    /// No server is attached now.
    Disconnected,
    /// The server stands still for now.
    Suspended { reason: Arc<str> },
    /// The server's streams ended during the call.
    Died,
    /// No answer in time.
    Timeout,
    /// The answer was longer than the limit.
    TooLong { limit: usize },
    /// The answer is no JSON-RPC message.
    Unusable { reason: String },
    /// Too many large answers wait to be read by their clients.
    Unread,
    /// The client itself gave the call up.
    Cancelled,
    /// The proxy ends before the server answered.
    Draining,
    /// A session asks for more than it may keep.
    TooMuch { what: &'static str },
    /// Headers do not say what the message says.
    HeaderMismatch { reason: String },
    /// What the client says to go on with a call is of no use.
    Unfit { reason: &'static str },
    /// The server refused to initialize.
    NotReady { reason: String },
    /// The answer of the server to `initialize` is an error: the text of its `error` member.
    InitializeError { error: Bytes },
}

impl CallError {
    /// Status, JSON-RPC code and message for the client.
    pub(crate) fn describe(&self) -> (StatusCode, i32, String) {
        match self {
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                -32000,
                "too many requests are waiting for the server, try again".into(),
            ),
            Self::Disconnected => (
                StatusCode::SERVICE_UNAVAILABLE,
                -32000,
                "the server is not connected, try again".into(),
            ),
            Self::Suspended { reason } => (StatusCode::SERVICE_UNAVAILABLE, -32000, reason.to_string()),
            Self::Died => (
                StatusCode::BAD_GATEWAY,
                -32000,
                "the server ended during the call".into(),
            ),
            Self::Timeout => (
                StatusCode::GATEWAY_TIMEOUT,
                -32000,
                "Timeout: the server did not answer in time".into(),
            ),
            Self::TooLong { limit } => (
                StatusCode::BAD_GATEWAY,
                -32000,
                format!("the server's answer is longer than {limit} bytes"),
            ),
            Self::Unusable { reason } => (
                StatusCode::BAD_GATEWAY,
                -32000,
                format!("the server's answer cannot be used: {reason}"),
            ),
            Self::Unread => (
                StatusCode::SERVICE_UNAVAILABLE,
                -32000,
                "too many answers wait to be read by their clients, try again".into(),
            ),
            Self::Cancelled => (StatusCode::OK, -32800, "the request was cancelled".into()),
            Self::Draining => (
                StatusCode::SERVICE_UNAVAILABLE,
                -32000,
                "the proxy ended before the server answered".into(),
            ),
            Self::TooMuch { what: reason } | Self::Unfit { reason } => {
                (StatusCode::BAD_REQUEST, -32602, (*reason).into())
            }
            Self::HeaderMismatch { reason } => (StatusCode::BAD_REQUEST, HEADER_MISMATCH, reason.clone()),
            Self::NotReady { reason } => (StatusCode::BAD_GATEWAY, -32000, reason.clone()),
            Self::InitializeError { .. } => (
                StatusCode::BAD_GATEWAY,
                -32000,
                "the server refused to initialize".into(),
            ),
        }
    }
}

/// A server's answer as it came, and where its id is.
#[derive(Debug)]
pub(crate) struct ServerLine {
    pub(crate) line: Bytes,
    pub(crate) id: Span,
    pub(crate) result: Option<Span>,
    pub(crate) error: Option<Span>,
}

/// What becomes of a call.
#[derive(Debug)]
pub(crate) enum Reply {
    Answer(ServerLine),
    /// The server asks something of the client first; the call goes on.
    Asked(Box<Asked>),
}

/// Where a call hears what becomes of it.
pub(crate) type Outcome = oneshot::Receiver<Result<Reply, CallError>>;

/// Who can be asked what the server wants to know while it works on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// A session, by its key.
    Session(u128),
    /// A client without a session, in the answer to its call of this number.
    Call(u64),
    /// Nobody.
    Nobody,
}

/// One waiting call.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Who asked; nobody's calls are told apart by their numbers alone.
    pub(crate) session: Option<u128>,
    /// The id as the client wrote it.
    pub(crate) id: Bytes,
    /// The progress token as the client wrote it.
    pub(crate) token: Option<Bytes>,
    pub(crate) reply: oneshot::Sender<Result<Reply, CallError>>,
    pub(crate) events: Option<Events>,
    pub(crate) then: Then,
    /// The proxy itself asks.
    pub(crate) own: bool,
    /// Whether the server has got it.
    pub(crate) written: bool,
    /// What its client can be asked for in the answer to it; none when it cannot.
    pub(crate) askable: Option<Abilities>,
    /// Questions of the server that its client has not been told of, those that were taken back included.
    pub(crate) untold: usize,
}

impl Pending {
    fn caller(&self, number: u64) -> Caller {
        match (self.session, self.askable) {
            (Some(session), _) => Caller::Session(session),
            (None, Some(_)) => Caller::Call(number),
            (None, None) => Caller::Nobody,
        }
    }
}

/// What a call changes in the proxy when it succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Then {
    #[default]
    Nothing,
    /// The session listens to this URI.
    Subscribe(Arc<str>),
    /// The session gets log messages of its own level, and the server writes those of the other.
    SetLevel { own: Level, merged: Level },
    /// The session has a task, if the answer says so.
    Task,
}

/// All calls of one bridge. Numbers are never used twice.
#[derive(Debug)]
pub(crate) struct Calls {
    next: AtomicU64,
    limit: usize,
    table: Mutex<Table>,
    suspension: Arc<Suspension>,
}

/// A call is here or there.
#[derive(Debug, Default)]
struct Table {
    /// Somebody waits for these.
    waiting: HashMap<u64, Pending>,
    /// Nobody does any more, and the server may still work on them.
    late: Late,
}

impl Table {
    fn give_up(&mut self, number: u64, told: bool, now: Instant) -> Option<Pending> {
        let pending = self.waiting.remove(&number)?;
        if pending.written && !pending.own {
            self.late.add(number, pending.caller(number), told, now);
        }
        Some(pending)
    }
}

impl Calls {
    pub(crate) fn new(limit: usize, suspension: Arc<Suspension>) -> Self {
        Self {
            next: AtomicU64::new(1),
            limit,
            table: Mutex::default(),
            suspension,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn insert(&self, number: u64, pending: Pending) -> Result<(), CallError> {
        let mut table = self.table();
        if table.waiting.len() >= self.limit {
            return Err(CallError::Busy);
        }
        table.waiting.insert(number, pending);
        Ok(())
    }

    /// The call that the server has answered, if somebody waits for it.
    pub(crate) fn answered(&self, number: u64) -> Option<Pending> {
        let mut table = self.table();
        let pending = table.waiting.remove(&number);
        if pending.is_none() {
            table.late.answered(number);
        }
        pending
    }

    /// Nobody waits for this call any more. Where the server works on it, `told` says whether it will hear of that.
    pub(crate) fn give_up(&self, number: u64, told: bool) -> Option<Pending> {
        self.table().give_up(number, told, self.suspension.servers_now())
    }

    /// The calls of clients that wait now: nobody does any more. The server will be told of those that it works on.
    pub(crate) fn give_up_clients(&self) -> Vec<(u64, Pending)> {
        let mut table = self.table();
        let clients = table.waiting.iter().filter(|(_, call)| !call.own);
        let numbers: Vec<u64> = clients.map(|(number, _)| *number).collect();
        let now = self.suspension.servers_now();
        let given_up = numbers
            .into_iter()
            .filter_map(|number| Some((number, table.give_up(number, true, now)?)));
        given_up.collect()
    }

    /// How many calls of clients wait.
    pub(crate) fn len(&self) -> usize {
        self.table().waiting.values().filter(|call| !call.own).count()
    }

    /// Notes that the server gets this call now; false when nobody waits for it any more.
    pub(crate) fn begin_write(&self, number: u64) -> bool {
        match self.table().waiting.get_mut(&number) {
            Some(pending) => {
                pending.written = true;
                true
            }
            None => false,
        }
    }

    /// Ends the call that waits in `session` under `id`; the server will be told.
    pub(crate) fn take(&self, session: u128, id: &[u8]) -> Option<(u64, Pending)> {
        let mut table = self.table();
        let number = table
            .waiting
            .iter()
            .find(|(_, call)| call.session == Some(session) && call.id == id)
            .map(|(number, _)| *number)?;
        Some((
            number,
            table.give_up(number, true, self.suspension.servers_now())?,
        ))
    }

    /// Who made this call, if it is under way.
    pub(crate) fn caller(&self, number: u64) -> Vec<Caller> {
        self.table()
            .waiting
            .get(&number)
            .map(|call| call.caller(number))
            .into_iter()
            .collect()
    }

    /// Who has calls that the server works on, each once; none when that is not known.
    pub(crate) fn callers(&self) -> Option<Vec<Caller>> {
        let mut callers = Vec::new();
        let table = self.table();
        for (number, call) in &table.waiting {
            if !call.written || call.own {
                continue;
            }
            let caller = call.caller(*number);
            if !callers.contains(&caller) {
                callers.push(caller);
            }
            if callers.len() > 1 {
                break;
            }
        }
        let now = self.suspension.servers_now();
        table.late.add_callers(&mut callers, now).then_some(callers)
    }

    /// What can be asked in the answer to this call; none when nothing can.
    pub(crate) fn askable(&self, number: u64) -> Option<Abilities> {
        self.table().waiting.get(&number)?.askable
    }

    /// Tells whoever waits for this call what `asked` makes, given where the call is heard of from then on.
    pub(crate) fn interrupt(&self, number: u64, asked: impl FnOnce(Outcome) -> Asked) -> Result<(), Refusal> {
        let (reply, next) = oneshot::channel();
        let mut table = self.table();
        let call = table.waiting.get_mut(&number).ok_or(UNKNOWN)?;
        // Each hangs on the one before until somebody hears of them.
        if call.untold >= OF_CALLER {
            return Err(NO_ROOM);
        }
        call.untold += 1;
        let before = std::mem::replace(&mut call.reply, reply);
        before
            .send(Ok(Reply::Asked(Box::new(asked(next)))))
            .map_err(|_| UNKNOWN)
    }

    /// All that the server has asked during this call was heard of.
    pub(crate) fn heard(&self, number: u64) {
        if let Some(call) = self.table().waiting.get_mut(&number) {
            call.untold = 0;
        }
    }

    /// Nobody listens to the progress of this call for now.
    pub(crate) fn redirect(&self, number: u64) {
        if let Some(call) = self.table().waiting.get_mut(&number) {
            (call.events, call.token) = (None, None);
        }
    }

    /// Its client is there again, and says again where its progress goes and what can be asked.
    pub(crate) fn go_on(&self, number: u64, progress: Option<(Events, Bytes)>, askable: Abilities) {
        if let Some(call) = self.table().waiting.get_mut(&number) {
            (call.events, call.token) = progress.unzip();
            call.askable = Some(askable);
        }
    }

    /// Where the progress of a call goes, and its client's token.
    pub(crate) fn progress(&self, number: u64) -> Option<(Events, Bytes)> {
        let table = self.table();
        let call = table.waiting.get(&number)?;
        Some((call.events.clone()?, call.token.clone()?))
    }

    /// Everybody who waits is told `error`.
    pub(crate) fn fail_all(&self, error: &CallError) {
        let all = std::mem::take(&mut *self.table());
        for pending in all.waiting.into_values() {
            let _ = pending.reply.send(Err(error.clone()));
        }
    }
}
