//! What embedders hear: what workloads are, as it changes, whoever changes it.

use std::fmt;
use std::str::FromStr;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use thv_core::{WorkloadName, WorkloadStatus};

use crate::{Error, Manager, Result};

/// What a workload is by now, from its files and from whether its proxy lives; engines are not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkloadState {
    /// The workload.
    pub name: WorkloadName,
    /// What it is.
    pub status: WorkloadStatus,
    /// Why, in the words of the status file; may be empty.
    pub context: String,
    /// Whether it should run.
    pub should_run: bool,
}

/// Something that a [`Watch`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// This is what the workload is now. What it was in between, if that was short or the listener slow, is not told.
    Changed(WorkloadState),
    /// It is not there any more.
    Removed(WorkloadName),
    /// What changed before is not known: forget everything. All workloads that there are follow, then `Synced`.
    Gap,
    /// What was asked for is told; from here on changes are, as they come.
    Synced,
}

/// A place in the history that one manager hears. As text it can be kept and handed back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    pub(crate) feed: String,
    pub(crate) revision: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.feed, self.revision)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.rsplit_once('-').and_then(|(feed, revision)| {
            let known = feed.len() == 32 && feed.bytes().all(|byte| byte.is_ascii_hexdigit());
            let revision = revision.parse().ok().filter(|_| known)?;
            Some(Self {
                feed: feed.to_owned(),
                revision,
            })
        });
        parsed.ok_or_else(|| Error::Invalid {
            what: "cursor".into(),
            detail: format!("{text:?} is none that a watch gave"),
        })
    }
}

/// Where a watch begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WatchFrom {
    /// With what all workloads are now.
    #[default]
    Beginning,
    /// With the next change.
    Now,
    /// With what changed since this cursor, as it is now. The cursor of another manager, or of one that has ended, and one
    /// that is too old, begin with a [`Gap`](WatchEvent::Gap).
    Since(Cursor),
}

/// An event, and the cursor that goes on after it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watched {
    /// Hand it back as [`WatchFrom::Since`] to go on here.
    pub cursor: Cursor,
    /// What happened.
    pub event: WatchEvent,
}

/// Changes as they come. It ends with its manager, or with the async runtime that it was made in.
pub type Watch = BoxStream<'static, Watched>;

impl Manager {
    /// Tells what becomes of workloads: by this manager, by other processes, ToolHive among them, and by the death of
    /// a proxy.
    ///
    /// It is told what workloads are, not each step on the way: a listener that is slow, or away for a while, hears each
    /// workload that changed once, as it is then. Nothing is queued for it and nobody waits for it. All watches of a manager,
    /// and its supervisors, share one subscription to the state folder; nothing polls. Cancel-safe.
    ///
    /// # Errors
    /// What keeps the state folder from being read.
    pub async fn watch(&self, from: WatchFrom) -> Result<Watch> {
        let reader = self.readers().reader(from).await?;
        Ok(futures_util::stream::unfold(reader, |mut reader| async move {
            let item = reader.next().await?;
            Some((item, reader))
        })
        .boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_through_text() {
        let cursor = Cursor {
            feed: "0123456789abcdef0123456789abcdef".into(),
            revision: 42,
        };
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        for text in [
            "",
            "-",
            "42",
            "x-42",
            "0123456789abcdef0123456789abcdef-",
            "0123456789abcdef0123456789abcdef--1",
        ] {
            assert_eq!(text.parse::<Cursor>().unwrap_err().code(), "invalid", "{text:?}");
        }
    }
}
