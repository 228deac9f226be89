//! Requests of the server: each goes to the session that caused it, and its answer back.
//!
//! Whose call it was is known when the request names it, or when exactly one session has calls that the server works
//! on, those included that nobody waits for any more, or that are kept until their clients have answered (the server may
//! go on with such a call, and ask more because of it); without calls, when there is only one session. Otherwise the
//! server gets an error: a guess could show one user's prompt to another. So could waiting until the calls of all others
//! are answered: a server that has waited too long for a client answers its call, and leaves its question open.
//!
//! A request that names a task is for the session whose task that is, and for nobody else.
//!
//! A request names a call by its progress token, or by its id in `_meta.relatedRequestId`. No revision of the protocol
//! has a field for that: the SDKs' own "related request" chooses a stream of HTTP, and is not written to a pipe. That
//! name is the one that was proposed for it; what stands there counts only if it is an id of this proxy.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::calls::Caller;
use super::core::{Core, count, one_line, progress_token, splice};
use super::events::Event;
use super::link::Link;
use super::sessions::Session;
use super::tasks;
use crate::answer;
use crate::jsonrpc::{self, Envelope, Span};

/// Requests that may wait for clients, and for one of them: who never answers must not be in the way of others.
const MOST: usize = 1024;
pub(super) const OF_CALLER: usize = 64;
/// Who has not answered for so long is not expected to: that request makes room for the next one to the same client.
const LONG: Duration = Duration::from_mins(10);
/// A request with a longer id is not answered, and nobody tells the progress of one with a longer token.
const LONGEST_ID: usize = 1024;
/// How long a client that has just begun may take to open its event stream.
const STREAM_WAIT: Duration = Duration::from_secs(5);
/// Members of `_meta` that say during which call the server asks.
const NAMES_OF_A_CALL: [&str; 2] = ["relatedRequestId", "progressToken"];
/// What the proxy declares, so that a server asks at all.
pub(super) const CAPABILITIES: &str = r#"{"elicitation":{},"roots":{"listChanged":true},"sampling":{}}"#;

/// What a client has declared that it can be asked for, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Abilities(pub(super) u8);

impl Abilities {
    const ALL: [(&'static str, &'static [u8]); 3] = [
        ("sampling", b"sampling/createMessage"),
        ("elicitation", b"elicitation/create"),
        ("roots", b"roots/list"),
    ];

    /// From the params of `initialize`.
    pub(super) fn of(params: &[u8]) -> Self {
        Self::declared(jsonrpc::member(params, "capabilities").unwrap_or_default())
    }

    /// From the capabilities of a client.
    pub(super) fn declared(declared: &[u8]) -> Self {
        let mut bits = 0;
        for (place, (name, _)) in Self::ALL.iter().enumerate() {
            let said = jsonrpc::member(declared, name).unwrap_or_default();
            // The proxy has told the server of forms alone, and so has a client that says nothing else.
            let no_forms = *name == "elicitation"
                && jsonrpc::member(said, "url").is_some()
                && jsonrpc::member(said, "form").is_none();
            if said.first() == Some(&b'{') && !no_forms {
                bits |= 1 << place;
            }
        }
        Self(bits)
    }

    /// Whether the client can be asked this.
    pub(super) fn check(self, method: &[u8]) -> Result<(), Refusal> {
        let place = Self::ALL.iter().position(|(_, known)| *known == method);
        if place.is_some_and(|place| self.0 & (1 << place) != 0) {
            return Ok(());
        }
        let reason = "the client has not declared that it can be asked for this";
        Err(Refusal(-32601, reason))
    }
}

#[derive(Debug)]
struct Open {
    caller: Caller,
    /// The id as the server wrote it, and the token under which it is told of progress.
    id: Bytes,
    token: Option<Bytes>,
    since: Instant,
}

/// The requests that wait for a client's answer. Numbers are never used twice.
#[derive(Debug, Default)]
pub(super) struct ServerRequests {
    next: AtomicU64,
    table: Mutex<HashMap<u64, Open>>,
}

