//! Keeping a log small that another process writes through a descriptor of its own.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// When a log is rotated, and how much of it is kept.
///
/// A server writes to its log itself, so the file keeps its place: what is in it is copied to `<path>.1` (what was there
/// becomes `<path>.2`, and so on), then the file is emptied. Its writer must have opened it for appending. A line that
/// is written in the moment between the copy's end and the emptying is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRotation {
    /// A log that is longer is rotated.
    pub size: u64,
    /// How many files there are at most, the one that is written included.
    pub files: usize,
}

impl Default for LogRotation {
    /// 10 MiB, three files.
    fn default() -> Self {
        Self {
            size: 10 << 20,
            files: 3,
        }
    }
}

impl LogRotation {
    /// Rotates the log at `path` if it is long enough. Whether it did; a log that is not there is not long enough.
    ///
    /// Blocks while it copies. Readers by [`log_file`](crate::log_file) wait that long, and miss nothing that was
    /// copied.
    pub fn rotate(&self, path: &Path) -> io::Result<bool> {
        let mut log = match OpenOptions::new().read(true).append(true).open(path) {
            Ok(log) => log,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if log.metadata()?.len() <= self.size {
            return Ok(false);
        }
        log.lock()?;
        // Another process may have rotated it meanwhile.
        if log.metadata()?.len() <= self.size {
            return Ok(false);
        }
        let kept = self.files.saturating_sub(1);
        if kept > 0 {
            let copy = numbered(path, 0);
            let mut target = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&copy)?;
            io::copy(&mut log, &mut target)?;
            for number in (1..kept).rev() {
                absent(fs::rename(numbered(path, number), numbered(path, number + 1)))?;
            }
            // What came while files were renamed.
            io::copy(&mut log, &mut target)?;
            fs::rename(copy, numbered(path, 1))?;
        }
        log.set_len(0)?;
        Ok(true)
    }

    /// Removes what rotations of the log at `path` left, not the log itself.
    pub fn remove_rotated(&self, path: &Path) -> io::Result<()> {
        (0..self.files.max(1)).try_for_each(|number| absent(fs::remove_file(numbered(path, number))))
    }
}

/// `<path>.<number>`; number 0 is a copy in the making.
pub(crate) fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// What was copied away from the log at `path` since `before` was `<path>.1`, the oldest first; nothing when `before` is
/// it still. The caller holds the log's lock, so no rotation is half done.
pub(crate) fn rotated_since(path: &Path, before: Option<Mark>) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    for number in 1.. {
        match File::open(numbered(path, number)) {
            Ok(file) if Some(mark(&file.metadata()?)) == before => break,
            Ok(file) => files.push(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    files.reverse();
    Ok(files)
}

/// What tells a rotated file from all others: inode and time of its last change.
pub(crate) type Mark = (u64, i64, i64);

fn mark(file: &Metadata) -> Mark {
    (file.ino(), file.mtime(), file.mtime_nsec())
}

/// Which file `<path>.1` is, if there is one.
pub(crate) fn last_rotated(path: &Path) -> io::Result<Option<Mark>> {
    match fs::metadata(numbered(path, 1)) {
        Ok(file) => Ok(Some(mark(&file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_long_log_is_copied_away_and_its_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let rotation = LogRotation { size: 4, files: 3 };
        assert!(!rotation.rotate(&path).unwrap(), "there is none");
        let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        for line in ["one\n", "two two\n", "three three\n", "four four\n", "5\n"] {
            writer.write_all(line.as_bytes()).unwrap();
            rotation.rotate(&path).unwrap();
        }
        let read = |number| fs::read_to_string(numbered(&path, number)).ok();
        assert_eq!(fs::read_to_string(&path).unwrap(), "5\n");
        assert_eq!(read(1).as_deref(), Some("four four\n"));
        assert_eq!(read(2).as_deref(), Some("three three\n"));
        assert_eq!((read(0), read(3)), (None, None));
        rotation.remove_rotated(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
