//! Events of a stream that its client may ask for again, or has not been sent yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::events::Event;

/// What is kept for one stream: so many events, of so many bytes together.
pub(super) const EVENTS: usize = 64;
const BYTES: usize = 64 * 1024;
/// What is kept for all streams. Beyond it new events are sent and not kept.
const ALL_BYTES: usize = 32 << 20;

/// Bytes that are kept, over all sessions; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<AtomicUsize>);

/// The events of one stream, numbered from one.
#[derive(Debug)]
pub(super) struct Replay {
    /// What the ids of its events begin with.
    name: String,
    kept: VecDeque<(u64, Event)>,
    bytes: usize,
    last: u64,
    /// Up to here events were handed to a stream.
    sent: u64,
    all: Kept,
}

impl Replay {
    /// The events of a session's own stream: their ids are numbers.
    pub(super) fn new(all: Kept) -> Self {
        Self::named(String::new(), all)
    }

    /// The events of a stream whose ids begin with `name`.
    pub(super) fn named(name: String, all: Kept) -> Self {
        Self {
            name,
            kept: VecDeque::new(),
            bytes: 0,
            last: 0,
            sent: 0,
            all,
        }
    }

    /// Numbers an event and keeps it. What it is on the wire, with its id.
    pub(super) fn keep(&mut self, event: &Event) -> Event {
        self.last += 1;
        let event = event.clone().with_id(format_args!("{}{}", self.name, self.last));
        let len = event.len();
        if len <= BYTES && self.all.0.load(Ordering::Relaxed) + len <= ALL_BYTES {
            while self.kept.len() >= EVENTS || self.bytes + len > BYTES {
                self.forget();
            }
            self.bytes += len;
            self.all.0.fetch_add(len, Ordering::Relaxed);
            self.kept.push_back((self.last, event.clone()));
        }
        event
    }

    /// Forgets the event that was kept last.
    pub(super) fn take_back(&mut self) {
        if self.kept.back().is_some_and(|(number, _)| *number == self.last)
            && let Some((_, event)) = self.kept.pop_back()
        {
            self.give_back(&event);
        }
    }

    /// The number of the last event.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    fn forget(&mut self) {
        if let Some((_, event)) = self.kept.pop_front() {
            self.give_back(&event);
        }
    }

    fn give_back(&mut self, event: &Event) {
        self.bytes -= event.len();
        self.all.0.fetch_sub(event.len(), Ordering::Relaxed);
    }

    /// The last event was handed to a stream.
    pub(super) fn sent(&mut self) {
        self.sent = self.last;
    }

    /// The events behind the one that a client has seen last; without one, those that no stream was handed.
    pub(super) fn behind(&self, seen: Option<u64>) -> Vec<Event> {
        let behind = self.numbered_behind(seen.unwrap_or(self.sent));
        behind.map(|(_, event)| event).collect()
    }

    /// The events behind this one, with their numbers.
    pub(super) fn numbered_behind(&self, seen: u64) -> impl Iterator<Item = (u64, Event)> {
        let behind = self.kept.iter().filter(move |(number, _)| *number > seen);
        behind.map(|(number, event)| (*number, event.clone()))
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn event(size: usize) -> Event {
        Event::message([Bytes::from(vec![b'x'; size])])
    }

    #[test]
    fn what_is_kept_is_bounded_and_given_back() {
        let all = Kept::default();
        let mut replay = Replay::new(all.clone());
        for _ in 0..1000 {
            replay.keep(&event(10));
        }
        assert_eq!(replay.behind(None).len(), EVENTS);
        assert_eq!(replay.behind(Some(990)).len(), 10);
        assert_eq!(replay.behind(Some(5000)).len(), 0);
        replay.sent();
        assert_eq!(replay.behind(None).len(), 0);
        for _ in 0..100 {
            replay.keep(&event(BYTES / 10));
        }
        assert!(replay.bytes <= BYTES && all.0.load(Ordering::Relaxed) == replay.bytes);
        replay.keep(&event(2 * BYTES));
        assert!(replay.bytes <= BYTES);
        drop(replay);
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn sessions_together_keep_no_more_than_all_may() {
        let all = Kept::default();
        let mut sessions: Vec<_> = (0..2 * ALL_BYTES / BYTES)
            .map(|_| Replay::new(all.clone()))
            .collect();
        for session in &mut sessions {
            session.keep(&event(BYTES / 2));
            session.keep(&event(BYTES / 4));
        }
        assert!(all.0.load(Ordering::Relaxed) <= ALL_BYTES);
        assert!(sessions.last().is_some_and(|last| last.kept.is_empty()));
    }
}