impl ServerRequests {
    fn table(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a request with this id that `caller` is asked, and the id of the one that makes room for it: where too
    /// many wait for that caller, the oldest of those if it waits for long; where there are too many in all, the oldest of whom
    /// most are kept for.
    fn open(&self, caller: Caller, id: &[u8], token: Option<&[u8]>) -> Result<(u64, Option<Bytes>), Refusal> {
        let mut table = self.table();
        let own = table.iter().filter(|(_, open)| open.caller == caller);
        let (of_caller, own_oldest) = (own.clone().count(), own.map(|(number, _)| *number).min());
        let gone = if of_caller >= OF_CALLER {
            own_oldest.filter(|oldest| table[oldest].since.elapsed() >= LONG)
        } else if table.len() >= MOST {
            oldest_of_most(&table)
                .filter(|(_, most)| *most > of_caller)
                .map(|(oldest, _)| oldest)
        } else {
            return Ok((self.put(&mut table, caller, id, token), None));
        };
        let gone = gone.and_then(|oldest| table.remove(&oldest));
        let gone = gone.ok_or(Refusal(-32000, "too many requests wait for clients"))?;
        Ok((self.put(&mut table, caller, id, token), Some(gone.id)))
    }

    fn put(&self, table: &mut HashMap<u64, Open>, caller: Caller, id: &[u8], token: Option<&[u8]>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let open = Open {
            caller,
            id: Bytes::copy_from_slice(id),
            token: token.map(Bytes::copy_from_slice),
            since: Instant::now(),
        };
        table.insert(number, open);
        number
    }

    /// Whether `caller` has been asked something whose progress is told under this token.
    fn has_progress(&self, caller: Caller, token: &[u8]) -> bool {
        let table = self.table();
        let mut open = table.values();
        open.any(|open| {
            open.caller == caller && open.token.as_deref().is_some_and(|own| says_same(own, token))
        })
    }

    /// The server's id of a request that `caller` answers.
    pub(super) fn answered(&self, caller: Caller, number: u64) -> Option<Bytes> {
        let mut table = self.table();
        table.get(&number).filter(|open| open.caller == caller)?;
        table.remove(&number).map(|open| open.id)
    }

    pub(super) fn is_open(&self, number: u64) -> bool {
        self.table().contains_key(&number)
    }

    /// The request that the server does not want answered any more.
    fn cancelled(&self, id: &[u8]) -> Option<(u64, Caller)> {
        let mut table = self.table();
        let number = *table.iter().find(|(_, open)| open.id == id)?.0;
        table.remove(&number).map(|open| (number, open.caller))
    }

    /// The ids of all that `caller` was asked and will not answer.
    pub(super) fn leave(&self, caller: Caller) -> Vec<Bytes> {
        let mut table = self.table();
        let gone = table.extract_if(|_, open| open.caller == caller);
        gone.map(|(_, open)| open.id).collect()
    }

    pub(super) fn remove(&self, number: u64) -> Option<Bytes> {
        self.table().remove(&number).map(|open| open.id)
    }

    /// The server that asked is gone.
    pub(super) fn clear(&self) {
        self.table().clear();
    }
}

/// The oldest request of the caller for whom most are kept, and how many those are.
fn oldest_of_most(table: &HashMap<u64, Open>) -> Option<(u64, usize)> {
    let mut of_callers = HashMap::new();
    for (number, open) in table {
        let (oldest, count) = of_callers.entry(open.caller).or_insert((*number, 0));
        (*oldest, *count) = ((*oldest).min(*number), *count + 1);
    }
    of_callers.into_values().max_by_key(|(_, count)| *count)
}

/// Whether two tokens are the same: clients may write a string with other escapes.
fn says_same(one: &[u8], other: &[u8]) -> bool {
    one == other || jsonrpc::text(one).is_some_and(|text| jsonrpc::text(other) == Some(text))
}

/// The id under which a client is asked.
fn client_id(number: u64) -> Bytes {
    format!("\"s{number}\"").into()
}

/// What made the server ask.
enum Cause {
    Session(Arc<Session>),
    /// The call of this number, of a client without a session.
    Call(u64),
}

/// Why a request does not reach a client.
pub(super) struct Refusal(i32, &'static str);

pub(super) const NO_ROOM: Refusal = Refusal(-32000, "too many messages wait to be read by clients");
pub(super) const UNKNOWN: Refusal = Refusal(-32000, "it is not known which client this is for");
/// What sends this back gets it as the answer to its own `initialize`.
const ECHO: Refusal = Refusal(
    -32000,
    "only a client asks this: what sends back whatever it is sent is no MCP server",
);

impl Core {
    /// A request of the server. Never waits.
    pub(super) fn ask_client(self: &Arc<Self>, link: &Link, line: &Bytes, envelope: &Envelope) {
        let id = envelope.id_in(line);
        if id.len() > LONGEST_ID {
            return count(&self.counters.dropped_messages);
        }
        if envelope.method_in(line) == b"ping" {
            return self.reply(
                link,
                [br#"{"jsonrpc":"2.0","id":"#, id, br#","result":{}}"#]
                    .concat()
                    .into(),
            );
        }
        if let Err(Refusal(code, reason)) = self.pass_request(line, envelope) {
            self.reply(link, answer::error_message(code, reason, id));
        }
    }

    fn reply(&self, link: &Link, message: Bytes) {
        if link.urgent.try_send(message).is_err() {
            count(&self.counters.dropped_messages);
        }
    }

    fn pass_request(self: &Arc<Self>, line: &Bytes, envelope: &Envelope) -> Result<(), Refusal> {
        if envelope.method_in(line) == b"initialize" {
            return Err(ECHO);
        }
        let session = match self.cause(envelope.params_in(line))? {
            Cause::Session(session) => session,
            Cause::Call(number) => return self.ask_in_answer(number, line, envelope),
        };
        Abilities(session.abilities.load(Ordering::Acquire)).check(envelope.method_in(line))?;
        let span = envelope.id.unwrap_or_default();
        let number = self.open_request(Caller::Session(session.key()), line, envelope)?;
        let message = self.answers.charge(splice(line, span, &client_id(number)));
        let Some(message) = message else {
            self.server_requests.remove(number);
            return Err(NO_ROOM);
        };
        let event = Event::message([message]);
        match session.ask(&event) {
            Some(true) => {}
            Some(false) => {
                self.server_requests.remove(number);
                return Err(Refusal(-32000, "the client does not read"));
            }
            None => {
                self.tasks
                    .spawn(deliver_later(Arc::clone(self), session, number, event));
            }
        }
        Ok(())
    }

    /// A number for this request, which `caller` is asked.
    pub(super) fn open_request(
        &self,
        caller: Caller,
        line: &[u8],
        envelope: &Envelope,
    ) -> Result<u64, Refusal> {
        let token = progress_token(line, envelope).map(|span| span.of(line));
        let token = token.filter(|token| token.len() <= LONGEST_ID);
        let (number, gone) = self.server_requests.open(caller, envelope.id_in(line), token)?;
        if let Some(id) = gone {
            self.refuse_late(
                &id,
                "the client has not answered, and too many requests wait for clients",
            );
        }
        Ok(number)
    }

    /// Whose call made the server ask.
    fn cause(&self, params: &[u8]) -> Result<Cause, Refusal> {
        let meta = jsonrpc::member(params, "_meta").unwrap_or_default();
        // The call that became the task is over: whoever has one under way now may be somebody else.
        if let Some(task) = tasks::related(meta) {
            let owner = self
                .server_tasks
                .owner(&task)
                .and_then(|key| self.sessions.by_key(key));
            return owner.map(Cause::Session).ok_or(UNKNOWN);
        }
        let named = NAMES_OF_A_CALL
            .iter()
            .find_map(|name| self.number_in(jsonrpc::member(meta, name)?));
        let callers = match named {
            Some(number) => self.calls.caller(number),
            None => self.calls.callers().ok_or(UNKNOWN)?,
        };
        match callers.as_slice() {
            [Caller::Session(key)] => self.sessions.by_key(*key).map(Cause::Session).ok_or(UNKNOWN),
            [Caller::Call(number)] => Ok(Cause::Call(*number)),
            [Caller::Nobody] => Err(Refusal(-32601, "the client has no session and cannot be asked")),
            [] if named.is_none() => self.sessions.only().map(Cause::Session).ok_or(UNKNOWN),
            _ => Err(UNKNOWN),
        }
    }

    /// The answer of a client to a request of the server, under the server's id; none when it was not asked.
    pub(super) fn answer_of_client(
        &self,
        session: &Session,
        message: &Bytes,
        envelope: &Envelope,
    ) -> Option<Bytes> {
        let span = envelope.id?;
        let digits = span.of(message).strip_prefix(b"\"s")?.strip_suffix(b"\"")?;
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let id = self
            .server_requests
            .answered(Caller::Session(session.key()), number)?;
        let message = splice(message, span, &id);
        Some(if envelope.line_breaks {
            one_line(&message)
        } else {
            message
        })
    }

    /// Whether `notifications/progress` of a client tells of something that it was asked.
    pub(super) fn is_own_progress(&self, session: &Session, message: &[u8], envelope: &Envelope) -> bool {
        let token = jsonrpc::member(envelope.params_in(message), "progressToken");
        let caller = Caller::Session(session.key());
        token.is_some_and(|token| self.server_requests.has_progress(caller, token))
    }

    /// `notifications/cancelled` of the server.
    pub(super) fn cancel_at_client(&self, line: &Bytes, envelope: &Envelope) {
        let params = envelope.params_in(line);
        let found = jsonrpc::member_span(params, "requestId").and_then(|span| {
            let (number, caller) = self.server_requests.cancelled(span.of(params))?;
            match caller {
                Caller::Session(key) => Some((span, number, self.sessions.by_key(key)?)),
                // It is not asked when it comes back; there is no way to tell it before.
                Caller::Call(_) | Caller::Nobody => None,
            }
        });
        let Some((span, number, session)) = found else {
            return count(&self.counters.dropped_messages);
        };
        let start = envelope.params.map_or(0, |params| params.start);
        let span = Span {
            start: start + span.start,
            end: start + span.end,
        };
        let message = splice(line, span, &client_id(number));
        self.sessions
            .publish(&[session.key()], &Event::message([message]));
    }

    /// A client that was asked is gone.
    pub(super) fn client_gone(&self, session: u128) {
        for id in self.server_requests.leave(Caller::Session(session)) {
            self.refuse_late(&id, "the client that was asked is gone");
        }
    }

    pub(super) fn refuse_late(&self, id: &[u8], reason: &str) {
        if let Ok(link) = self.link() {
            self.reply(&link, answer::error_message(-32000, reason, id));
        }
    }
}

/// A client opens its event stream a moment after it has begun.
async fn deliver_later(core: Arc<Core>, session: Arc<Session>, number: u64, event: Event) {
    let opening = async {
        loop {
            let opened = session.stream_opened.notified();
            if let Some(taken) = session.ask(&event) {
                return taken;
            }
            opened.await;
        }
    };
    let delivered = core
        .stop
        .run_until_cancelled(tokio::time::timeout(STREAM_WAIT, opening))
        .await;
    if !matches!(delivered, Some(Ok(true)))
        && let Some(id) = core.server_requests.remove(number)
    {
        core.refuse_late(&id, "the client has no event stream");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_who_never_answer_make_room_for_others() {
        let requests = ServerRequests::default();
        for number in 0..MOST as u128 {
            let silent = Caller::Session(number / OF_CALLER as u128);
            let opened = requests.open(silent, number.to_string().as_bytes(), None);
            assert!(opened.is_ok_and(|(_, gone)| gone.is_none()));
        }
        for number in 0..2 * OF_CALLER {
            let other = Caller::Call(number as u64);
            let (number, gone) = requests.open(other, b"of another", None).ok().unwrap();
            assert!(gone.is_some_and(|id| id != "of another"));
            assert_eq!(requests.table().len(), MOST);
            assert_eq!(requests.answered(other, number).unwrap(), "of another");
            assert!(
                requests
                    .open(other, b"of another", None)
                    .is_ok_and(|(_, gone)| gone.is_none())
            );
        }
        assert!(
            requests.open(Caller::Session(0), b"one more", None).is_err(),
            "nobody makes room for who keeps as many"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_has_left_open_for_long_makes_room_for_what_it_is_asked_next() {
        let (requests, client) = (ServerRequests::default(), Caller::Session(1));
        let open = |id: usize| requests.open(client, id.to_string().as_bytes(), None);
        for id in 0..OF_CALLER {
            assert!(open(id).is_ok());
        }
        assert!(open(OF_CALLER).is_err());
        tokio::time::advance(LONG).await;
        assert!(open(OF_CALLER).is_ok_and(|(_, gone)| gone.is_some_and(|id| id == "0")));
        assert_eq!(requests.table().len(), OF_CALLER);
    }
}
