//! What a read finds of one workload.

use std::sync::Arc;

use jiff::Timestamp;
use thv_core::{WorkloadName, WorkloadStatus};

use crate::foreign::desired_of;
use crate::{Companion, Desired, ForeignMeaning, Reading, StatusFile};

/// What a read finds of one workload. Nothing was written for it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Snapshot {
    /// The name as its files spell it.
    pub raw_name: String,
    /// The name, if it is one that a workload can have today.
    pub name: Option<WorkloadName>,
    /// The status that counts: the file's, or the record's where a crash came between the two.
    pub status: Option<StatusFile>,
    /// Why the status file or the record cannot be used, if it cannot.
    pub damage: Option<String>,
    /// The companion record; what a list keeps of it is shared.
    pub companion: Option<Arc<Companion>>,
    /// Whose write the status file is.
    pub reading: Reading,
    /// Whether a stop was asked for since somebody else wrote the status file, which tells what was before.
    pub overruled: bool,
    /// Whether somebody supervises it now.
    pub owner: OwnerState,
    /// A PID file of ToolHive's, never believed by itself.
    pub pid_file: Option<PidFile>,
}

/// Whether `.owner` is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnerState {
    /// It is held.
    Alive,
    /// Nobody holds it.
    Dead,
}

/// A PID file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidFile {
    /// The pid in it.
    pub pid: u32,
    /// When it was written.
    pub modified: Timestamp,
}

impl Snapshot {
    /// What the user wants, foreign writes taken in.
    pub fn desired(&self) -> Desired {
        match &self.companion {
            Some(companion) => self.reading.desired(companion.desired),
            None => desired_of(self.status.as_ref()),
        }
    }

    /// Whether another program started it after it was stopped here, as far as files tell: its status file says that it runs
    /// or is starting, and in which process, and nobody has asked for anything since. Whether that process lives is not
    /// looked at.
    pub fn was_started_elsewhere(&self) -> bool {
        let resting = self
            .companion
            .as_ref()
            .is_some_and(|companion| companion.pending.is_none() && companion.previous.is_none());
        resting
            && self.owner == OwnerState::Dead
            && self.reading == Reading::Foreign(ForeignMeaning::MayRun)
            && !self.overruled
            && self.status.as_ref().is_some_and(|file| {
                matches!(file.status, WorkloadStatus::Running | WorkloadStatus::Starting)
                    && file.process_id > 0
            })
    }
}
