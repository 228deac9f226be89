//! Clients that the bridge knows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::call_stream::CallStreams;
use super::events::{Event, Events};
use super::levels::Level;
use super::replay::{Kept, Replay};

/// One client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: Uuid,
    /// Milliseconds after the table's start.
    touched: AtomicU64,
    channel: Mutex<Channel>,
    /// The event streams of its calls.
    pub(super) call_streams: CallStreams,
    /// Wakes who waits for the stream.
    pub(super) stream_opened: Notify,
    /// What it can be asked for.
    pub(super) abilities: AtomicU8,
    /// Which log messages it wants.
    pub(super) level: AtomicU8,
    /// Nobody waits for the server any more: what it owes this client is answered without it, or not at all.
    pub(super) given_up: CancellationToken,
}

/// The way to a client.
#[derive(Debug, Default)]
struct Channel {
    /// Its event stream.
    stream: Option<Events>,
    /// What can be asked for again; none where a session ends with its stream.
    replay: Option<Replay>,
    /// The session has ended: whoever opens a stream at that moment has come too late.
    is_over: bool,
}

impl Channel {
    fn set(&mut self, stream: Events) {
        self.stream = Some(stream).filter(|_| !self.is_over);
    }

    fn open(&self) -> Option<&Events> {
        self.stream.as_ref().filter(|stream| !stream.is_closed())
    }
}

impl Session {
    pub(crate) fn key(&self) -> u128 {
        self.id.as_u128()
    }

    /// Makes this the session's event stream; the former one ends.
    pub(super) fn set_stream(&self, stream: Events) {
        lock(&self.channel).set(stream);
        self.stream_opened.notify_waiters();
    }

    /// As [`Session::set_stream`], beginning with what came behind the event `seen`, else with what no stream has had.
    pub(super) fn resume_stream(&self, stream: Events, seen: Option<u64>) {
        let mut channel = lock(&self.channel);
        if let Some(replay) = &mut channel.replay {
            for event in replay.behind(seen) {
                // The queue is empty and has room for as many as are kept.
                stream.offer(event);
            }
            replay.sent();
        }
        channel.set(stream);
        drop(channel);
        self.stream_opened.notify_waiters();
    }

    /// Lets go of the session's event stream: it ends once nobody else has something to send on it.
    pub(super) fn end_stream(&self) {
        lock(&self.channel).stream = None;
    }

    /// The session is over: nobody can come back to it.
    fn end(&self) {
        let mut channel = lock(&self.channel);
        (channel.stream, channel.is_over) = (None, true);
        drop(channel);
        self.given_up.cancel();
    }

    /// The session's event stream, if it is open.
    pub(super) fn stream(&self) -> Option<Events> {
        lock(&self.channel).open().cloned()
    }

    fn has_stream(&self) -> bool {
        lock(&self.channel).open().is_some()
    }

    /// Hands a request of the server to the session's stream; none without one, false when it has no room. Only what a
    /// stream was handed is kept for a client that comes back.
    pub(super) fn ask(&self, event: &Event) -> Option<bool> {
        let mut channel = lock(&self.channel);
        let stream = channel.open()?.clone();
        let Some(replay) = &mut channel.replay else {
            return Some(stream.offer(event.clone()));
        };
        let taken = stream.offer(replay.keep(event));
        if taken {
            replay.sent();
        } else {
            replay.take_back();
        }
        Some(taken)
    }

