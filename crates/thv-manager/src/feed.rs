//! The history of what workloads are, as one manager heard it: the last state of each, in the order of their changes.
//!
//! Bounded by the number of workloads and of removals that are remembered. Readers hold a place in it and nothing else, so
//! a slow one costs nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thv_core::WorkloadName;
use thv_status::ClaimId;
use tokio::sync::{Notify, watch};

use crate::events::{Cursor, WatchEvent, WatchFrom, Watched, WorkloadState};
use crate::{Error, Result};

/// How many removals are remembered. Who is further behind is told of a gap.
const REMOVALS: usize = 1024;

/// Whether changes are heard.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hearing {
    /// Nobody has asked yet, or not everything was looked at.
    NotYet,
    /// They are; the last one has this revision.
    To(u64),
    /// They are not, for this reason; it is tried again.
    Not(String),
}

#[derive(Debug, Default)]
struct History {
    last: u64,
    /// The last change of each workload by its revision; removals among them.
    changes: BTreeMap<u64, Change>,
    revisions: HashMap<WorkloadName, u64>,
    removals: usize,
    /// Removals up to this revision may be forgotten.
    forgotten: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Is(WorkloadState),
    Removed(WorkloadName),
}

impl History {
    /// Takes a state in. Whether it is news.
    fn set(&mut self, state: WorkloadState) -> bool {
        let name = state.name.clone();
        self.put(name, Change::Is(state))
    }

    /// Takes a removal in. Whether it is news.
    fn remove(&mut self, name: &WorkloadName) -> bool {
        match self.revisions.get(name).and_then(|at| self.changes.get(at)) {
            Some(Change::Is(_)) => {}
            _ => return false,
        }
        self.put(name.clone(), Change::Removed(name.clone()));
        self.removals += 1;
        if self.removals > REMOVALS {
            self.forget_a_removal();
        }
        true
    }

    fn put(&mut self, name: WorkloadName, change: Change) -> bool {
        let before = self.revisions.get(&name).copied();
        if before.is_some_and(|at| self.changes.get(&at) == Some(&change)) {
            return false;
        }
        if let Some(Change::Removed(_)) = before.and_then(|at| self.changes.remove(&at)) {
            self.removals -= 1;
        }
        self.last += 1;
        self.changes.insert(self.last, change);
        self.revisions.insert(name, self.last);
        true
    }

    fn forget_a_removal(&mut self) {
        let oldest = self.changes.iter().find_map(|(at, change)| match change {
            Change::Removed(name) => Some((*at, name.clone())),
            Change::Is(_) => None,
        });
        if let Some((at, name)) = oldest {
            self.changes.remove(&at);
            self.revisions.remove(&name);
            self.removals -= 1;
            self.forgotten = at;
        }
    }

    /// Those that are there and not among `seen`.
    fn missing(&self, seen: &HashSet<WorkloadName>) -> Vec<WorkloadName> {
        let there = self.changes.values().filter_map(|change| match change {
            Change::Is(state) if !seen.contains(&state.name) => Some(state.name.clone()),
            _ => None,
        });
        there.collect()
    }

    /// The first change after `revision`.
    fn after(&self, revision: u64) -> Option<(u64, Change)> {
        let mut later = self.changes.range(revision.saturating_add(1)..);
        later.next().map(|(at, change)| (*at, change.clone()))
    }
}

#[derive(Debug)]
struct Shared {
    id: String,
    history: Mutex<History>,
    wanted: Notify,
}

impl Shared {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A history and who writes it.
pub(crate) fn feed() -> (Feed, Readers) {
    let shared = Arc::new(Shared {
        id: ClaimId::random().as_str().to_owned(),
        history: Mutex::default(),
        wanted: Notify::new(),
    });
    let (heard, hearing) = watch::channel(Hearing::NotYet);
    let readers = Readers {
        shared: shared.clone(),
        hearing,
    };
    (Feed { shared, heard }, readers)
}

/// The writing end. Readers end when it is dropped.
#[derive(Debug)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
    heard: watch::Sender<Hearing>,
}

impl Feed {
    /// Resolves when somebody wants to read, for the first time and later. Cancel-safe.
    pub(crate) async fn wanted(&self) {
        self.shared.wanted.notified().await;
    }

    /// Takes in what all workloads are: those that are not among them are gone.
    pub(crate) fn reset(&self, all: Vec<Result<WorkloadState, WorkloadName>>) {
        let last = {
            let mut history = self.shared.history();
            let mut seen = HashSet::with_capacity(all.len());
            for one in all {
                match one {
                    Ok(state) => {
                        seen.insert(state.name.clone());
                        history.set(state);
                    }
                    Err(gone) => {
                        history.remove(&gone);
                    }
                }
            }
            for name in history.missing(&seen) {
                history.remove(&name);
            }
            history.last
        };
        self.heard.send_replace(Hearing::To(last));
    }

