//! ToolHive's lock on the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long ToolHive waits too.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is tried again: a lock tells nobody that it is free.
const AGAIN: Duration = Duration::from_millis(20);

/// The lock, while it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Takes the lock at `path`; `None` when somebody else keeps it.
pub(crate) fn take(path: &Path) -> io::Result<Option<Lock>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            // For both: a pipe in its place would keep a mere writer waiting for a reader, deaf to every signal.
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            // Whoever held it may have removed it: then it is nobody's.
            Ok(()) if is_there(&file, path)? => return Ok(Some(Lock { _file: file })),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        thread::sleep(AGAIN);
    }
}

fn is_there(file: &File, path: &Path) -> io::Result<bool> {
    let mine = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok(there.ino() == mine.ino() && there.dev() == mine.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
