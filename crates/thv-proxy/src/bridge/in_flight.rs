//! A call under way, as whoever made it sees it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use super::calls::{CallError, Outcome, Reply, ServerLine};
use super::core::{Core, count};
use super::link::Link;
use super::param_headers::Listing;
use super::stateless;

/// How long an answer may take until it is said that it does, each time anew.
const DOUBT: Duration = Duration::from_secs(5);

/// What a client expects of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    AsItComes,
    /// Of the revision without sessions.
    Stateless {
        /// Its results say for how long they are good.
        cacheable: bool,
        /// What its client has to say again to go on with it, hashed; none when it cannot be asked.
        binding: Option<u64>,
        /// It is asked for tools.
        lists: Option<Listing>,
    },
}

/// A call under way. Dropping it frees its place; a late answer is then dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) core: Arc<Core>,
    pub(super) link: Arc<Link>,
    number: u64,
    pub(super) id: Bytes,
    pub(super) outcome: Outcome,
    pub(super) deadline: Instant,
    /// When it is said next that the answer takes its time; none where it may.
    doubt: Option<Instant>,
    /// How long the server had stood still when the proxy itself asked, which waits for it.
    stood: Option<Duration>,
    pub(super) shape: Shape,
    /// With which status the answer goes out, once it is there and nothing was sent before it.
    pub(super) status: StatusCode,
    /// It has its answer, or somebody else waits for that.
    pub(super) done: bool,
}

impl InFlight {
    pub(super) fn new(
        core: &Arc<Core>,
        link: &Arc<Link>,
        number: u64,
        id: Bytes,
        outcome: Outcome,
        deadline: Instant,
        shape: Shape,
    ) -> Self {
        Self {
            core: Arc::clone(core),
            link: Arc::clone(link),
            number,
            id,
            outcome,
            deadline,
            doubt: Some(Instant::now() + DOUBT),
            stood: None,
            shape,
            status: StatusCode::OK,
            done: false,
        }
    }

    /// The proxy itself asks: time in which the server stands still does not count.
    pub(super) fn own(mut self) -> Self {
        self.stood = Some(self.core.suspension.stood());
        self
    }

    /// No answer to it is expected.
    pub(super) fn without_doubt(mut self) -> Self {
        self.doubt = None;
        self
    }

    /// Its number, which no other call has.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The server's line, for a call whose client is never asked for anything. Cancel-safe.
    pub(super) async fn reply(&mut self) -> Result<ServerLine, CallError> {
        loop {
            match self.next().await? {
                Reply::Answer(line) => return Ok(line),
                Reply::Asked(asked) => self.outcome = asked.next,
            }
        }
    }

    async fn next(&mut self) -> Result<Reply, CallError> {
        loop {
            if let Some(reply) = self.next_until(self.deadline).await {
                return reply;
            }
            let (before, stood) = (self.stood, self.core.suspension.stood());
            let Some(before) = before.filter(|before| *before < stood) else {
                break;
            };
            self.deadline += stood.saturating_sub(before);
            self.stood = Some(stood);
        }
        self.done = true;
        if self.give_up(true) {
            self.core.tell_cancelled(&self.link, self.number, "timeout");
        }
        Err(CallError::Timeout)
    }

    async fn next_until(&mut self, until: Instant) -> Option<Result<Reply, CallError>> {
        let reply = loop {
            let look = self.doubt.filter(|doubt| *doubt < until);
            let waited = self
                .core
                .timers
                .timeout_at(look.unwrap_or(until), &mut self.outcome);
            match (waited.await, look) {
                (Some(reply), _) => break reply,
                (None, None) => return None,
                (None, Some(doubt)) => {
                    self.doubt = Some(doubt + DOUBT);
                    self.core.doubted.notify_one();
                }
            }
        };
        let reply = reply.unwrap_or(Err(CallError::Died));
        self.done = !matches!(reply, Ok(Reply::Asked(_)));
        Some(reply)
    }

    /// The answer for the client, in pieces, its own id restored. Cancel-safe.
    pub(super) async fn answer(&mut self) -> Result<[Bytes; 3], CallError> {
        loop {
            let reply = self.next().await?;
            if let Some(pieces) = self.pieces(reply)? {
                return Ok(pieces);
            }
        }
    }

    /// As [`answer`](Self::answer), if it comes within `patience`. Cancel-safe.
    pub(super) async fn answer_within(
        &mut self,
        patience: Duration,
    ) -> Option<Result<[Bytes; 3], CallError>> {
        let until = Instant::now() + patience;
        loop {
            let reply = if until < self.deadline {
                self.next_until(until).await?
            } else {
                self.next().await
            };
            let pieces = reply.and_then(|reply| self.pieces(reply));
            if let Some(answer) = pieces.transpose() {
                return Some(answer);
            }
        }
    }

    /// What the client is told; none when that is nothing yet.
    fn pieces(&mut self, reply: Reply) -> Result<Option<[Bytes; 3]>, CallError> {
        match reply {
            Reply::Answer(line) => Ok(Some(self.shaped(line))),
            Reply::Asked(asked) => self.asked(*asked),
        }
    }

    pub(super) fn shaped(&mut self, reply: ServerLine) -> [Bytes; 3] {
        if let Shape::Stateless { cacheable, lists, .. } = self.shape {
            if let (Some(listing), Some(result)) = (lists, reply.result) {
                self.link.param_headers.learn(listing, result.of(&reply.line));
            }
            let (pieces, status) = stateless::shape(&reply, &self.id, cacheable);
            self.status = status;
            return pieces;
        }
        let ServerLine { line, id, .. } = reply;
        [line.slice(..id.start), self.id.clone(), line.slice(id.end..)]
    }

    /// Nobody waits any more. Whether the server works on it; where it does, `told` says whether it will hear of that.
    fn give_up(&self, told: bool) -> bool {
        let Some(pending) = self.core.calls.give_up(self.number, told) else {
            return false;
        };
        self.core.unsettled(&pending);
        pending.written
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // There is no other way for a client without sessions to say so.
        let says_so = matches!(self.shape, Shape::Stateless { .. });
        if !self.done && self.give_up(says_so) && says_so {
            self.core
                .tell_cancelled(&self.link, self.number, "the client has gone");
        }
        if let Shape::Stateless { binding: Some(_), .. } = self.shape {
            self.core.call_over(self.number);
        }
    }
}

impl Core {
    /// Tells the server that nobody waits for the answer to the call of this number.
    pub(super) fn tell_cancelled(&self, link: &Link, number: u64, reason: &str) {
        let message = cancelled(&self.server_id(number), reason);
        if link.urgent.try_send(message).is_err() {
            count(&self.counters.dropped_messages);
        }
    }
}

/// Tells the server that nobody waits for the answer to `id`.
fn cancelled(id: &[u8], reason: &str) -> Bytes {
    let message = [
        br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"#.as_slice(),
        id,
        br#","reason":""#,
        reason.as_bytes(),
        br#""}}"#,
    ];
    message.concat().into()
}
