//! Files that are there whole or not at all.
//!
//! Written to a temporary file beside the target, synced, then renamed (or linked) to its name, and the folder is synced:
//! a reader sees the old bytes or the new ones, also after a crash. Files are 0600, and whose the folder is where root makes
//! them.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::{in_the_way, owner, spare, temporary};

pub use crate::temporary::sweep;

/// Most records and configurations are smaller.
pub(crate) const FIRST_READ: usize = 8 * 1024;

/// Creates `folder` and what is missing above it, with `mode`. One that is there is left as it is.
///
/// # Errors
/// `NotADirectory` where something else is in its place; `NotFound` for a link there that leads nowhere; whatever making it says.
pub fn create_folder(folder: &Path, mode: u32) -> io::Result<()> {
    let missing = owner::missing(folder);
    match DirBuilder::new().recursive(true).mode(mode).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match std::fs::metadata(folder) {
            Ok(there) if there.is_dir() => Ok(()),
            Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {
                Err(io::Error::new(gone.kind(), "a link in its place leads nowhere"))
            }
            // A circle of links.
            Err(error) => Err(error),
        },
        other => {
            owner::as_parents(&missing);
            other
        }
    }
}

/// Replaces the file at `path`, or creates it. `prefix` begins the temporary file's name. A folder in its place gives way
/// as in [`remove`]; a link is replaced, not followed. On a full disk it takes from what is [kept](spare::keep) for that in
/// the file's folder.
///
/// # Errors
/// Whatever writing, syncing and renaming say. Then the file is as it was, unless it was the folder that could not be synced.
pub fn replace(path: &Path, prefix: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    let file = match written(folder, prefix, bytes) {
        Err(error) if is_full(&error) => spare::filled(folder, prefix, bytes).ok_or(error)?,
        other => other?,
    };
    match file.persist(path) {
        Err(failed) if failed.error.kind() == io::ErrorKind::IsADirectory => {
            in_the_way::clear_folder(path)?;
            failed.file.persist(path).map_err(|error| error.error)?;
        }
        other => drop(other.map_err(|error| error.error)?),
    }
    sync(folder)
}

/// Creates the file at `path`.
///
/// # Errors
/// `AlreadyExists` when there is one; whatever writing, syncing and linking say.
pub fn create(path: &Path, prefix: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    let file = written(folder, prefix, bytes)?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    sync(folder)
}

/// Removes the file at `path`; `false` when there was none. A folder in its place goes too; one that is not empty is nobody's
/// to delete, and stays beside, as `<name>.corrupted`.
///
/// # Errors
/// Whatever removing and syncing say.
pub fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => in_the_way::clear_folder(path)?,
        Err(error) => return Err(error),
    }
    sync(folder_of(path)).map(|()| true)
}

/// Opens the file at `path` for reading; `None` when there is none. A pipe under a file's name holds no reader up.
///
/// # Errors
/// Whatever opening says.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    match std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
    {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bytes of the file at `path`; `None` when there is none.
///
/// # Errors
/// `FileTooLarge` beyond `limit` bytes; whatever opening and reading say.
pub fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    open(path)?.map(|file| read_all(file, limit)).transpose()
}

/// As [`open`], of a regular file alone.
///
/// # Errors
/// `InvalidInput` for anything else (a folder, a pipe, a device); whatever opening says.
pub fn open_regular(path: &Path) -> io::Result<Option<File>> {
    match open(path)? {
        Some(file) if !file.metadata()?.is_file() => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"))
        }
        opened => Ok(opened),
    }
}

/// As [`read`], of a regular file alone.
///
/// # Errors
/// Those of [`open_regular`] and [`read`].
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    open_regular(path)?.map(|file| read_all(file, limit)).transpose()
}

fn read_all(mut file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; FIRST_READ];
    let filled = fill(&mut file, limit, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads all of `file` to the beginning of `buffer`, which is not empty and grows as needed. Says how much it was.
pub(crate) fn fill(file: &mut File, limit: u64, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let most = usize::try_from(limit)
        .map_err(io::Error::other)?
        .saturating_add(1);
    let mut filled = 0;
    loop {
        // Of a file, a read that fills less than it might is the last one: small files take a single call.
        let end = buffer.len().min(most);
        match file.read(&mut buffer[filled..end]) {
            Ok(read) => {
                let room = end - filled;
                filled += read;
                if read < room {
                    return Ok(filled);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if filled == most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        buffer.resize((buffer.len() * 4).min(most), 0);
    }
}

/// Whether what an error says is that there is no space left.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn written(folder: &Path, prefix: &str, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = temporary::make(folder, prefix, |path| {
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    })?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
