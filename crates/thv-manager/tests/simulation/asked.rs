//! What was asked for, as far as that is certain: the model that the machine is compared with, whatever its records say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// How a workload ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Is {
    Absent,
    Stopped,
    Running,
}

/// What each workload may be by what was asked of it. A verb that succeeded while no other one was under way leaves one
/// possibility; each other one adds its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<BTreeMap<&'static str, Of>>>);

#[derive(Debug)]
struct Of {
    may_be: BTreeSet<Is>,
    under_way: usize,
    begun: usize,
}

impl Default for Of {
    fn default() -> Self {
        Self {
            may_be: [Is::Absent].into(),
            under_way: 0,
            begun: 0,
        }
    }
}

impl Asked {
    /// A verb begins on `workload` that leads to `to`; `None` of one that wants nothing by itself.
    pub(crate) fn begin(&self, workload: &'static str, to: Option<Is>) -> Verb {
        let mut all = self.0.lock().unwrap();
        let of = all.entry(workload).or_default();
        of.begun += 1;
        of.under_way += 1;
        Verb {
            asked: self.clone(),
            workload,
            to,
            alone: of.under_way == 1,
            begun: of.begun,
            succeeded: false,
        }
    }

    pub(crate) fn may_be(&self, workload: &'static str) -> BTreeSet<Is> {
        let all = self.0.lock().unwrap();
        all.get(workload)
            .map_or([Is::Absent].into(), |of| of.may_be.clone())
    }
}

/// A verb under way. Dropped, it failed, or its process was killed.
pub(crate) struct Verb {
    asked: Asked,
    workload: &'static str,
    to: Option<Is>,
    alone: bool,
    begun: usize,
    succeeded: bool,
}

impl Verb {
    pub(crate) fn came_to<T, E>(mut self, result: &Result<T, E>) {
        self.succeeded = result.is_ok();
    }
}

impl Drop for Verb {
    fn drop(&mut self) {
        let mut all = self.asked.0.lock().unwrap();
        let of = all.entry(self.workload).or_default();
        of.under_way -= 1;
        let Some(to) = self.to else { return };
        let alone = self.alone && of.begun == self.begun;
        // A removal asks for a stop first.
        if !self.succeeded && to == Is::Absent {
            of.may_be.insert(Is::Stopped);
        }
        if self.succeeded && alone {
            // What may be gone is not there again for being stopped.
            of.may_be.retain(|is| to == Is::Stopped && *is == Is::Absent);
        }
        of.may_be.insert(to);
    }
}
