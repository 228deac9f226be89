//! Room for when the disk is full.
//!
//! To stop and to remove something frees space, but has to be recorded first. So a folder of records has files in a folder
//! `.spare` that are empty and have blocks: where one cannot be written for lack of space, [`atomic::replace`] fills one of
//! these and renames it. What it replaces is free then, and the next [`keep`] makes a new one of that.
//!
//! [`atomic::replace`]: crate::atomic::replace

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with};
use tempfile::NamedTempFile;

use crate::{atomic, owner, temporary};

const FOLDER: &str = ".spare";
/// Two stops take as many writes of one folder, also where somebody else takes at once what they free.
const COUNT: u32 = 16;
/// Bytes of one. Most records are far smaller.
const ROOM: u64 = 8 << 10;

/// Sees to it that `folder` has room for when the disk is full. That costs one system call where it has.
///
/// # Errors
/// Whatever making the files says. Some may be there then.
pub fn keep(folder: &Path) -> io::Result<()> {
    // The first one is taken first, and made last.
    if fs::symlink_metadata(place(folder, 0)).is_ok() {
        return Ok(());
    }
    atomic::create_folder(&folder.join(FOLDER), 0o700)?;
    (0..COUNT)
        .rev()
        .try_for_each(|number| make(&place(folder, number)))
}

/// A temporary file in `folder` with `bytes`, written and synced, made of what is kept; `None` where that is not enough.
pub(crate) fn filled(folder: &Path, prefix: &str, bytes: &[u8]) -> Option<NamedTempFile> {
    let length = u64::try_from(bytes.len()).ok().filter(|length| *length <= ROOM)?;
    (0..COUNT).find_map(|number| {
        let mut file = take(folder, number, prefix).ok()?;
        file.write_all(bytes).ok()?;
        // Of its blocks those stay that are needed.
        file.as_file().set_len(length).ok()?;
        file.as_file().sync_all().ok()?;
        Some(file)
    })
}

/// Takes one away: of several who try, one gets it.
fn take(folder: &Path, number: u32, prefix: &str) -> io::Result<NamedTempFile> {
    let spare = place(folder, number);
    temporary::make(folder, prefix, |path| {
        let file = OpenOptions::new().write(true).open(&spare)?;
        renameat_with(CWD, &spare, CWD, path, RenameFlags::NOREPLACE)?;
        Ok(file)
    })
}

fn make(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    };
    owner::as_folder(&file, path.parent().unwrap_or(path));
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, ROOM).map_err(|error| {
        // Without blocks it is of no use.
        let _ = fs::remove_file(path);
        error.into()
    })
}

fn place(folder: &Path, number: u32) -> PathBuf {
    folder.join(FOLDER).join(format!("{number:02}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn text(file: &NamedTempFile) -> Vec<u8> {
        fs::read(file.path()).unwrap()
    }

    #[test]
    fn what_is_kept_has_its_blocks_and_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(filled(folder, ".tmp-", b"1").is_none(), "nothing is kept yet");
        keep(folder).unwrap();
        for number in 0..COUNT {
            let about = fs::metadata(place(folder, number)).unwrap();
            assert_eq!(about.len(), 0);
            assert!(
                about.blocks() * 512 >= ROOM,
                "{number}: {} blocks",
                about.blocks()
            );
        }
        let taken: Vec<_> = (0..COUNT)
            .map(|_| filled(folder, ".tmp-", b"12").unwrap())
            .collect();
        let paths: BTreeSet<_> = taken.iter().map(|file| file.path().to_owned()).collect();
        assert_eq!(paths.len(), taken.len());
        assert!(taken.iter().all(|file| text(file) == b"12"));
        assert!(filled(folder, ".tmp-", b"12").is_none());
        keep(folder).unwrap();
        assert!(filled(folder, ".tmp-", b"12").is_some(), "it was made again");
    }

    #[test]
    fn only_what_it_needs_of_its_blocks_goes_with_a_file() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path()).unwrap();
        let file = filled(folder.path(), ".tmp-", b"12").unwrap();
        assert!(file.as_file().metadata().unwrap().blocks() * 512 < ROOM);
    }

    #[test]
    fn what_is_larger_than_one_takes_none() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path()).unwrap();
        let room = usize::try_from(ROOM).unwrap();
        assert!(filled(folder.path(), ".tmp-", &vec![b'1'; room + 1]).is_none());
        assert!(place(folder.path(), 0).exists());
        assert!(filled(folder.path(), ".tmp-", &vec![b'1'; room]).is_some());
    }

    #[test]
    fn one_that_is_missing_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path()).unwrap();
        fs::remove_file(place(folder.path(), 0)).unwrap();
        assert!(filled(folder.path(), ".tmp-", b"1").is_some());
        assert!(!place(folder.path(), 1).exists());
    }
}
