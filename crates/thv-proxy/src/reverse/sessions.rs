//! The sessions of a streamable HTTP server, as its clients know them.
//!
//! A server that was restarted knows none of them. What `initialize` said is kept, so that a session can be made again:
//! its client goes on with the id that it has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::mcp_headers::SESSION_ID;

/// Sessions that are kept, the longest `initialize`, and the bytes of all of them.
const MOST: usize = 10_000;
const LONGEST: usize = 16 * 1024;
const MOST_BYTES: usize = 16 * 1024 * 1024;
const LONGEST_ID: usize = 256;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An id in memory of its own: the head that it came in, and what came with that, may be much larger. None when it is too
/// long itself.
fn detached(id: &HeaderValue) -> Option<HeaderValue> {
    let id = Some(id.as_bytes()).filter(|id| id.len() <= LONGEST_ID)?;
    HeaderValue::from_bytes(id).ok()
}

/// One session.
#[derive(Debug)]
pub(super) struct Known {
    /// What the client said in `initialize`.
    pub(super) hello: Bytes,
    /// The id that the server knows now.
    server_id: Mutex<HeaderValue>,
    used: Mutex<Instant>,
    /// Held by the one request that makes the session again.
    pub(super) again: tokio::sync::Mutex<()>,
}

impl Known {
    pub(super) fn server_id(&self) -> HeaderValue {
        lock(&self.server_id).clone()
    }

    /// The server has another id for it from now on; none when that is too long to be kept.
    pub(super) fn renew(&self, id: &HeaderValue) -> Option<HeaderValue> {
        let id = detached(id)?;
        lock(&self.server_id).clone_from(&id);
        Some(id)
    }
}

/// All sessions of one proxy, by the ids that clients have.
#[derive(Debug)]
pub(super) struct Sessions {
    ttl: Duration,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<HeaderValue, Arc<Known>>,
    /// What all of them said in `initialize`.
    bytes: usize,
}

impl Table {
    fn insert(&mut self, id: HeaderValue, known: Known) {
        self.bytes += known.hello.len();
        if let Some(before) = self.known.insert(id, Arc::new(known)) {
            self.bytes -= before.hello.len();
        }
    }

    fn remove(&mut self, id: &HeaderValue) {
        if let Some(known) = self.known.remove(id) {
            self.bytes -= known.hello.len();
        }
    }

    fn has_room_for(&self, hello: usize) -> bool {
        self.known.len() < MOST && self.bytes + hello <= MOST_BYTES
    }

    /// Those that are older than `ttl` make room, then who was used the longest ago.
    fn make_room_for(&mut self, hello: usize, ttl: Duration) {
        if !self.has_room_for(hello) {
            let Self { known, bytes } = self;
            known.retain(|_, known| {
                let stays = lock(&known.used).elapsed() <= ttl;
                *bytes -= if stays { 0 } else { known.hello.len() };
                stays
            });
        }
        while !self.has_room_for(hello)
            && let Some(oldest) = self.oldest()
        {
            self.remove(&oldest);
        }
    }

    fn oldest(&self) -> Option<HeaderValue> {
        let oldest = self.known.iter().min_by_key(|(_, known)| *lock(&known.used));
        oldest.map(|(id, _)| id.clone())
    }
}

impl Sessions {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            table: Mutex::default(),
        }
    }

    /// A session that the server has just opened.
    pub(super) fn opened(&self, id: &HeaderValue, hello: &Bytes) {
        let Some(id) = detached(id).filter(|_| hello.len() <= LONGEST) else {
            return;
        };
        let mut table = lock(&self.table);
        table.make_room_for(hello.len(), self.ttl);
        let known = Known {
            // A copy: the body that it came in may be a part of a larger buffer.
            hello: Bytes::copy_from_slice(hello),
            server_id: Mutex::new(id.clone()),
            used: Mutex::new(Instant::now()),
            again: tokio::sync::Mutex::default(),
        };
        table.insert(id, known);
    }

    /// The session that a client names, which counts as used by that.
    pub(super) fn named(&self, headers: &HeaderMap) -> Option<Arc<Known>> {
        let known = lock(&self.table).known.get(headers.get(&SESSION_ID)?).cloned()?;
        let mut used = lock(&known.used);
        if used.elapsed() > self.ttl {
            return None;
        }
        *used = Instant::now();
        drop(used);
        Some(known)
    }

    pub(super) fn closed(&self, id: &HeaderValue) {
        lock(&self.table).remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_answer_that_an_id_came_in_is_not_kept_with_it() {
        let sessions = Sessions::new(Duration::from_secs(100));
        let head = Bytes::from(vec![b'x'; 64 * 1024]);
        let id = |part| HeaderValue::from_maybe_shared(head.slice(part)).unwrap();
        sessions.opened(&id(0..8), &Bytes::from_static(b"{}"));
        let known = lock(&sessions.table).known.values().next().unwrap().clone();
        assert_eq!(known.renew(&id(8..16)).unwrap(), known.server_id());
        assert!(known.renew(&id(0..LONGEST_ID + 1)).is_none() && known.server_id() == "xxxxxxxx");
        assert!(head.is_unique(), "something still holds it");
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_are_bounded_in_number_and_time() {
        let sessions = Sessions::new(Duration::from_secs(100));
        let hello = Bytes::from_static(b"{}");
        let id = |at: usize| HeaderValue::from_str(&format!("s{at}")).unwrap();
        for at in 0..=MOST {
            sessions.opened(&id(at), &hello);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(lock(&sessions.table).known.len(), MOST);
        let named = |at| {
            let mut headers = HeaderMap::new();
            headers.insert(&SESSION_ID, id(at));
            sessions.named(&headers)
        };
        assert!(named(0).is_none() && named(1).is_some() && named(MOST).is_some());
        tokio::time::advance(Duration::from_secs(101)).await;
        assert!(named(1).is_none());
        sessions.opened(&id(MOST + 1), &hello);
        assert_eq!(
            lock(&sessions.table).known.len(),
            1,
            "those that are too old make room"
        );
        sessions.opened(&id(1), &Bytes::from(vec![0; LONGEST + 1]));
        assert!(named(1).is_none());
        sessions.closed(&id(MOST + 1));
        assert!(named(MOST + 1).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_clients_said_is_bounded_as_a_whole() {
        let sessions = Sessions::new(Duration::from_secs(100));
        let hello = Bytes::from(vec![b'x'; LONGEST]);
        let id = |at: usize| HeaderValue::from_str(&format!("s{at}")).unwrap();
        let of_them = MOST_BYTES / LONGEST;
        for at in (0..of_them + 2).chain([of_them]) {
            sessions.opened(&id(at), &hello);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let table = lock(&sessions.table);
        let held: usize = table.known.values().map(|known| known.hello.len()).sum();
        assert!(
            held <= MOST_BYTES && table.bytes == held,
            "{held}, {}",
            table.bytes
        );
        assert!(!table.known.contains_key(&id(1)) && table.known.contains_key(&id(of_them)));
        drop(table);
        for at in 0..of_them + 2 {
            sessions.closed(&id(at));
        }
        assert_eq!(lock(&sessions.table).bytes, 0);
    }
}