    /// Hands an event to the session's stream; false when there is one without room.
    fn offer(&self, event: &Event) -> bool {
        let mut channel = lock(&self.channel);
        let event = match &mut channel.replay {
            Some(replay) => replay.keep(event),
            None => event.clone(),
        };
        let Some(taken) = channel.open().map(|stream| stream.offer(event)) else {
            return true;
        };
        if let Some(replay) = channel.replay.as_mut().filter(|_| taken) {
            replay.sent();
        }
        taken
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Table = HashMap<u128, Arc<Session>>;

fn remove(table: &mut Table, key: u128) {
    if let Some(session) = table.remove(&key) {
        session.end();
    }
}

/// All sessions of one bridge.
#[derive(Debug)]
pub(crate) struct Sessions {
    start: Instant,
    ttl: Duration,
    limit: usize,
    /// Whether events are kept for those who come back.
    replays: bool,
    kept: Kept,
    table: RwLock<Table>,
}

/// A new session, and who had to make room for it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) session: Arc<Session>,
    pub(super) gone: Vec<u128>,
}

impl Sessions {
    pub(crate) fn new(ttl: Duration, limit: usize, replays: bool) -> Self {
        Self {
            start: Instant::now(),
            ttl,
            limit,
            replays,
            kept: Kept::default(),
            table: RwLock::default(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn expired(&self, session: &Session) -> bool {
        let idle = self.now().saturating_sub(session.touched.load(Ordering::Relaxed));
        u128::from(idle) > self.ttl.as_millis() && !session.has_stream()
    }

    /// A new session. When there are too many, those that are too old make room, else the one that was not used for
    /// the longest time and does not listen; none when all listen.
    pub(super) fn open(&self) -> Option<Opened> {
        let mut table = self.write();
        let mut gone = Vec::new();
        if table.len() >= self.limit {
            gone = self.remove_expired(&mut table);
            if table.len() >= self.limit {
                let idle = table.values().filter(|session| !session.has_stream());
                let longest = idle.min_by_key(|session| session.touched.load(Ordering::Relaxed))?;
                let longest = longest.key();
                remove(&mut table, longest);
                gone.push(longest);
            }
        }
        let session = Arc::new(Session {
            id: Uuid::new_v4(),
            touched: AtomicU64::new(self.now()),
            channel: Mutex::new(Channel {
                stream: None,
                replay: self.replays.then(|| Replay::new(self.kept.clone())),
                is_over: false,
            }),
            call_streams: CallStreams::new(self.kept.clone()),
            stream_opened: Notify::new(),
            abilities: AtomicU8::new(0),
            level: AtomicU8::new(0),
            given_up: CancellationToken::new(),
        });
        table.insert(session.key(), Arc::clone(&session));
        Some(Opened { session, gone })
    }

    fn remove_expired(&self, table: &mut Table) -> Vec<u128> {
        let expired: Vec<u128> = table
            .values()
            .filter(|session| self.expired(session))
            .map(|session| session.key())
            .collect();
        for key in &expired {
            remove(table, *key);
        }
        expired
    }

    /// Forgets who is too old.
    pub(super) fn sweep(&self) -> Vec<u128> {
        self.remove_expired(&mut self.write())
    }

    /// Those without an event stream.
    pub(super) fn without_stream(&self) -> Vec<u128> {
        let table = self.read();
        let without = table.values().filter(|session| !session.has_stream());
        without.map(|session| session.key()).collect()
    }

    /// The session under `id`, which counts as used now.
    pub(crate) fn get(&self, id: Uuid) -> Option<Arc<Session>> {
        let found = Arc::clone(self.read().get(&id.as_u128())?);
        if self.expired(&found) {
            return None;
        }
        found.touched.store(self.now(), Ordering::Relaxed);
        Some(found)
    }

    /// Forgets a session; its stream ends.
    pub(super) fn close(&self, key: u128) {
        remove(&mut self.write(), key);
    }

    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    /// The session with this key, which does not count as used by that.
    pub(super) fn by_key(&self, key: u128) -> Option<Arc<Session>> {
        self.read().get(&key).map(Arc::clone)
    }

    /// Whether there is a session with this key. What is noted of one is good only if it is there after that: who goes takes
    /// along what was noted before.
    pub(super) fn knows(&self, key: u128) -> bool {
        self.read().contains_key(&key)
    }

    /// The only session there is.
    pub(super) fn only(&self) -> Option<Arc<Session>> {
        let table = self.read();
        let mut sessions = table.values();
        sessions
            .next()
            .filter(|_| sessions.next().is_none())
            .map(Arc::clone)
    }

    pub(super) fn set_level(&self, key: u128, level: Level) {
        if let Some(session) = self.read().get(&key) {
            session.level.store(level, Ordering::Release);
        }
    }

    /// The level of the session that wants most, leaving out one.
    pub(super) fn most_verbose(&self, except: u128) -> Option<Level> {
        let table = self.read();
        let others = table.values().filter(|session| session.key() != except);
        others
            .map(|session| session.level.load(Ordering::Acquire))
            .filter(|level| *level > 0)
            .min()
    }

    /// Those that want messages of this level.
    pub(super) fn wanting(&self, level: Level) -> Vec<u128> {
        let table = self.read();
        let alone = table.len() == 1;
        let wants = |session: &&Arc<Session>| match session.level.load(Ordering::Acquire) {
            0 => alone,
            wanted => wanted <= level,
        };
        table
            .values()
            .filter(wants)
            .map(|session| session.key())
            .collect()
    }

    /// Ends all streams.
    pub(super) fn end_streams(&self) {
        for session in self.read().values() {
            session.end_stream();
        }
    }

    /// Ends all streams and forgets everybody.
    pub(super) fn clear(&self) {
        self.end_streams();
        self.write().clear();
    }

    /// Offers an event to every session's stream. How many had no room.
    pub(super) fn broadcast(&self, event: &Event) -> usize {
        let table = self.read();
        table.values().filter(|session| !session.offer(event)).count()
    }

    /// Offers an event to some sessions' streams. How many had no room.
    pub(super) fn publish(&self, to: &[u128], event: &Event) -> usize {
        let table = self.read();
        to.iter()
            .filter_map(|key| table.get(key))
            .filter(|session| !session.offer(event))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::bridge::events::queue;

    #[tokio::test(start_paused = true)]
    async fn who_was_not_used_for_the_longest_time_makes_room() {
        let sessions = Sessions::new(Duration::from_secs(100), 3, false);
        let mut opened = Vec::new();
        for _ in 0..3 {
            opened.push(sessions.open().unwrap().session);
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        assert!(sessions.get(opened[0].id).is_some());
        let fourth = sessions.open().unwrap();
        assert_eq!(fourth.gone, [opened[1].key()]);
        assert!(sessions.get(opened[1].id).is_none());

        // Those that listen stay, whatever comes.
        let mut streams = Vec::new();
        for session in [&opened[0], &opened[2], &fourth.session] {
            let (events, waiting) = queue(1, 1);
            session.set_stream(events);
            streams.push(waiting);
        }
        assert!(sessions.open().is_none());
        drop(streams.remove(1));
        assert_eq!(sessions.open().unwrap().gone, [opened[2].key()]);
    }

    #[tokio::test]
    async fn a_stream_that_is_opened_while_its_session_ends_ends_with_it() {
        let sessions = Sessions::new(Duration::from_secs(100), 1, true);
        let session = sessions.open().unwrap().session;
        sessions.close(session.key());
        for resumed in [false, true] {
            let (events, mut waiting) = queue(1, 1);
            if resumed {
                session.resume_stream(events, None);
            } else {
                session.set_stream(events);
            }
            assert!(waiting.next().now_or_never().is_some_and(|event| event.is_none()));
            assert!(!session.has_stream());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_forgotten_when_it_was_not_used_and_nobody_listens() {
        let sessions = Sessions::new(Duration::from_secs(100), 10, true);
        let (idle, used, listening) = (
            sessions.open().unwrap().session,
            sessions.open().unwrap().session,
            sessions.open().unwrap().session,
        );
        let (events, _waiting) = queue(1, 1);
        listening.set_stream(events);
        tokio::time::advance(Duration::from_secs(80)).await;
        assert!(sessions.get(used.id).is_some());
        tokio::time::advance(Duration::from_secs(80)).await;
        assert!(sessions.get(idle.id).is_none());
        assert_eq!(sessions.sweep(), [idle.key()]);
        assert!(sessions.get(used.id).is_some() && sessions.get(listening.id).is_some());
        assert_eq!(sessions.len(), 2);
        assert!(sessions.get(Uuid::nil()).is_none());
    }
}