    /// Takes in what one workload is, or that it is gone.
    pub(crate) fn tell(&self, one: Result<WorkloadState, WorkloadName>) {
        let last = {
            let mut history = self.shared.history();
            let news = match one {
                Ok(state) => history.set(state),
                Err(gone) => history.remove(&gone),
            };
            if !news {
                return;
            }
            history.last
        };
        self.heard.send_replace(Hearing::To(last));
    }

    /// Changes are not heard for now. Whoever reads goes on waiting.
    pub(crate) fn fails(&self, reason: String) {
        self.heard.send_replace(Hearing::Not(reason));
    }
}

/// Where readers come from.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
    hearing: watch::Receiver<Hearing>,
}

impl Readers {
    /// A reader from `from` on, as soon as everything was looked at once.
    pub(crate) async fn reader(mut self, from: WatchFrom) -> Result<Reader> {
        let failed = |reason: &str| Error::Io {
            action: "hear changes of workloads".into(),
            source: std::io::Error::other(reason.to_owned()),
        };
        self.shared.wanted.notify_one();
        let heard = self.hearing.wait_for(|hearing| *hearing != Hearing::NotYet).await;
        let last = match heard.map(|hearing| hearing.clone()) {
            Ok(Hearing::To(last)) => last,
            Ok(Hearing::Not(reason)) => return Err(failed(&reason)),
            Ok(Hearing::NotYet) | Err(_) => return Err(failed("the manager has ended")),
        };
        let mut reader = Reader {
            shared: self.shared,
            hearing: self.hearing,
            at: last,
            quiet: 0,
            floor: 0,
            gap: false,
            sync: Some(last),
        };
        match from {
            WatchFrom::Now => {}
            WatchFrom::Beginning => reader.begin_anew(false),
            WatchFrom::Since(cursor) if cursor.feed == reader.shared.id && cursor.revision <= last => {
                reader.at = cursor.revision;
            }
            WatchFrom::Since(_) => reader.begin_anew(true),
        }
        Ok(reader)
    }
}

/// A place in the history.
#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    hearing: watch::Receiver<Hearing>,
    /// The revision that was told last.
    at: u64,
    /// Removals up to this revision concern nothing that this reader was told of.
    quiet: u64,
    /// That removals up to this revision are forgotten does not matter to it.
    floor: u64,
    /// A gap is to be told.
    gap: bool,
    /// `Synced` is to be told after the changes up to this revision.
    sync: Option<u64>,
}

impl Reader {
    /// Forgets its place: everything that is there now is told.
    fn begin_anew(&mut self, gap: bool) {
        let shared = self.shared.clone();
        self.begin(&shared.history(), gap);
    }

    fn begin(&mut self, history: &History, gap: bool) {
        self.at = 0;
        self.quiet = history.last;
        self.floor = history.forgotten;
        self.gap = gap;
        self.sync = Some(history.last);
    }

