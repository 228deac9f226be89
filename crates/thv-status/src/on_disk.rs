//! The bytes of one file, and what is in its place where there is none.

use std::io;
use std::path::{Path, PathBuf};

use thv_core::gojson;
use thv_files::{atomic, why_no_file};

use crate::{Companion, Error, Result};

/// The bytes at `path`, at most `limit` of them; `None` when there is no file.
pub(crate) fn bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    atomic::read(path, limit).map_err(|error| unread(path, limit, error))
}

/// What is at a path.
pub(crate) enum FileBytes {
    None,
    Some(Vec<u8>),
    /// What can never be read, and why: it is made anew by the next verb.
    NoFile(String),
}

pub(crate) fn file_bytes(path: &Path, limit: u64) -> Result<FileBytes> {
    match atomic::read(path, limit) {
        Ok(Some(bytes)) => Ok(FileBytes::Some(bytes)),
        Ok(None) => Ok(FileBytes::None),
        Err(error) => match why_no_file(path, &error) {
            Some(why) => Ok(FileBytes::NoFile(why)),
            None => Err(unread(path, limit, error)),
        },
    }
}

pub(crate) fn unread(path: &Path, limit: u64, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Error::Invalid {
            path: path.to_owned(),
            detail: format!("it is larger than {limit} bytes"),
        },
        _ => Error::io("read", path, error),
    }
}

/// Why a record cannot be used.
pub(crate) enum Unusable {
    /// It is no record any more: a verb makes it anew from what else is known.
    Damaged(String),
    /// A newer program wrote it: nothing of it may be lost.
    Newer(String),
}

impl Unusable {
    /// In words; an error where nothing may be made of it.
    pub(crate) fn damage(self, path: PathBuf) -> Result<String> {
        match self {
            Self::Damaged(detail) => Ok(damage(&path, &detail)),
            Self::Newer(detail) => Err(Error::Invalid { path, detail }),
        }
    }
}

/// What is wrong with a record or a status file, and what becomes of it.
pub(crate) fn damage(path: &Path, why: &str) -> String {
    format!(
        "{}: {why}; the next command that changes the workload makes it anew",
        path.display()
    )
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Companion, Unusable> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let newer = |version| {
        Unusable::Newer(format!(
            "it has version {version}, which a newer program wrote: use that one"
        ))
    };
    match serde_json::from_slice::<Companion>(bytes) {
        Ok(companion) if companion.version > Companion::VERSION => Err(newer(companion.version)),
        Ok(companion) => Ok(companion),
        Err(error) => match serde_json::from_slice(bytes) {
            Ok(Version { version }) if version > Companion::VERSION => Err(newer(version)),
            _ => Err(Unusable::Damaged(gojson::trouble(&error))),
        },
    }
}
