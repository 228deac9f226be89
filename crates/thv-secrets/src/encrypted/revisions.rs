//! The counts of changes, in a file beside the encrypted one, which has no room for them.
//!
//! Both are written under the lock of the secrets, the counts first. They name the nonce of the secrets before and after
//! that change: so a change that did not come about is told, and one by a program that does not count.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thv_files::atomic;

use super::NAME;
use super::file::{FOLDER_MODE, Nonce};
use crate::{Result, Revisions, SecretError};

const VERSION: u32 = 1;
/// More than [`MAX_NAMES`] of the longest names take.
const MAX_SIZE: u64 = 64 * 1024 * 1024;
/// More names than that are forgotten: those of secrets that were deleted stay, so that each deletion is told.
const MAX_NAMES: usize = 20_000;
/// What is read while somebody writes is read again.
const READS: usize = 5;

/// What a change did to its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The secret has the value that it had.
    None,
    /// It has another one, or none any more.
    Changed,
}

/// What is in the file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Counts {
    version: u32,
    /// The nonce of the secrets before the last change; none: there were no secrets.
    before: Option<Nonce>,
    /// The nonce after it.
    after: Option<Nonce>,
    /// Which foreign change was the last one that was seen.
    foreign: u64,
    /// How many changes there were.
    changes: u64,
    /// At which of them each secret changed.
    secrets: std::collections::BTreeMap<String, u64>,
    /// What the last change was about, and what its count was.
    last: Option<(String, Option<u64>)>,
}

impl Counts {
    /// As they are while the secrets have this nonce.
    fn seen_with(mut self, nonce: Option<Nonce>) -> Self {
        if nonce == self.after {
            return self;
        }
        if nonce != self.before {
            self.foreign = nonce.map_or(0, Nonce::number);
            return self;
        }
        // The last change did not come about.
        if let Some((name, count)) = self.last.take() {
            match count {
                Some(count) => drop(self.secrets.insert(name, count)),
                None => drop(self.secrets.remove(&name)),
            }
        }
        self
    }

    fn changed(mut self, before: Option<Nonce>, after: Nonce, name: &str, effect: Effect) -> Self {
        self = self.seen_with(before);
        self.version = VERSION;
        (self.before, self.after) = (before, Some(after));
        self.last = Some((name.to_owned(), self.secrets.get(name).copied()));
        self.changes = self.changes.saturating_add(1);
        if effect == Effect::Changed {
            self.secrets.insert(name.to_owned(), self.changes);
        }
        if self.secrets.len() > MAX_NAMES {
            // From here on any secret may have changed.
            self.secrets.clear();
            (self.foreign, self.last) = (after.number(), None);
        }
        self
    }
}

/// Where the counts are. All calls block.
#[derive(Debug, Clone)]
pub(super) struct RevisionsFile {
    path: PathBuf,
}

impl RevisionsFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The counts, where `nonce` tells the nonce of the secrets now.
    pub(super) fn read(&self, nonce: impl Fn() -> Result<Option<Nonce>>) -> Result<Revisions> {
        let mut before = nonce()?;
        let mut counts = self.counts()?;
        for _ in 1..READS {
            let after = nonce()?;
            if after == before {
                break;
            }
            before = after;
            counts = self.counts()?;
        }
        let Counts { foreign, secrets, .. } = counts.seen_with(before);
        Ok(Revisions {
            store: foreign,
            secrets,
        })
    }

    /// Counts a change that is about to be made, under the lock of the secrets.
    pub(super) fn count(
        &self,
        before: Option<Nonce>,
        after: Nonce,
        name: &str,
        effect: Effect,
    ) -> Result<()> {
        let counts = self.counts()?.changed(before, after, name, effect);
        let bytes = serde_json::to_vec(&counts).map_err(|error| self.io("write", error.into()))?;
        self.write(&bytes).map_err(|source| self.io("write", source))
    }

    fn counts(&self) -> Result<Counts> {
        let read = atomic::read_regular(&self.path, MAX_SIZE).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidInput => self.damaged("it is not a file"),
            io::ErrorKind::FileTooLarge => self.damaged("it is too large"),
            _ => self.io("read", source),
        })?;
        let Some(bytes) = read else {
            return Ok(Counts::default());
        };
        let counts: Counts = serde_json::from_slice(&bytes).map_err(|_| {
            self.damaged(
                "it has no counts of secrets; without it, all that is lost is which servers have old ones",
            )
        })?;
        if counts.version != VERSION {
            return Err(self.damaged("a newer version wrote it"));
        }
        Ok(counts)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        atomic::create_folder(folder, FOLDER_MODE)?;
        atomic::replace(&self.path, ".secret-revisions.", bytes)
    }

    fn damaged(&self, detail: &'static str) -> SecretError {
        SecretError::Damaged {
            path: self.path.clone(),
            detail,
        }
    }

    fn io(&self, action: &str, source: io::Error) -> SecretError {
        let text = format!("cannot {action} {}: {source}", self.path.display());
        SecretError::Unavailable {
            provider: NAME,
            source: io::Error::new(source.kind(), text).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(first: u8) -> Nonce {
        Nonce::from([first; 12])
    }

    fn set(counts: Counts, before: Option<u8>, after: u8, name: &str) -> Counts {
        counts.changed(before.map(nonce), nonce(after), name, Effect::Changed)
    }

    #[test]
    fn a_change_that_did_not_come_about_counts_nothing() {
        let once = set(Counts::default(), None, 1, "a");
        let twice = set(once.clone(), Some(1), 2, "a");
        assert_eq!(twice.clone().seen_with(Some(nonce(2))).secrets["a"], 2);
        assert_eq!(twice.clone().seen_with(Some(nonce(1))).secrets["a"], 1);
        // The next change begins with what is there, and no count is used twice.
        let thrice = set(twice, Some(1), 3, "b");
        assert_eq!(
            (thrice.secrets["a"], thrice.secrets["b"], thrice.foreign),
            (1, 3, 0)
        );
        assert!(once.seen_with(None).secrets.is_empty());
    }

    #[test]
    fn another_programs_change_is_another_number_each_time() {
        let counts = set(Counts::default(), None, 1, "a");
        let foreign = |of: u8| counts.clone().seen_with(Some(nonce(of))).foreign;
        assert_eq!(foreign(1), 0);
        assert_ne!(foreign(8), 0);
        assert_ne!(foreign(8), foreign(9));
        // It is still the last one after changes of ours.
        let after = set(counts.clone(), Some(8), 2, "b").seen_with(Some(nonce(2)));
        assert_eq!(after.foreign, foreign(8));
    }

    #[test]
    fn names_are_bounded_and_what_is_forgotten_may_have_changed() {
        let mut counts = set(Counts::default(), None, 1, "a");
        counts.secrets = (0..MAX_NAMES as u64).map(|n| (format!("name-{n}"), n)).collect();
        let after = set(counts, Some(1), 2, "one more");
        assert!(after.secrets.is_empty());
        assert_ne!(after.seen_with(Some(nonce(2))).foreign, 0);
    }

    #[test]
    fn the_same_value_is_no_change() {
        let counts = set(Counts::default(), None, 1, "a");
        let same = counts.changed(Some(nonce(1)), nonce(2), "a", Effect::None);
        assert_eq!(same.seen_with(Some(nonce(2))).secrets["a"], 1);
    }
}
