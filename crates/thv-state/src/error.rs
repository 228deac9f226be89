//! What can go wrong with documents.

use std::io;
use std::path::{Path, PathBuf};

use thv_files::atomic;

use crate::{DocumentKind, DocumentName};

/// The result of store calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with documents, keyed by what a caller does about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A document of that name is there already.
    #[error("{} \"{name}\" already exists", kind.noun())]
    Exists {
        /// Its kind.
        kind: DocumentKind,
        /// Its name.
        name: DocumentName,
    },
    /// What is stored is not such a document. It is left as it is.
    #[error("{} \"{name}\" cannot be used: {}{detail}; {}", kind.noun(), at(place.as_deref()), kind.remedy())]
    Invalid {
        /// Its kind.
        kind: DocumentKind,
        /// Its name.
        name: DocumentName,
        /// Its file, if it is one.
        place: Option<PathBuf>,
        /// What is wrong with it.
        detail: String,
    },
    /// The operating system refuses for lack of permission.
    #[error("not allowed to {action} {}", path.display())]
    Denied {
        /// What was tried.
        action: &'static str,
        /// On what.
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

fn at(place: Option<&Path>) -> String {
    place.map_or_else(String::new, |path| format!("{}: ", path.display()))
}

impl Error {
    /// Sorts an answer of the operating system.
    pub fn from_io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { action, path, source }
            }
            _ if atomic::is_full(&source) => Self::Full { action, path, source },
            _ => Self::Io { action, path, source },
        }
    }

    /// Whether the same call may succeed later without a change by anybody.
    pub fn is_retryable(&self) -> bool {
        use io::ErrorKind as K;
        match self {
            // What stands in the way stays there.
            Self::Io { source, .. } => !matches!(
                source.kind(),
                K::IsADirectory
                    | K::NotADirectory
                    | K::DirectoryNotEmpty
                    | K::InvalidFilename
                    | K::InvalidInput
                    | K::AlreadyExists
                    | K::NotFound
                    | K::Unsupported
            ),
            _ => false,
        }
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "already_exists",
            Self::Invalid { .. } => "invalid_document",
            Self::Denied { .. } => "denied",
            Self::Full { .. } => "disk_full",
            Self::Io { .. } => "io",
        }
    }
}
