//! File locks. The kernel frees them when their process dies; nobody judges one by a pid.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use thv_state::atomic;

/// Opens the lock file at `path`, creating it, and tries to lock it. `None`: somebody else holds it.
///
/// A holder may unlink the file before it releases the lock: then the lock that was got is on a file that nobody else will
/// ever see, and it is tried again.
pub(crate) fn try_exclusive(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path)? => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether somebody holds the lock at `path`. Touches nothing: an absent file is held by nobody and stays absent.
pub(crate) fn is_held(path: &Path) -> io::Result<bool> {
    match atomic::open(path)? {
        Some(file) => is_file_held(&file),
        None => Ok(false),
    }
}

/// Whether somebody holds the lock of `file`.
pub(crate) fn is_file_held(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Never truncated: a lock file has no content.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok(there.ino() == ours.ino() && there.dev() == ours.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
