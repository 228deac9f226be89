//! Disturbances that a test asks for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Error, Result, RuntimeKind};

/// The calls of a [`Runtime`](crate::Runtime) that can be disturbed and are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Call {
    /// `ping`.
    Ping,
    /// `deploy`.
    Deploy,
    /// `stop`.
    Stop,
    /// `remove`.
    Remove,
    /// `attach`.
    Attach,
    /// `inspect`.
    Inspect,
    /// `list`.
    List,
    /// `logs`.
    Logs,
    /// `events`.
    Events,
}

#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    down: bool,
    by_call: BTreeMap<Call, OfCall>,
}

#[derive(Debug, Default)]
struct OfCall {
    count: u64,
    delay: Duration,
    before: VecDeque<Error>,
    after: VecDeque<Error>,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether that was a change.
    pub(super) fn set_down(&self, down: bool) -> bool {
        std::mem::replace(&mut self.lock().down, down) != down
    }

    pub(super) fn before(&self, call: Call, error: Error) {
        self.lock()
            .by_call
            .entry(call)
            .or_default()
            .before
            .push_back(error);
    }

    pub(super) fn after(&self, call: Call, error: Error) {
        self.lock()
            .by_call
            .entry(call)
            .or_default()
            .after
            .push_back(error);
    }

    pub(super) fn delay(&self, call: Call, time: Duration) {
        self.lock().by_call.entry(call).or_default().delay = time;
    }

    pub(super) fn count(&self, call: Call) -> u64 {
        self.lock().by_call.get(&call).map_or(0, |of| of.count)
    }

    pub(super) async fn enter(&self, call: Call, runtime: &RuntimeKind) -> Result<()> {
        let delay = {
            let mut inner = self.lock();
            let of = inner.by_call.entry(call).or_default();
            of.count += 1;
            of.delay
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut inner = self.lock();
        if inner.down {
            return Err(Error::Unavailable {
                runtime: runtime.clone(),
                detail: "it was set down by the test".to_owned(),
                source: None,
            });
        }
        match inner.by_call.entry(call).or_default().before.pop_front() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    pub(super) fn leave(&self, call: Call) -> Option<Error> {
        self.lock().by_call.entry(call).or_default().after.pop_front()
    }
}
