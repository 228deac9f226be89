//! What the deploying process holds of an instance, and the task that collects it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thv_process::{Exit, ProcessHandle};
use thv_runtime::{EventKind, InstanceId};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::events::Events;
use crate::record::{Found, Record, Records};

/// The instances that this process deployed.
#[derive(Debug, Default)]
pub(crate) struct Owned(Mutex<BTreeMap<InstanceId, Child>>);

/// What is known of an instance by who deployed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Another process deployed it.
    NotOurs,
    /// It runs.
    Runs,
    /// It ended so.
    Ended(Exit),
}

/// A child of ours.
#[derive(Debug)]
pub(crate) struct Child {
    /// Standard input and output of a stdio server, until somebody attaches.
    pub(crate) streams: Option<(pipe::Sender, pipe::Receiver)>,
    /// How it ended.
    pub(crate) exit: watch::Receiver<Option<Exit>>,
}

impl Owned {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What we know of it as its parent.
    pub(crate) fn fate(&self, id: &InstanceId) -> Fate {
        match self.lock().get(id).map(|child| *child.exit.borrow()) {
            None => Fate::NotOurs,
            Some(None) => Fate::Runs,
            Some(Some(exit)) => Fate::Ended(exit),
        }
    }

    /// Closes the standard input that nobody attached to.
    pub(crate) fn close_streams(&self, id: &InstanceId) {
        if let Some(child) = self.lock().get_mut(id) {
            child.streams = None;
        }
    }

    /// Waits until a child of ours was collected.
    pub(crate) async fn collected(&self, id: &InstanceId) {
        let exit = self.lock().get(id).map(|child| child.exit.clone());
        if let Some(mut exit) = exit {
            // The sender gone means the same.
            let _ = exit.wait_for(Option::is_some).await;
        }
    }
}

/// How long what a server wrote last may take to be in its log.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Waits for the end of a child and of its log, tells it, and writes it into the record. Ends with the child.
pub(crate) fn collect(
    handle: Box<dyn ProcessHandle>,
    log: JoinHandle<()>,
    record: Record,
    records: Records,
    events: Arc<Events>,
) -> watch::Receiver<Option<Exit>> {
    let (tell, exit) = watch::channel(None);
    tokio::spawn(async move {
        let exit = handle.exited().await.unwrap_or_else(|error| {
            tracing::warn!(workload = %record.workload, %error, "cannot tell how a server ended");
            Exit::Unknown
        });
        let code = code(exit);
        // Whoever hears of the end looks for the reason in the log. A process that got away may still hold it open.
        let _ = tokio::time::timeout(LAST_WORDS, log).await;
        events.send(&record.workload, &record.id, EventKind::Exited { code });
        tell.send_replace(Some(exit));
        let written = async {
            let Some(locked) = records.lock_existing(&record.workload).await? else {
                return Ok(());
            };
            match locked.read()? {
                Found::Record(now) if now.id == record.id => {
                    let mut now = Arc::unwrap_or_clone(now);
                    now.exit_code = code;
                    locked.write(&now)
                }
                _ => Ok(()),
            }
        };
        if let Err(error) = written.await {
            tracing::warn!(workload = %record.workload, %error, "cannot record how a server ended");
        }
    });
    exit
}

/// An exit code as shells give it: 128 and the signal's number for one that a signal ended.
pub(crate) fn code(exit: Exit) -> Option<i64> {
    match exit {
        Exit::Code(code) => Some(code.into()),
        Exit::Signal(signal) => Some(128 + i64::from(signal)),
        Exit::Unknown => None,
    }
}
