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

    pub(super) fn renew(&self, id: HeaderValue) {
        *lock(&self.server_id) = id;
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
        if hello.len() > LONGEST || id.len() > LONGEST_ID {
            return;
        }
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
        table.insert(id.clone(), Arc::new(known));
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
