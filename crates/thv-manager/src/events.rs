//! What embedders hear.

use thv_core::{WorkloadName, WorkloadStatus};

/// A change of a workload that a manager of this process supervises.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManagerEvent {
    /// The workload.
    pub name: WorkloadName,
    /// What it is now.
    pub status: WorkloadStatus,
    /// Why, in the words of the status file; may be empty.
    pub context: String,
}
