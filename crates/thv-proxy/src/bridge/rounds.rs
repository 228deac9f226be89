//! What an older server asks a client of the revision without sessions while it works on its call.
//!
//! Such a client is asked in the answer: that says what the server wants to know, and under which state the call is
//! kept. The client makes the same call again, with its own answers and that state, and the call goes on. There are as
//! many rounds as the server wants.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use memchr::memmem::Finder;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::calls::{CallError, Caller, Outcome, Reply};
use super::core::{Core, one_line, progress_token};
use super::events::Events;
use super::in_flight::{InFlight, Shape};
use super::request::{Begun, Message};
use super::server_requests::{Abilities, NO_ROOM, Refusal, UNKNOWN};
use crate::budget::Share;
use crate::jsonrpc::{self, Envelope};

/// Calls that are kept for their clients at one time. They keep their places among the calls under way, of which half are
/// left to others.
const MOST: usize = 256;
/// How long a client may take to come back; there may be a person to ask.
const KEPT_FOR: Duration = Duration::from_mins(5);
/// Calls in whose answers a client can be asked.
const ASKABLE: [&[u8]; 3] = [b"tools/call", b"prompts/get", b"resources/read"];
const STATE: &str = "requestState";
const RESPONSES: &str = "inputResponses";
/// What may be different when a call is made again.
const OF_ONE_ROUND: [&[u8]; 3] = [b"_meta", STATE.as_bytes(), RESPONSES.as_bytes()];

static STATE_NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(STATE));

/// One thing that the server wants to know.
#[derive(Debug)]
pub(crate) struct Question {
    /// Its number among the requests of the server.
    number: u64,
    /// The request, without what is JSON-RPC's.
    text: Bytes,
}

/// The server asks before it answers a call.
#[derive(Debug)]
pub(crate) struct Asked {
    question: Question,
    /// Where the call is heard of from then on.
    pub(crate) next: Outcome,
}

/// A call that waits for its client to come back.
struct Parked {
    call: InFlight,
    questions: Vec<Question>,
    /// What the client has to say again, hashed.
    binding: u64,
    /// Ends the wait for the time at which it is too late.
    _taken: oneshot::Sender<()>,
}

/// The calls that wait for their clients, by their states. A state is random, and good once.
#[derive(Default)]
pub(super) struct Rounds {
    parked: Mutex<HashMap<u128, Parked>>,
    keys: RandomState,
}

impl fmt::Debug for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever knows a state can go on with the call.
        f.debug_struct("Rounds").finish_non_exhaustive()
    }
}

impl Rounds {
    fn parked(&self) -> MutexGuard<'_, HashMap<u128, Parked>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What makes a call the same when it is made again.
    fn bind(&self, message: &Message) -> u64 {
        let method = message.envelope.method_in(&message.bytes);
        let mut sum = self.keys.hash_one(method);
        jsonrpc::each_member(message.envelope.params_in(&message.bytes), |name, value| {
            if !OF_ONE_ROUND.contains(&jsonrpc::unquoted(name)) {
                sum = sum.wrapping_add(self.keys.hash_one((name, value)));
            }
        });
        sum
    }

    /// The call that is kept under a state, if it is the one that is made again.
    fn take(&self, state: &[u8], binding: u64) -> Option<Parked> {
        let state = jsonrpc::unquoted(state);
        // A simple UUID and nothing else: states are given back as they were.
        let exact = state.len() == 32 && state.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let state = Uuid::try_parse_ascii(state).ok().filter(|_| exact)?.as_u128();
        let mut parked = self.parked();
        parked.get(&state).filter(|parked| parked.binding == binding)?;
        parked.remove(&state)
    }

    /// Keeps a call for its client, unless that many are kept.
    fn keep(&self, state: u128, most: usize, kept: impl FnOnce() -> Parked) -> bool {
        let mut parked = self.parked();
        let mut over = Vec::new();
        if parked.len() >= most {
            // Their server is gone: of them is left that their clients can be told so.
            over.extend(parked.extract_if(|_, kept| kept.call.link.is_closed()));
        }
        let room = parked.len() < most;
        if room {
            parked.insert(state, kept());
        }
        // What they hold is dropped without the lock.
        drop(parked);
        drop(over);
        room
    }

    fn expire(&self, state: u128) {
        // What it holds is dropped without the lock.
        let late = self.parked().remove(&state);
        drop(late);
    }
}

/// The name of a question in an answer.
fn key(number: u64) -> String {
    format!("q{number}")
}