    /// The next event; `None` when the manager has ended. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Watched> {
        loop {
            // Marked as seen before it is looked, so that nothing falls between.
            self.hearing.borrow_and_update();
            if let Some(event) = self.look() {
                let cursor = Cursor {
                    feed: self.shared.id.clone(),
                    revision: self.at,
                };
                return Some(Watched { cursor, event });
            }
            self.hearing.changed().await.ok()?;
        }
    }

    /// What is to be told now.
    fn look(&mut self) -> Option<WatchEvent> {
        let shared = self.shared.clone();
        let history = shared.history();
        if history.forgotten > self.at.max(self.floor) {
            self.begin(&history, true);
        }
        if std::mem::take(&mut self.gap) {
            return Some(WatchEvent::Gap);
        }
        loop {
            let next = history.after(self.at);
            if let Some(sync) = self.sync
                && next.as_ref().is_none_or(|(at, _)| *at > sync)
            {
                self.sync = None;
                return Some(WatchEvent::Synced);
            }
            let (at, change) = next?;
            self.at = at;
            match change {
                Change::Is(state) => return Some(WatchEvent::Changed(state)),
                Change::Removed(_) if at <= self.quiet => {}
                Change::Removed(name) => return Some(WatchEvent::Removed(name)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use thv_core::WorkloadStatus;

    use super::*;

    fn name(text: &str) -> WorkloadName {
        WorkloadName::new(text).unwrap()
    }

    fn state(text: &str, status: WorkloadStatus) -> WorkloadState {
        WorkloadState {
            name: name(text),
            status,
            context: String::new(),
            should_run: true,
        }
    }

    /// What a reader is told without waiting, as words.
    fn told(reader: &mut Reader) -> Vec<String> {
        std::iter::from_fn(|| reader.next().now_or_never().flatten())
            .map(|watched| match watched.event {
                WatchEvent::Changed(state) => format!("{} {}", state.name, state.status),
                WatchEvent::Removed(name) => format!("{name} gone"),
                WatchEvent::Gap => "gap".into(),
                WatchEvent::Synced => "synced".into(),
            })
            .collect()
    }

    fn reader(readers: &Readers, from: WatchFrom) -> Reader {
        readers.clone().reader(from).now_or_never().unwrap().unwrap()
    }

    fn place(reader: &Reader) -> Cursor {
        Cursor {
            feed: reader.shared.id.clone(),
            revision: reader.at,
        }
    }

    use WorkloadStatus::{Running, Starting, Stopped};

    #[test]
    fn a_reader_hears_what_is_and_then_what_changes() {
        let (feed, readers) = feed();
        feed.reset(vec![Ok(state("a", Running)), Ok(state("b", Stopped))]);
        let mut all = reader(&readers, WatchFrom::Beginning);
        let mut now = reader(&readers, WatchFrom::Now);
        assert_eq!(told(&mut all), ["a running", "b stopped", "synced"]);
        assert_eq!(told(&mut now), ["synced"]);
        feed.tell(Ok(state("b", Starting)));
        feed.tell(Ok(state("a", Running)));
        feed.tell(Err(name("a")));
        feed.tell(Err(name("a")));
        for reader in [&mut all, &mut now] {
            assert_eq!(told(reader), ["b starting", "a gone"]);
        }
    }

    #[test]
    fn a_slow_reader_hears_the_last_of_each_and_costs_nothing() {
        let (feed, readers) = feed();
        feed.reset(Vec::new());
        let mut slow = reader(&readers, WatchFrom::Now);
        for _ in 0..10_000 {
            feed.tell(Ok(state("a", Starting)));
            feed.tell(Ok(state("a", Running)));
            feed.tell(Ok(state("b", Stopped)));
        }
        assert_eq!(feed.shared.history().changes.len(), 2);
        assert_eq!(told(&mut slow), ["synced", "b stopped", "a running"]);
    }

    #[test]
    fn a_cursor_goes_on_where_it_was() {
        let (feed, readers) = feed();
        feed.reset(vec![Ok(state("a", Running)), Ok(state("b", Running))]);
        let mut first = reader(&readers, WatchFrom::Beginning);
        assert_eq!(told(&mut first).len(), 3);
        let cursor = place(&first);
        drop(first);
        feed.tell(Ok(state("b", Stopped)));
        feed.tell(Err(name("a")));
        let mut again = reader(&readers, WatchFrom::Since(cursor));
        assert_eq!(told(&mut again), ["b stopped", "a gone", "synced"]);
    }

    #[test]
    fn the_cursor_of_somebody_else_begins_with_a_gap() {
        let (_other, foreign) = feed();
        let (feed, readers) = feed();
        feed.reset(vec![Ok(state("a", Running))]);
        let ahead = Cursor {
            revision: 99,
            ..place(&reader(&readers, WatchFrom::Now))
        };
        let foreign = Cursor {
            feed: foreign.shared.id.clone(),
            revision: 0,
        };
        for cursor in [foreign, ahead] {
            let mut reader = reader(&readers, WatchFrom::Since(cursor));
            assert_eq!(told(&mut reader), ["gap", "a running", "synced"]);
        }
    }

    #[test]
    fn who_is_behind_what_is_remembered_of_removals_hears_of_a_gap() {
        let (feed, readers) = feed();
        feed.reset(vec![Ok(state("stays", Running))]);
        let mut slow = reader(&readers, WatchFrom::Beginning);
        let mut quick = reader(&readers, WatchFrom::Now);
        let cursor = place(&quick);
        assert_eq!(told(&mut slow).len(), 2);
        told(&mut quick);
        for number in 0..REMOVALS + 10 {
            let text = format!("w{number}");
            feed.tell(Ok(state(&text, Running)));
            feed.tell(Err(name(&text)));
            assert_eq!(told(&mut quick), [format!("{text} gone")]);
        }
        assert_eq!(feed.shared.history().changes.len(), REMOVALS + 1);
        let mut late = reader(&readers, WatchFrom::Since(cursor));
        for reader in [&mut slow, &mut late] {
            assert_eq!(told(reader), ["gap", "stays running", "synced"]);
            feed.tell(Err(name("stays")));
            assert_eq!(told(reader), ["stays gone"]);
            feed.tell(Ok(state("stays", Running)));
            assert_eq!(told(reader), ["stays running"]);
        }
    }

    #[test]
    fn what_is_not_found_any_more_is_gone_and_readers_end_with_the_feed() {
        let (feed, readers) = feed();
        assert!(readers.clone().reader(WatchFrom::Now).now_or_never().is_none());
        feed.reset(vec![Ok(state("a", Running)), Ok(state("b", Running))]);
        let mut reader = reader(&readers, WatchFrom::Now);
        feed.fails("the disk is gone".into());
        let refused = readers.clone().reader(WatchFrom::Now).now_or_never().unwrap();
        assert!(crate::Error::to_string(&refused.unwrap_err()).contains("hear changes"));
        feed.reset(vec![Ok(state("b", Running)), Err(name("c"))]);
        assert_eq!(told(&mut reader), ["synced", "a gone"]);
        drop(feed);
        assert_eq!(reader.next().now_or_never(), Some(None));
    }
}
