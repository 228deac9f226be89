//! The event stream of a call that takes its time: its client may lose the connection and come back.
//!
//! The call goes on without its client. What comes meanwhile is kept within the bounds of [`Replay`], the answer too if
//! it is not too large; a GET that names the last event it has seen gets what came behind it, and the rest as it comes.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::calls::CallError;
use super::core::{Core, count};
use super::events::{Event, Events, Waiting, queue};
use super::in_flight::InFlight;
use super::replay::{EVENTS, Kept, Replay};
use super::request;
use super::sessions::Session;

/// Streams of one session that are known at one time.
const OF_SESSION: usize = 64;
/// Calls that go on without their clients, over all sessions.
const AWAY: usize = 64;
/// The largest answer that waits for a client which is away.
const LARGEST: usize = 1 << 20;
/// What waits to be read by one connection: all that is kept, the answer and the first event.
const BUFFER: usize = EVENTS + 2;
const BUFFER_BYTES: usize = 256 * 1024;
/// How long a finished stream is kept.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// The streams of one session's calls.
#[derive(Debug)]
pub(super) struct CallStreams {
    kept: Kept,
    streams: Mutex<Vec<Arc<CallStream>>>,
}

/// One stream.
#[derive(Debug)]
struct CallStream {
    number: u64,
    state: Mutex<State>,
    /// Another connection was attached.
    attached: Notify,
}

#[derive(Debug)]
struct State {
    replay: Replay,
    /// The connection of its client.
    connection: Option<Events>,
    /// The answer and its number, as soon as it is there and for as long as it is kept.
    last: Option<(u64, Event)>,
}

/// What the id of an event says: whose stream, and which of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventId {
    stream: u64,
    event: u64,
}

