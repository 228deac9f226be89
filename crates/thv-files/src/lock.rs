//! File locks. The kernel frees them when their process dies; nobody judges one by a pid.
//!
//! A lock is a regular file. A link under its name is never followed, and a folder is never locked: either is taken out of
//! the way by whoever wants the lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::{atomic, owner};

/// How often a lock is tried again whose holder is not waited for: it tells nobody that it is free.
const AGAIN: Duration = Duration::from_millis(20);

/// Opens the lock file at `path`, creating it, and tries to lock it. `None`: somebody else holds it.
///
/// A holder may unlink the file before it releases the lock: then the lock that was got is on a file that nobody else will
/// ever see, and it is tried again.
///
/// # Errors
/// Whatever opening and locking say.
pub fn try_exclusive(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = open(path, true)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path)? => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Tries for `patience` to get the lock at `path`, as [`try_exclusive`] does once. `None`: somebody else holds it still.
///
/// # Errors
/// Whatever opening and locking say.
pub fn exclusive_within(path: &Path, patience: Duration) -> io::Result<Option<File>> {
    let end = Instant::now() + patience;
    loop {
        let locked = try_exclusive(path)?;
        if locked.is_some() || Instant::now() >= end {
            return Ok(locked);
        }
        std::thread::sleep(AGAIN);
    }
}

/// Waits for the lock at `path`. With `create` its file is made where there is none; otherwise that is `None`. Blocks for as
/// long as somebody holds it.
///
/// # Errors
/// Whatever opening and locking say.
pub fn exclusive(path: &Path, create: bool) -> io::Result<Option<File>> {
    loop {
        let file = match open(path, create) {
            Err(error) if !create && error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        file.lock()?;
        if is_at(&file, path)? {
            return Ok(Some(file));
        }
    }
}

/// Whether somebody holds the lock at `path`. Touches nothing: an absent file is held by nobody and stays absent.
///
/// # Errors
/// Whatever opening and locking say.
pub fn is_held(path: &Path) -> io::Result<bool> {
    is_opened_held(atomic::open(path))
}

/// Whether somebody holds the lock that opening its file for reading gave.
///
/// # Errors
/// Whatever opening and locking say.
pub fn is_opened_held(opened: io::Result<Option<File>>) -> io::Result<bool> {
    match opened {
        Ok(None) => Ok(false),
        Ok(Some(file)) => match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        },
        Err(error) if is_no_lock(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    match open_file(path, create) {
        Err(error) if is_no_lock(&error) => {
            clear_way(path)?;
            open_file(path, create)
        }
        other => other,
    }
}

fn open_file(path: &Path, create: bool) -> io::Result<File> {
    // For both: a pipe is opened at once then. Never truncated: a lock file has no content.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    owner::as_folder(&file, path.parent().unwrap_or(Path::new(".")));
    Ok(file)
}

/// Whether there is something that no lock file can be: a folder, a link, a socket.
fn is_no_lock(error: &io::Error) -> bool {
    let known = [Errno::LOOP, Errno::ISDIR, Errno::NXIO].map(|it| Some(it.raw_os_error()));
    known.contains(&error.raw_os_error())
}

/// Takes what is no lock file out of the way. One process at a time does, under a lock of the folder: another one would
/// take the file away that the first has made and locked by then.
fn clear_way(path: &Path) -> io::Result<()> {
    let folder = File::open(path.parent().unwrap_or(Path::new(".")))?;
    folder.lock()?;
    match std::fs::symlink_metadata(path) {
        Ok(about) if !about.is_file() => atomic::remove(path).map(drop),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether this file is the one at `path`.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok(there.ino() == ours.ino() && there.dev() == ours.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// One of each kind that no lock file is, with what a link leads to.
    fn oddities(folder: &Path) -> (Vec<PathBuf>, PathBuf) {
        let at = |name: &str| folder.join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::create_dir(at("full")).unwrap();
        fs::write(at("full/note"), "kept").unwrap();
        fs::write(at("elsewhere"), "theirs").unwrap();
        symlink(at("elsewhere"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        symlink("circle", at("circle")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
        let names = ["folder", "full", "link", "dangling", "circle", "socket"];
        (names.map(at).into(), at("nowhere"))
    }

    #[test]
    fn what_is_no_lock_file_is_held_by_nobody_and_gives_way_to_one() {
        for wait in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let (paths, nowhere) = oddities(folder.path());
            for path in &paths {
                assert!(!is_held(path).unwrap(), "{}", path.display());
                let lock = if wait {
                    exclusive(path, true)
                } else {
                    try_exclusive(path)
                };
                let lock = lock.unwrap().unwrap();
                assert!(is_held(path).unwrap(), "{}", path.display());
                assert!(try_exclusive(path).unwrap().is_none());
                drop(lock);
            }
            assert!(!nowhere.exists(), "a link was followed");
            assert_eq!(fs::read(folder.path().join("elsewhere")).unwrap(), b"theirs");
            assert_eq!(
                fs::read(folder.path().join("full.corrupted/note")).unwrap(),
                b"kept"
            );
        }
    }

    #[test]
    fn where_no_file_is_to_be_made_none_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(exclusive(&path, false).unwrap().is_none());
        assert!(!path.exists());
    }

    /// Each of them finds the folder; only one may take it away, and only one gets the lock.
    #[test]
    fn who_clears_the_way_takes_no_lock_away_from_another() {
        for _ in 0..50 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("lock");
            fs::create_dir(&path).unwrap();
            let taken = std::thread::scope(|scope| {
                let all: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| try_exclusive(&path).unwrap()))
                    .collect();
                all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
            });
            assert_eq!(taken.iter().flatten().count(), 1);
        }
    }
}
