//! Temporary files, and those whose writers were killed.
//!
//! Whoever writes one keeps it locked meanwhile: one that nobody has locked is nobody's. They have an ending of their own, as
//! ToolHive's begin alike and nobody locks them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use tempfile::NamedTempFile;

use crate::{lock, owner};

const SUFFIX: &str = ".thv";

/// A file in `folder`, locked, whose name begins with `prefix`; `make` makes it, or brings it there.
pub(crate) fn make(
    folder: &Path,
    prefix: &str,
    mut make: impl FnMut(&Path) -> io::Result<File>,
) -> io::Result<NamedTempFile> {
    loop {
        let made = tempfile::Builder::new()
            .prefix(prefix)
            .suffix(SUFFIX)
            .make_in(folder, &mut make)?;
        let file = made.as_file();
        let is_kept = match file.try_lock() {
            Ok(()) => lock::is_at(file, made.path())?,
            // Somebody has taken it for one that was left.
            Err(fs::TryLockError::WouldBlock) => false,
            // Without locks nobody takes anything for left.
            Err(fs::TryLockError::Error(_)) => true,
        };
        if is_kept {
            owner::as_folder(file, folder);
            return Ok(made);
        }
    }
}

/// Removes the temporary files in `folder` that nobody writes any more.
///
/// # Errors
/// What reading the folder says. Files that cannot be opened, locked or removed stay.
pub fn sweep(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let is_ours = entry.file_name().to_str().is_some_and(is_temporary);
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = take_away(&entry.path());
        }
    }
    Ok(())
}

fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(SUFFIX)
}

fn take_away(path: &Path) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    // It may be done by now, and have its name: then it is not there.
    if file.try_lock().is_ok() && lock::is_at(&file, path)? {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic;

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort_unstable();
        names
    }

    fn new(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(path)
    }

    #[test]
    fn what_a_killed_writer_left_is_taken_away_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for prefix in [".tmp-", ".a.json.tmp-"] {
            // Its lock goes with it, as with its process.
            make(folder, prefix, new).unwrap().keep().unwrap();
        }
        let written = make(folder, ".tmp-", new).unwrap();
        let toolhives = [".tmp-123456", ".a.json.tmp-123456", "a.json", "a.thv"];
        for name in toolhives {
            fs::write(folder.join(name), "1").unwrap();
        }
        fs::create_dir(folder.join(".tmp-folder.thv")).unwrap();
        std::os::unix::fs::symlink("a.json", folder.join(".tmp-link.thv")).unwrap();
        sweep(folder).unwrap();
        let mine = written.path().file_name().unwrap().to_str().unwrap();
        let mut left = [&toolhives[..], &[".tmp-folder.thv", ".tmp-link.thv", mine]].concat();
        left.sort_unstable();
        assert_eq!(names(folder), left);
        written.persist(folder.join("b.json")).unwrap();
        sweep(folder).unwrap();
        assert!(folder.join("b.json").exists());
        sweep(&folder.join("nowhere")).unwrap();
    }

    /// Whoever sweeps finds files between their making and their lock too.
    #[test]
    fn no_write_fails_beside_who_sweeps() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::thread::scope(|scope| {
            let writing: Vec<_> = ["a", "b"]
                .map(|name| {
                    scope.spawn(move || {
                        for _ in 0..300 {
                            atomic::replace(&folder.join(name), ".tmp-", name.as_bytes()).unwrap();
                        }
                    })
                })
                .into();
            while writing.iter().any(|writer| !writer.is_finished()) {
                sweep(folder).unwrap();
            }
        });
        assert_eq!(names(folder), ["a", "b"]);
    }
}
