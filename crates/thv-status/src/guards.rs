//! Locks that are held. Dropping one releases it.

use std::any::Any;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use thv_core::WorkloadName;

type Held = Arc<dyn Any + Send + Sync>;

/// The lock of a changing verb on one workload.
pub struct OpGuard {
    name: WorkloadName,
    held: Held,
}

impl OpGuard {
    /// For implementors: `held` releases the lock when it is dropped.
    pub fn new(name: WorkloadName, held: impl Any + Send + Sync) -> Self {
        Self {
            name,
            held: Arc::new(held),
        }
    }

    /// The workload.
    pub fn name(&self) -> &WorkloadName {
        &self.name
    }

    /// What holds the lock as long as it lives: for work that cannot be cancelled once it has begun.
    pub fn held(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.held)
    }

    /// Keeps the lock as long as work goes on that cannot be cancelled.
    pub(crate) fn share(&self) -> Self {
        Self {
            name: self.name.clone(),
            held: Arc::clone(&self.held),
        }
    }
}

impl fmt::Debug for OpGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpGuard")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The lock of a workload's supervisor: as long as it is held, the supervisor is alive.
///
/// On disk it is a descriptor with a `flock(2)`, which can be handed to another process and then holds there.
pub struct OwnerGuard {
    name: WorkloadName,
    held: HeldOwner,
}

enum HeldOwner {
    Descriptor(OwnedFd),
    Other { _held: Held },
}

impl OwnerGuard {
    /// For implementors without descriptors: `held` releases the lock when it is dropped.
    pub fn new(name: WorkloadName, held: impl Any + Send + Sync) -> Self {
        Self {
            name,
            held: HeldOwner::Other {
                _held: Arc::new(held),
            },
        }
    }

    /// A locked descriptor, taken here or received from another process.
    pub fn from_fd(name: WorkloadName, descriptor: OwnedFd) -> Self {
        Self {
            name,
            held: HeldOwner::Descriptor(descriptor),
        }
    }

    /// The locked descriptor, to be handed to another process; none for locks in memory.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.held {
            HeldOwner::Descriptor(descriptor) => Some(descriptor.as_fd()),
            HeldOwner::Other { .. } => None,
        }
    }

    /// The workload.
    pub fn name(&self) -> &WorkloadName {
        &self.name
    }
}

impl fmt::Debug for OwnerGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerGuard")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
