//! What can go wrong with the configuration file.

use std::io;
use std::path::PathBuf;

/// The result of reading or changing the configuration file.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with the configuration file, keyed by what a caller does about it. The file is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not what it should be. Its values are not shown.
    #[error("the configuration file {} is invalid: {detail}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        detail: String,
    },
    /// Somebody else is changing the file.
    #[error("the configuration file {} is being changed by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot {action} the configuration file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether the same call may succeed later without a change by anybody.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "config_invalid",
            Self::Busy { .. } => "config_busy",
            Self::Io { .. } => "config_io",
        }
    }
}
