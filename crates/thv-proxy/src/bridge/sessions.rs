//! Clients that the bridge knows.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

/// URIs that one session may subscribe to.
const MAX_SUBSCRIPTIONS: usize = 1024;

/// One client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: Uuid,
    /// Milliseconds after the table's start.
    touched: AtomicU64,
    stream: Mutex<Option<mpsc::Sender<Bytes>>>,
    /// URIs as they were written, quotes included.
    subscriptions: Mutex<HashSet<Box<[u8]>>>,
}

impl Session {
    pub(crate) fn key(&self) -> u128 {
        self.id.as_u128()
    }

    /// Makes this the session's event stream; the former one ends.
    pub(crate) fn set_stream(&self, stream: mpsc::Sender<Bytes>) {
        *lock(&self.stream) = Some(stream);
    }

    /// The session's event stream, if it is open.
    pub(crate) fn stream(&self) -> Option<mpsc::Sender<Bytes>> {
        lock(&self.stream)
            .as_ref()
            .filter(|stream| !stream.is_closed())
            .cloned()
    }

    fn has_stream(&self) -> bool {
        lock(&self.stream)
            .as_ref()
            .is_some_and(|stream| !stream.is_closed())
    }

    /// Hands an event to the session's stream, if there is one with room.
    fn offer(&self, event: &Bytes) -> bool {
        lock(&self.stream)
            .as_ref()
            .is_some_and(|stream| stream.try_send(event.clone()).is_ok())
    }

    pub(crate) fn subscribe(&self, uri: &[u8]) -> bool {
        let mut subscriptions = lock(&self.subscriptions);
        if subscriptions.len() >= MAX_SUBSCRIPTIONS && !subscriptions.contains(uri) {
            return false;
        }
        subscriptions.insert(uri.into());
        true
    }

    pub(crate) fn unsubscribe(&self, uri: &[u8]) {
        lock(&self.subscriptions).remove(uri);
    }

    fn subscribed(&self, uri: &[u8]) -> bool {
        lock(&self.subscriptions).contains(uri)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All sessions of one bridge. There is no timer: who is too old is found when somebody asks.
#[derive(Debug)]
pub(crate) struct Sessions {
    start: Instant,
    ttl: Duration,
    limit: usize,
    table: RwLock<HashMap<u128, Arc<Session>>>,
}

impl Sessions {
    pub(crate) fn new(ttl: Duration, limit: usize) -> Self {
        Self {
            start: Instant::now(),
            ttl,
            limit,
            table: RwLock::default(),
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn expired(&self, session: &Session) -> bool {
        let idle = self.now().saturating_sub(session.touched.load(Ordering::Relaxed));
        u128::from(idle) > self.ttl.as_millis() && !session.has_stream()
    }

    /// A new session under `id`, or the one that is there; `None` when there are too many.
    pub(crate) fn open(&self, id: Uuid) -> Option<Arc<Session>> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.get(&id.as_u128()) {
            return Some(Arc::clone(known));
        }
        if table.len() >= self.limit {
            table.retain(|_, session| !self.expired(session));
            if table.len() >= self.limit {
                return None;
            }
        }
        let session = Arc::new(Session {
            id,
            touched: AtomicU64::new(self.now()),
            stream: Mutex::default(),
            subscriptions: Mutex::default(),
        });
        table.insert(id.as_u128(), Arc::clone(&session));
        Some(session)
    }

    /// The session under `id`, which counts as used now.
    pub(crate) fn get(&self, id: Uuid) -> Option<Arc<Session>> {
        let found = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(table.get(&id.as_u128())?)
        };
        if self.expired(&found) {
            self.close(id);
            return None;
        }
        found.touched.store(self.now(), Ordering::Relaxed);
        Some(found)
    }

    /// Forgets a session; its stream ends.
    pub(crate) fn close(&self, id: Uuid) -> bool {
        self.table
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id.as_u128())
            .is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Ends all streams and forgets everybody.
    pub(crate) fn clear(&self) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Offers an event to every session's stream.
    pub(crate) fn broadcast(&self, event: &Bytes) {
        for session in self.table.read().unwrap_or_else(PoisonError::into_inner).values() {
            session.offer(event);
        }
    }

    /// Offers an event to those who subscribed to `uri`.
    pub(crate) fn publish(&self, uri: &[u8], event: &Bytes) {
        for session in self.table.read().unwrap_or_else(PoisonError::into_inner).values() {
            if session.subscribed(uri) {
                session.offer(event);
            }
        }
    }

    /// Whether anybody but `except` is subscribed to `uri`.
    pub(crate) fn others_subscribed(&self, uri: &[u8], except: u128) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table
            .values()
            .any(|session| session.key() != except && session.subscribed(uri))
    }
}
