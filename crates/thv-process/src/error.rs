//! What can go wrong, keyed by what a caller does about it.

use std::io;

/// The result of this crate's functions.
pub type Result<T, E = ProcessError> = std::result::Result<T, E>;

/// Why something about a process could not be done or found out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The operating system does not allow it to this user.
    #[error("not allowed to {what}")]
    Denied {
        /// What was tried, on what.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A program to start is not there.
    #[error("cannot start {program}: no such program or working directory")]
    NotFound {
        /// The program's path.
        program: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The caller, or the other end of a hand-over, gave something that cannot be used.
    #[error("{what}")]
    Invalid {
        /// What is wrong with what.
        what: String,
    },
    /// The other end of a hand-over is gone, or said nothing in time.
    #[error("{what}")]
    NoAnswer {
        /// What was waited for.
        what: String,
    },
    /// The operating system could not do it now.
    #[error("could not {what}")]
    Unavailable {
        /// What was tried, on what.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// This operating system has no implementation.
    #[error("processes are not supported on {os} yet")]
    Unsupported {
        /// The operating system's name.
        os: &'static str,
    },
}

impl ProcessError {
    /// Sorts an answer of the operating system to `what` (a verb and its object: "signal process 7").
    pub(crate) fn from_io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let (what, source) = (what.into(), source.into());
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::Denied { what, source }
        } else {
            Self::Unavailable { what, source }
        }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    /// Whether the same call may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// A stable name of the kind, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied { .. } => "process_denied",
            Self::NotFound { .. } => "process_program_not_found",
            Self::Invalid { .. } => "process_invalid",
            Self::NoAnswer { .. } => "process_no_answer",
            Self::Unavailable { .. } => "process_unavailable",
            Self::Unsupported { .. } => "process_unsupported",
        }
    }
}