impl Core {
    /// What a client has to say again when it was asked in the answer to this; none when it cannot be asked.
    pub(super) fn binding(&self, message: &Message, abilities: Abilities) -> Option<u64> {
        let possible = abilities != Abilities::default()
            && ASKABLE.contains(&message.envelope.method_in(&message.bytes))
            && !self.is_stateless();
        possible.then(|| self.rounds.bind(message))
    }

    /// A request of the server that was caused by the call of this number. Never waits.
    pub(super) fn ask_in_answer(&self, call: u64, line: &Bytes, envelope: &Envelope) -> Result<(), Refusal> {
        let abilities = self.calls.askable(call).ok_or(UNKNOWN)?;
        abilities.check(envelope.method_in(line))?;
        let method = envelope.method.map_or(&[][..], |span| span.of(line));
        let text = match envelope.params_in(line) {
            b"" => [br#"{"method":"#, method, b"}"].concat(),
            params => [br#"{"method":"#, method, br#","params":"#, params, b"}"].concat(),
        };
        let text = self.answers.charge(text.into()).ok_or(NO_ROOM)?;
        let caller = Caller::Call(call);
        let number = self.open_request(caller, line, envelope)?;
        let question = Question { number, text };
        let told = self.calls.interrupt(call, |next| Asked { question, next });
        if told.is_err() {
            self.server_requests.remove(number);
        }
        told
    }

    /// Goes on with a call that is made again with a state of ours; none when there is none, or when states are the
    /// server's own.
    pub(super) async fn resume(
        self: &Arc<Self>,
        message: &mut Message,
        abilities: Abilities,
        events: Option<&Events>,
    ) -> Result<Option<Begun>, CallError> {
        let bytes = message.bytes.clone();
        let params = message.envelope.params_in(&bytes);
        if STATE_NAME.find(params).is_none() || !ASKABLE.contains(&message.envelope.method_in(&bytes)) {
            return Ok(None);
        }
        let Some(state) = jsonrpc::member(params, STATE) else {
            if jsonrpc::any_name(params, |name| jsonrpc::unquoted(name) == STATE.as_bytes()) {
                let reason = "requestState stands there twice";
                return Err(CallError::Unfit { reason });
            }
            return Ok(None);
        };
        let link = self.link()?;
        if self.initialized_in_time(&link).await?.stateless {
            return Ok(None);
        }
        let responses = jsonrpc::member(params, RESPONSES).unwrap_or(b"{}");
        if responses.first() != Some(&b'{') {
            let reason = "inputResponses must be an object";
            return Err(CallError::Unfit { reason });
        }
        let binding = self.rounds.bind(message);
        let Some(parked) = self.rounds.take(state, binding) else {
            let reason = "requestState is not known: it is of another request, was used, or is too old";
            return Err(CallError::Unfit { reason });
        };
        let Parked {
            mut call, questions, ..
        } = parked;
        let id = message.envelope.id_in(&bytes);
        call.goes_on(Bytes::copy_from_slice(id), self.config.request_timeout);
        let token = progress_token(&bytes, &message.envelope);
        let token = token.map(|span| Bytes::copy_from_slice(span.of(&bytes)));
        self.calls
            .go_on(call.number(), events.cloned().zip(token), abilities);
        let mut missing = Vec::new();
        let mut answers = Vec::new();
        for question in questions {
            let response = jsonrpc::member(responses, &key(question.number));
            let Some(response) = response.filter(|value| value.first() == Some(&b'{')) else {
                missing.push(question);
                continue;
            };
            let caller = Caller::Call(call.number());
            // It may have taken its question back.
            if let Some(id) = self.server_requests.answered(caller, question.number) {
                let line = [
                    br#"{"jsonrpc":"2.0","id":"#,
                    &id[..],
                    br#","result":"#,
                    response,
                    b"}",
                ]
                .concat();
                answers.push(if message.envelope.line_breaks {
                    one_line(&line)
                } else {
                    line.into()
                });
            }
        }
        missing.retain(|question| self.server_requests.is_open(question.number));
        let share = std::mem::take(&mut message.share);
        self.answer_server(&call, answers, share).await?;
        if !missing.is_empty()
            && let Some(pieces) = call.park(missing)
        {
            return Ok(Some(Begun::Answered(pieces)));
        }
        Ok(Some(Begun::Waiting(Box::new(call))))
    }

    async fn answer_server(
        &self,
        call: &InFlight,
        answers: Vec<Bytes>,
        share: Share,
    ) -> Result<(), CallError> {
        if answers.is_empty() {
            return Ok(());
        }
        // One message, so that the share counts for all of them.
        let lines = answers.join(&b"\n"[..]);
        self.notify(&call.link, lines.into(), share).await
    }

    /// A call is over: what the server still wants to know because of it, nobody will tell.
    pub(super) fn call_over(&self, number: u64) {
        for id in self.server_requests.leave(Caller::Call(number)) {
            self.refuse_late(&id, "the client does not answer");
        }
    }
}

impl InFlight {
    /// Asks the client in the answer; none when it cannot be asked now, and the call goes on.
    pub(super) fn asked(&mut self, mut asked: Asked) -> Result<Option<[Bytes; 3]>, CallError> {
        let mut questions = Vec::new();
        loop {
            questions.push(asked.question);
            self.outcome = asked.next;
            // What it asks at the same time is asked together.
            match self.outcome.try_recv() {
                Ok(Ok(Reply::Asked(more))) => asked = *more,
                Ok(Ok(Reply::Answer(line))) => {
                    self.done = true;
                    return Ok(Some(self.shaped(line)));
                }
                Ok(Err(error)) => {
                    self.done = true;
                    return Err(error);
                }
                Err(_) => break,
            }
        }
        self.core.calls.heard(self.number());
        // It may have taken them back.
        questions.retain(|question| self.core.server_requests.is_open(question.number));
        if questions.is_empty() {
            return Ok(None);
        }
        Ok(self.park(questions))
    }

    /// Keeps the call for its client, and says so; none when too many are kept.
    fn park(&mut self, questions: Vec<Question>) -> Option<[Bytes; 3]> {
        let Shape::Stateless {
            cacheable,
            binding: Some(binding),
            lists,
        } = self.shape
        else {
            return None;
        };
        let state = Uuid::new_v4();
        let Some(tail) = self.core.answers.charge(input_required(&questions, state)) else {
            return self.cannot_ask(&questions);
        };
        let (taken, over) = oneshot::channel();
        let core = Arc::clone(&self.core);
        let mut questions = questions;
        let most = MOST.min(core.config.max_in_flight / 2);
        let kept = core.rounds.keep(state.as_u128(), most, || {
            let (_, nothing) = oneshot::channel();
            let call = InFlight::new(
                &core,
                &self.link,
                self.number(),
                Bytes::new(),
                std::mem::replace(&mut self.outcome, nothing),
                self.deadline,
                self.shape,
            );
            Parked {
                call,
                questions: std::mem::take(&mut questions),
                binding,
                _taken: taken,
            }
        });
        if !kept {
            return self.cannot_ask(&questions);
        }
        self.done = true;
        self.shape = Shape::Stateless {
            cacheable,
            binding: None,
            lists,
        };
        core.calls.redirect(self.number());
        core.tasks.spawn(expire(Arc::clone(&core), state.as_u128(), over));
        let head = Bytes::from_static(br#"{"jsonrpc":"2.0","id":"#);
        Some([head, self.id.clone(), tail])
    }

    fn cannot_ask(&self, questions: &[Question]) -> Option<[Bytes; 3]> {
        for question in questions {
            let caller = Caller::Call(self.number());
            if let Some(id) = self.core.server_requests.answered(caller, question.number) {
                self.core
                    .refuse_late(&id, "too many calls wait for their clients");
            }
        }
        None
    }

    /// Its client has come back.
    fn goes_on(&mut self, id: Bytes, within: Duration) {
        self.id = id;
        self.deadline = Instant::now() + within;
    }
}

/// What a client is told behind its id.
fn input_required(questions: &[Question], state: Uuid) -> Bytes {
    let mut text = br#","result":{"resultType":"input_required","inputRequests":{"#.to_vec();
    for (place, question) in questions.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        text.extend_from_slice(format!(r#"{comma}"{}":"#, key(question.number)).as_bytes());
        text.extend_from_slice(&question.text);
    }
    text.extend_from_slice(format!(r#"}},"{STATE}":"{}"}}}}"#, state.simple()).as_bytes());
    text.into()
}

/// Ends a call whose client does not come back: dropping it tells the server.
async fn expire(core: Arc<Core>, state: u128, over: oneshot::Receiver<()>) {
    tokio::select! {
        _ = over => return,
        () = tokio::time::sleep(KEPT_FOR) => {}
        () = core.stop.cancelled() => {}
    }
    core.rounds.expire(state);
}
