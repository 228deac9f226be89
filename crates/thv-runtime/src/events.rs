//! What happens to instances.

use std::collections::BTreeSet;

use thv_core::WorkloadName;

use crate::InstanceId;

/// Which events are wanted. An engine is asked for these alone where it can be: whoever listens to one workload is not to be
/// woken by what happens to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only those of these workloads; empty is all.
    pub names: BTreeSet<WorkloadName>,
}

impl EventFilter {
    /// The events of one workload.
    pub fn of(name: WorkloadName) -> Self {
        Self {
            names: BTreeSet::from([name]),
        }
    }

    /// Whether an event of `workload` passes.
    pub fn accepts(&self, workload: &str) -> bool {
        self.names.is_empty() || self.names.contains(workload)
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuntimeEvent {
    /// The workload, as the labels name it; empty for events of the subscription itself.
    pub workload: String,
    /// The instance, where the event is about one.
    pub instance: Option<InstanceId>,
    /// What happened.
    pub kind: EventKind,
}

impl RuntimeEvent {
    /// What happened to an instance of `workload`.
    pub fn new(workload: impl Into<String>, instance: Option<InstanceId>, kind: EventKind) -> Self {
        Self {
            workload: workload.into(),
            instance,
            kind,
        }
    }

    /// An event of the subscription itself.
    pub fn of_stream(kind: EventKind) -> Self {
        Self::new("", None, kind)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// The subscription stands: what happens from now on is delivered.
    Synced,
    /// The subscription was interrupted: look for yourself, then go on.
    Gap,
    /// An instance was made.
    Created,
    /// An instance was started.
    Started,
    /// The program of an instance is dead, which its engine has not said yet. [`Exited`](Self::Exited) follows once it has; until
    /// then how it ended is not known, and `inspect` may say that it runs. Only where it can be known so early.
    Ending,
    /// An instance ended.
    Exited {
        /// Its exit code, where known.
        code: Option<i64>,
    },
    /// An instance ran out of its memory limit.
    OutOfMemory,
    /// Somebody has paused an instance: it keeps what it has, and does nothing until it is resumed.
    Paused,
    /// A paused instance goes on.
    Resumed,
    /// Something that an instance needs has ended: look at [`impaired`](crate::Instance::impaired).
    Impaired,
    /// An instance was removed.
    Removed,
}
