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

/// Sessions that are kept, and the longest `initialize`.
const MOST: usize = 10_000;
const LONGEST: usize = 16 * 1024;
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
    table: Mutex<HashMap<HeaderValue, Arc<Known>>>,
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
        if table.len() >= MOST {
            table.retain(|_, known| lock(&known.used).elapsed() <= self.ttl);
        }
        if table.len() >= MOST
            && let Some(oldest) = table.iter().min_by_key(|(_, known)| *lock(&known.used))
        {
            let oldest = oldest.0.clone();
            table.remove(&oldest);
        }
        let known = Known {
            // A copy: the body that it came in may be a part of a larger buffer.
            hello: Bytes::copy_from_slice(hello),
            server_id: Mutex::new(id.clone()),
            used: Mutex::new(Instant::now()),
            again: tokio::sync::Mutex::default(),
        };
        table.insert(id, Arc::new(known));
    }

    /// The session that a client names, which counts as used by that.
    pub(super) fn named(&self, headers: &HeaderMap) -> Option<Arc<Known>> {
        let known = lock(&self.table).get(headers.get(&SESSION_ID)?).cloned()?;
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
        let known = lock(&sessions.table).values().next().unwrap().clone();
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
        assert_eq!(lock(&sessions.table).len(), MOST);
        let named = |at| {
            let mut headers = HeaderMap::new();
            headers.insert(&SESSION_ID, id(at));
            sessions.named(&headers)
        };
        assert!(named(0).is_none() && named(1).is_some() && named(MOST).is_some());
        tokio::time::advance(Duration::from_secs(101)).await;
        assert!(named(1).is_none());
        sessions.opened(&id(MOST + 1), &hello);
        assert_eq!(lock(&sessions.table).len(), 1, "those that are too old make room");
        sessions.opened(&id(1), &Bytes::from(vec![0; LONGEST + 1]));
        assert!(named(1).is_none());
        sessions.closed(&id(MOST + 1));
        assert!(named(MOST + 1).is_none());
    }
}
