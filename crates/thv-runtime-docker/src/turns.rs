//! One change of a workload's container at a time, in this process.
//!
//! An engine finishes what it was asked to create although the asking future was dropped. So a deployment runs in a task
//! of its own that undoes what it made when nobody waits for it any more, and whoever comes next waits for its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use thv_core::WorkloadName;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

type ByName = HashMap<WorkloadName, Weak<Turn<()>>>;

/// The turns of all workloads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<ByName>>);

impl Turns {
    /// Waits for the turn of this workload; it ends when the guard is dropped.
    pub(crate) async fn take(&self, name: &WorkloadName) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = turns.get(name).and_then(Weak::upgrade).unwrap_or_default();
            turns.retain(|_, turn| turn.strong_count() > 0);
            turns.insert(name.clone(), Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}
