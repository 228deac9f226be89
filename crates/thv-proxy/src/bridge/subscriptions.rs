//! Who listens to which resource: the server hears of each URI once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The longest URI that can be subscribed to, in bytes.
const LONGEST_URI: usize = 2048;
/// URIs of one session.
const MAX_OF_SESSION: usize = 1024;
/// What all sessions together may make the table hold, in bytes.
const MAX_BYTES: usize = 16 << 20;
/// What an entry holds besides its URI, about.
const ENTRY: usize = 128;

/// What a session and a URI have to do with each other.
#[derive(Debug, Default)]
struct Interest {
    /// Requests for it that the server has not answered.
    asked: u32,
    /// The server has said yes.
    active: bool,
}

#[derive(Debug, Default)]
struct Table {
    by_uri: HashMap<Arc<str>, HashMap<u128, Interest>>,
    by_session: HashMap<u128, HashSet<Arc<str>>>,
    bytes: usize,
}

/// The subscriptions of all sessions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Mutex<Table>);

impl Subscriptions {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `session` is about to ask the server for `uri`; an error says which bound stands against it.
    pub(super) fn ask(&self, session: u128, uri: &str) -> Result<Arc<str>, &'static str> {
        if uri.len() > LONGEST_URI {
            return Err("the URI is longer than 2048 bytes");
        }
        self.table().ask(session, uri)
    }

    /// The server's answer to what was asked. True when the server now sends what nobody wants.
    pub(super) fn settle(&self, session: u128, uri: &str, accepted: bool) -> bool {
        let mut table = self.table();
        if let Some(interest) = table.interest(session, uri) {
            interest.asked = interest.asked.saturating_sub(1);
            interest.active |= accepted;
            if !interest.active && interest.asked == 0 {
                table.remove(session, uri);
            }
        }
        accepted && !table.by_uri.contains_key(uri)
    }

    /// `session` does not want `uri` any more. True when nobody else does.
    pub(super) fn leave(&self, session: u128, uri: &str) -> bool {
        let mut table = self.table();
        table.remove(session, uri);
        !table.by_uri.contains_key(uri)
    }

    /// `session` is gone. What nobody wants any more.
    pub(super) fn leave_all(&self, session: u128) -> Vec<Arc<str>> {
        let mut table = self.table();
        let left = table.by_session.get(&session).cloned().unwrap_or_default();
        for uri in &left {
            table.remove(session, uri);
        }
        left.into_iter()
            .filter(|uri| !table.by_uri.contains_key(uri))
            .collect()
    }

    /// Whether anybody wants `uri`, or is about to.
    pub(super) fn is_wanted(&self, uri: &str) -> bool {
        self.table().by_uri.contains_key(uri)
    }

    /// The sessions that listen to `uri`.
    pub(super) fn listeners(&self, uri: &str) -> Vec<u128> {
        self.table().by_uri.get(uri).map_or_else(Vec::new, |sessions| {
            let active = sessions.iter().filter(|(_, interest)| interest.active);
            active.map(|(session, _)| *session).collect()
        })
    }

    /// What a server that was attached to anew has to be asked for.
    pub(super) fn all(&self) -> Vec<Arc<str>> {
        let table = self.table();
        let active = |sessions: &HashMap<u128, Interest>| sessions.values().any(|interest| interest.active);
        table
            .by_uri
            .iter()
            .filter(|(_, sessions)| active(sessions))
            .map(|(uri, _)| Arc::clone(uri))
            .collect()
    }
}

impl Table {
    fn interest(&mut self, session: u128, uri: &str) -> Option<&mut Interest> {
        self.by_uri.get_mut(uri)?.get_mut(&session)
    }

    fn ask(&mut self, session: u128, uri: &str) -> Result<Arc<str>, &'static str> {
        if let Some(interest) = self.interest(session, uri) {
            interest.asked += 1;
        } else {
            let of_session = self.by_session.get(&session).map_or(0, HashSet::len);
            if of_session >= MAX_OF_SESSION {
                return Err("the session has too many subscriptions");
            }
            if self.bytes + uri.len() + ENTRY > MAX_BYTES {
                return Err("there are too many subscriptions");
            }
            self.bytes += uri.len() + ENTRY;
        }
        let key = self
            .by_uri
            .get_key_value(uri)
            .map_or_else(|| Arc::from(uri), |(key, _)| Arc::clone(key));
        let sessions = self.by_uri.entry(Arc::clone(&key)).or_default();
        sessions.entry(session).or_insert(Interest {
            asked: 1,
            active: false,
        });
        self.by_session
            .entry(session)
            .or_default()
            .insert(Arc::clone(&key));
        Ok(key)
    }

    fn remove(&mut self, session: u128, uri: &str) {
        let Some(sessions) = self.by_uri.get_mut(uri) else {
            return;
        };
        if sessions.remove(&session).is_none() {
            return;
        }
        if sessions.is_empty() {
            self.by_uri.remove(uri);
        }
        self.bytes -= uri.len() + ENTRY;
        if let Some(of_session) = self.by_session.get_mut(&session) {
            of_session.remove(uri);
            if of_session.is_empty() {
                self.by_session.remove(&session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_accepted_counts_and_the_last_to_leave_is_known() {
        let table = Subscriptions::default();
        table.ask(1, "a").unwrap();
        assert!(table.listeners("a").is_empty() && table.is_wanted("a"));
        assert!(!table.settle(1, "a", true));
        assert_eq!(table.listeners("a"), [1]);
        table.ask(2, "a").unwrap();
        assert!(!table.settle(2, "a", false));
        assert_eq!(table.listeners("a"), [1], "a refused one is not kept");
        table.ask(2, "a").unwrap();
        assert!(!table.leave(1, "a"), "another is about to listen");
        assert!(!table.settle(2, "a", true));
        table.ask(2, "b").unwrap();
        let mut left = table.leave_all(2);
        left.sort();
        assert_eq!(left, [Arc::from("a"), Arc::from("b")]);
        assert!(table.settle(2, "b", true), "the server sends what nobody wants");
        let table = table.table();
        assert!(table.by_uri.is_empty() && table.by_session.is_empty() && table.bytes == 0);
    }

    #[test]
    fn number_and_size_are_bounded() {
        let table = Subscriptions::default();
        assert!(table.ask(1, &"x".repeat(LONGEST_URI)).is_ok());
        assert!(table.ask(1, &"x".repeat(LONGEST_URI + 1)).is_err());
        for index in 1..MAX_OF_SESSION {
            table.ask(1, &index.to_string()).unwrap();
        }
        assert!(table.ask(1, "one more").is_err() && table.ask(1, "7").is_ok());
        let most = (2..100_000).find(|session| table.ask(*session, &"y".repeat(LONGEST_URI)).is_err());
        assert!(most.is_some_and(|sessions| sessions < MAX_BYTES as u128 / LONGEST_URI as u128));
    }
}
