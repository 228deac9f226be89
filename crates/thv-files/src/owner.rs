//! Whose the files are that root makes in another user's folder, as `sudo` does where it keeps the home: that user's, whose own
//! commands could not change them otherwise. Modes stay as they are.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Gid, OFlags, Uid, fchown};

/// Gives the empty file or the folder that was opened in `folder` to whom that belongs, if root has made it. Where that cannot
/// be done it stays root's.
pub fn as_folder(made: &File, folder: &Path) {
    if !is_root() {
        return;
    }
    let (Ok(about), Ok(folder)) = (made.metadata(), fs::metadata(folder)) else {
        return;
    };
    // One with a second name may be a file of the system's that somebody linked to. One with content may be a secret of
    // root's: who owns its folder can give it another name, but not read it.
    let gives_nothing_away = about.is_dir() || (about.nlink() == 1 && about.len() == 0);
    let is_roots = about.uid() == 0 && gives_nothing_away;
    if is_roots && folder.uid() != 0 {
        let _ = fchown(
            made,
            Some(Uid::from_raw(folder.uid())),
            Some(Gid::from_raw(folder.gid())),
        );
    }
}

/// What of the way to `folder` has to be made, the outermost first, if it is root who makes it.
pub(crate) fn missing(folder: &Path) -> Vec<&Path> {
    if !is_root() {
        return Vec::new();
    }
    let mut missing: Vec<_> = folder
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && fs::symlink_metadata(folder).is_err())
        .collect();
    missing.reverse();
    missing
}

/// The same of folders that were [`missing`].
pub(crate) fn as_parents(made: &[&Path]) {
    for folder in made {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed())
            .open(folder);
        if let (Ok(opened), Some(parent)) = (opened, folder.parent()) {
            as_folder(&opened, parent);
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;
    use crate::{atomic, lock, spare};

    /// A folder of a user that is not root; none where that cannot be made.
    fn theirs() -> Option<tempfile::TempDir> {
        let folder = tempfile::tempdir().unwrap();
        if chown(folder.path(), Some(4711), Some(4712)).is_err() {
            println!("skipped: not root");
            return None;
        }
        Some(folder)
    }

    #[track_caller]
    fn assert_theirs(path: &Path, mode: u32) {
        let about = fs::symlink_metadata(path).unwrap();
        let seen = (about.uid(), about.gid(), about.permissions().mode() & 0o777);
        assert_eq!(seen, (4711, 4712, mode), "{}", path.display());
    }

    #[test]
    fn what_root_makes_in_a_users_folder_is_that_users() {
        let Some(home) = theirs() else { return };
        let folder = home.path().join("state/deep");
        atomic::create_folder(&folder, 0o700).unwrap();
        assert_theirs(&home.path().join("state"), 0o700);
        assert_theirs(&folder, 0o700);
        atomic::create(&folder.join("made"), ".tmp-", b"1").unwrap();
        atomic::replace(&folder.join("made"), ".tmp-", b"2").unwrap();
        assert_theirs(&folder.join("made"), 0o600);
        let held = lock::try_exclusive(&folder.join("lock")).unwrap();
        assert_theirs(&folder.join("lock"), 0o600);
        drop(held);
        spare::keep(&folder).unwrap();
        assert_theirs(&folder.join(".spare"), 0o700);
        assert_theirs(&folder.join(".spare/00"), 0o600);
        // What root left there before is taken over when it is used.
        chown(folder.join("lock"), Some(0), Some(0)).unwrap();
        drop(lock::exclusive(&folder.join("lock"), false).unwrap());
        assert_theirs(&folder.join("lock"), 0o600);
    }

    #[test]
    fn a_file_with_a_second_name_stays_whose_it_is() {
        let Some(home) = theirs() else { return };
        let roots = tempfile::NamedTempFile::new().unwrap();
        let link = home.path().join("lock");
        fs::hard_link(roots.path(), &link).unwrap();
        drop(lock::try_exclusive(&link).unwrap());
        assert_eq!(fs::metadata(roots.path()).unwrap().uid(), 0);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(roots.path(), &link).unwrap();
        drop(lock::try_exclusive(&link).unwrap());
        assert_eq!(fs::metadata(roots.path()).unwrap().uid(), 0);
    }

    #[test]
    fn what_root_has_written_is_given_to_nobody() {
        let Some(home) = theirs() else { return };
        let secret = home.path().join("lock");
        fs::write(&secret, "a secret of root's").unwrap();
        drop(lock::try_exclusive(&secret).unwrap());
        assert_eq!(fs::metadata(&secret).unwrap().uid(), 0);
    }
}
