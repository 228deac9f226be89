//! One change of a workload's container at a time, in this process.
//!
//! An engine finishes what it was asked for although the asking future was dropped. So each change runs in a task of its
//! own that keeps its turn to the end, and whoever comes next waits for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use thv_core::WorkloadName;
use thv_runtime::Result;
use tokio::sync::{Mutex as Lock, OwnedMutexGuard, watch};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use crate::engine::Engine;
use crate::error::EngineError;

/// The turns of all workloads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<WorkloadName, Weak<Queue>>>>);

/// Those who want to change one workload's container.
#[derive(Debug, Default)]
struct Queue {
    lock: Arc<Lock<()>>,
    /// When somebody who waits wants the container to be down.
    hurry: watch::Sender<Option<Instant>>,
}

/// The turn of one of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    queue: Arc<Queue>,
    _lock: OwnedMutexGuard<()>,
}

impl Turns {
    /// Waits for the turn of this workload.
    pub(crate) async fn take(&self, name: &WorkloadName) -> Turn {
        Turn::after(self.queue(name)).await
    }

    /// The turn of this workload, if nobody has it.
    pub(crate) fn try_take(&self, name: &WorkloadName) -> Option<Turn> {
        let queue = self.queue(name);
        let lock = Arc::clone(&queue.lock).try_lock_owned().ok()?;
        Some(Turn::new(queue, lock))
    }

    /// Waits for the turn of this workload; a stop that has it kills the server at `end`, if not earlier.
    pub(crate) async fn take_until(&self, name: &WorkloadName, end: Instant) -> Turn {
        let queue = self.queue(name);
        queue
            .hurry
            .send_modify(|hurry| *hurry = Some(hurry.map_or(end, |earlier| earlier.min(end))));
        Turn::after(queue).await
    }

    fn queue(&self, name: &WorkloadName) -> Arc<Queue> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get(name).and_then(Weak::upgrade).unwrap_or_default();
        queues.retain(|_, queue| queue.strong_count() > 0);
        queues.insert(name.clone(), Arc::downgrade(&queue));
        queue
    }
}

impl Turn {
    async fn after(queue: Arc<Queue>) -> Self {
        let lock = Arc::clone(&queue.lock).lock_owned().await;
        Self::new(queue, lock)
    }

    fn new(queue: Arc<Queue>, lock: OwnedMutexGuard<()>) -> Self {
        // Meant for whoever had the turn before.
        queue.hurry.send_replace(None);
        Self { queue, _lock: lock }
    }

    /// Comes when somebody who waits for this turn wants the container to be down; perhaps never.
    pub(crate) async fn hurried(&self) {
        let mut wishes = self.queue.hurry.subscribe();
        loop {
            let wish = *wishes.borrow_and_update();
            let changed = wishes.changed();
            match wish {
                None => drop(changed.await),
                Some(end) => tokio::select! {
                    () = sleep_until(end) => return,
                    _ = changed => {}
                },
            }
        }
    }
}

/// Does `work` to its end, also when nobody waits for it any more.
pub(crate) async fn to_the_end<T: Send + 'static>(
    engine: &Engine,
    verb: &str,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work.in_current_span())
        .await
        .unwrap_or_else(|ended| Err(engine.error(EngineError::Broken(ended.into()), verb)))
}