impl EventId {
    /// Reads the id of an event of a call's stream.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (stream, event) = text.strip_prefix('c')?.split_once('-')?;
        Some(Self {
            stream: stream.parse().ok()?,
            event: event.parse().ok()?,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CallStreams {
    pub(super) fn new(kept: Kept) -> Self {
        Self {
            kept,
            streams: Mutex::default(),
        }
    }

    fn remove(&self, number: u64) {
        lock(&self.streams).retain(|stream| stream.number != number);
    }

    /// A new stream with its connection; none when the session has too many.
    fn open(&self, number: u64, connection: Events) -> Option<Arc<CallStream>> {
        let mut streams = lock(&self.streams);
        if streams.len() >= OF_SESSION {
            let over = streams.iter().position(|stream| stream.is_over())?;
            streams.remove(over);
        }
        let stream = Arc::new(CallStream {
            number,
            state: Mutex::new(State {
                replay: Replay::named(format!("c{number}-"), self.kept.clone()),
                connection: Some(connection),
                last: None,
            }),
            attached: Notify::new(),
        });
        streams.push(Arc::clone(&stream));
        Some(stream)
    }

    /// Goes on behind an event on another connection; false when the stream is not kept any more.
    pub(super) fn resume(&self, seen: EventId, connection: Events) -> bool {
        let streams = lock(&self.streams);
        let Some(stream) = streams.iter().find(|stream| stream.number == seen.stream) else {
            return false;
        };
        stream.resume(seen.event, connection);
        true
    }
}

impl CallStream {
    fn is_over(&self) -> bool {
        let state = lock(&self.state);
        state.last.is_some() && state.connection.is_none()
    }

    fn connection(&self) -> Option<Events> {
        lock(&self.state).connection.clone()
    }

    /// Numbers an event and hands it to the connection; false when that has no room.
    fn pass(&self, event: &Event) -> bool {
        let mut state = lock(&self.state);
        let event = state.replay.keep(event);
        state.connection.as_ref().is_none_or(|to| to.offer(event))
    }

    /// The answer is there.
    fn finish(&self, event: &Event) {
        let mut state = lock(&self.state);
        let event = state.replay.keep(event);
        state.last = Some((state.replay.last(), event));
    }

    fn last(&self) -> Option<Event> {
        lock(&self.state).last.as_ref().map(|(_, event)| event.clone())
    }

    /// This connection is over. Whether it was still the stream's own.
    fn disconnect(&self, connection: &Events) -> bool {
        let mut state = lock(&self.state);
        let own = state.connection.as_ref().is_some_and(|own| own.is(connection));
        if own {
            state.connection = None;
        }
        own
    }

    fn resume(&self, seen: u64, connection: Events) {
        let mut state = lock(&self.state);
        let last = state.last.as_ref().map(|(number, _)| *number);
        for (number, event) in state.replay.numbered_behind(seen) {
            // The answer is sent by whoever runs the stream, and never dropped.
            if Some(number) != last {
                connection.offer(event);
            }
        }
        // Who has seen the answer gets the end.
        if last.is_none_or(|last| last > seen) {
            state.connection = Some(connection);
        }
        drop(state);
        self.attached.notify_one();
    }
}

/// A place among the calls that go on without their clients.
struct Away<'a>(&'a AtomicUsize);

impl<'a> Away<'a> {
    fn take(all: &'a AtomicUsize) -> Option<Self> {
        let before = all.fetch_add(1, Ordering::Relaxed);
        let place = Self(all);
        (before < AWAY).then_some(place)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call whose answer is to be streamed.
pub(super) struct Streamed {
    pub(super) call: Box<InFlight>,
    pub(super) progress: Option<Waiting>,
    /// The client's id of the request.
    pub(super) id: Bytes,
    /// What has come already.
    pub(super) first: Event,
    /// The client understands an event without data.
    pub(super) primed: bool,
}

impl Streamed {
    /// Runs the stream in a task of its own; what its connection reads, or the call again where the session has too many
    /// streams.
    pub(super) fn start(self, core: &Arc<Core>, session: &Arc<Session>) -> Result<Waiting, Box<Self>> {
        let (events, waiting) = queue(BUFFER, BUFFER_BYTES);
        let Some(stream) = session.call_streams.open(self.call.number(), events.clone()) else {
            return Err(Box::new(self));
        };
        if self.primed {
            events.offer(Event::priming(format_args!("c{}-0", stream.number)));
        }
        core.tasks
            .spawn(run(Arc::clone(core), Arc::clone(session), stream, self));
        Ok(waiting)
    }
}

/// Resolves when the client of a connection has gone.
async fn gone(connection: Option<&Events>) {
    match connection {
        Some(connection) => connection.closed().await,
        None => pending().await,
    }
}

async fn run(core: Arc<Core>, session: Arc<Session>, stream: Arc<CallStream>, streamed: Streamed) {
    let Streamed {
        mut call,
        mut progress,
        id,
        first,
        ..
    } = streamed;
    let mut away = None;
    let over = session.given_up.clone();
    if !first.is_empty() {
        stream.pass(&first);
    }
    let answer = loop {
        let connection = stream.connection();
        if connection.is_some() {
            away = None;
        }
        let next_progress = async {
            match &mut progress {
                Some(progress) => progress.next().await,
                None => None,
            }
        };
        tokio::select! {
            biased;
            Some(event) = next_progress => {
                if !stream.pass(&event) {
                    count(&core.counters.dropped_messages);
                }
            }
            answer = call.answer() => break answer,
            () = gone(connection.as_ref()) => {
                if connection.is_some_and(|connection| stream.disconnect(&connection)) {
                    away = Away::take(&core.away);
                    if away.is_none() {
                        // As if there were no way to come back.
                        return session.call_streams.remove(stream.number);
                    }
                }
            }
            () = stream.attached.notified() => {}
            // Nobody can come back for it.
            () = over.cancelled(), if away.is_some() => return,
        }
    };
    drop(call);
    if let Some(progress) = &mut progress {
        while let Some(event) = progress.try_next() {
            stream.pass(&event);
        }
    }
    let answer = answer.map_or_else(
        |error| Event::message([request::failure_message(&error, &id)]),
        Event::message,
    );
    let answer = if away.is_some() && answer.len() > LARGEST {
        let limit = LARGEST;
        Event::message([request::failure_message(&CallError::TooLong { limit }, &id)])
    } else {
        answer
    };
    stream.finish(&answer);
    drop(answer);
    let session = {
        let known = Arc::downgrade(&session);
        drop(session);
        known
    };
    deliver(&core, &stream, &over).await;
    if let Some(session) = session.upgrade() {
        session.call_streams.remove(stream.number);
    }
}

/// Hands the answer to the client that is there, or that comes back in time, unless its session is `over`.
async fn deliver(core: &Core, stream: &CallStream, over: &CancellationToken) {
    let until = Instant::now() + KEPT_FOR;
    loop {
        if let Some(connection) = stream.connection() {
            let Some(answer) = stream.last() else { return };
            let large = answer.len() > LARGEST;
            let sending = async {
                match connection.clone().reserve().await {
                    Some(place) => place.send(answer).await,
                    None => false,
                }
            };
            match core.stop.run_until_cancelled(sending).await {
                // Memory is not held for the case that the client has not read it.
                Some(true) if large => return,
                Some(_) => {
                    stream.disconnect(&connection);
                    continue;
                }
                None => return,
            }
        }
        tokio::select! {
            () = stream.attached.notified() => {}
            () = tokio::time::sleep_until(until) => return,
            () = over.cancelled() => return,
            () = core.stop.cancelled() => return,
        }
    }
}
