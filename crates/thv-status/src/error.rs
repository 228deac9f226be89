//! What can go wrong with records.

use std::io;
use std::path::PathBuf;

use thv_core::WorkloadName;
use thv_files::atomic;

/// The result of status calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with records, keyed by what a caller does about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no record of the workload.
    #[error("there is no record of workload \"{name}\"")]
    NotFound {
        /// The workload.
        name: WorkloadName,
    },
    /// There is a record already.
    #[error("there is a record of workload \"{name}\" already")]
    Exists {
        /// The workload.
        name: WorkloadName,
    },
    /// Another claim, or none, is recorded: whoever asked owns the workload no longer. Nothing was written.
    #[error("the claim on workload \"{name}\" is lost")]
    ClaimLost {
        /// The workload.
        name: WorkloadName,
    },
    /// The change itself gave up when it saw what it was to work on. Nothing was written.
    #[error("the change of workload \"{name}\" was given up: somebody else went on")]
    Declined {
        /// The workload.
        name: WorkloadName,
    },
    /// Somebody else holds the lock that was asked for.
    #[error("workload \"{name}\" is busy: {detail}")]
    Conflict {
        /// The workload.
        name: WorkloadName,
        /// Who holds it and since when, as far as it is known.
        detail: String,
    },
    /// A record cannot be used. It is left as it is.
    #[error("the record {} cannot be used: {detail}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Locks do not work where the records are; without them nothing may be written.
    #[error("{} has no working file locks: keep XDG_STATE_HOME on a local disk", path.display())]
    NoLocks {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The disk is full. What was there before is unchanged.
    #[error("no space left to {action} {}: make room on its file system", path.display())]
    Full {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The operating system failed.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        if atomic::is_full(&source) {
            return Self::Full { action, path, source };
        }
        Self::Io { action, path, source }
    }

    /// Whether the same call may succeed later without a change by anybody.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Exists { .. } => "already_exists",
            Self::ClaimLost { .. } => "claim_lost",
            Self::Declined { .. } => "declined",
            Self::Conflict { .. } => "conflict",
            Self::Invalid { .. } => "invalid_record",
            Self::NoLocks { .. } => "no_locks",
            Self::Full { .. } => "disk_full",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => "denied",
            Self::Io { .. } => "io",
        }
    }
}
