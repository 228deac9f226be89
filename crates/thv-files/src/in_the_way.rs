//! What is in the place of a file and is none: a folder, a circle of links, something far too large.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// How many folders are kept beside a file in whose place they were.
const MOST_KEPT: u32 = 100;

/// Why what is at `path` can never be read as a document, in words, given what reading it said; `None` where the trouble is
/// another one, that may pass or is not ours.
pub fn why_no_file(path: &Path, error: &io::Error) -> Option<String> {
    if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
        // Of a folder on the way to it, it would say nothing about the document.
        let link = std::fs::symlink_metadata(path).is_ok();
        return link.then(|| "it is a circle of links".into());
    }
    match error.kind() {
        io::ErrorKind::IsADirectory => Some("it is a folder".into()),
        io::ErrorKind::FileTooLarge => Some("it is too large".into()),
        _ if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Some("it is a socket".into()),
        io::ErrorKind::PermissionDenied if is_ours(path) => Some("nobody may read it".into()),
        _ => None,
    }
}

/// A file of our own that we may not read; another user's says nothing about what is in it.
fn is_ours(path: &Path) -> bool {
    let about = std::fs::symlink_metadata(path);
    about.is_ok_and(|about| about.uid() == rustix::process::geteuid().as_raw())
}

/// Takes the folder at `path` out of the way: an empty one is removed, another one gets a name beside that nobody has.
pub(crate) fn clear_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        other => return other,
    }
    let mut number = 1;
    loop {
        let mut kept = path.as_os_str().to_owned();
        kept.push(".corrupted");
        if number > 1 {
            kept.push(format!("-{number}"));
        }
        match renameat_with(CWD, path, CWD, Path::new(&kept), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if number < MOST_KEPT => number += 1,
            other => return other.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::atomic;

    #[test]
    fn a_folder_in_the_place_of_a_file_gives_way_and_nothing_in_it_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fetch.json");
        let kept = |name: &str| folder.path().join(name).join("note");
        fs::create_dir(&path).unwrap();
        atomic::replace(&path, ".tmp-", b"1").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1");
        for number in 0..3 {
            atomic::remove(&path).unwrap();
            fs::create_dir(&path).unwrap();
            fs::write(path.join("note"), number.to_string()).unwrap();
            atomic::replace(&path, ".tmp-", b"2").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"2");
        }
        assert_eq!(fs::read(kept("fetch.json.corrupted")).unwrap(), b"0");
        assert_eq!(fs::read(kept("fetch.json.corrupted-3")).unwrap(), b"2");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(atomic::remove(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn what_can_never_be_read_is_told_from_trouble_that_may_pass() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink("circle", at("circle")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        fs::write(at("large"), "1234").unwrap();
        for name in ["folder", "circle", "socket", "large"] {
            let error = atomic::read(&at(name), 3).unwrap_err();
            assert!(why_no_file(&at(name), &error).is_some(), "{name}: {error}");
        }
        let inside = at("circle").join("document");
        let error = atomic::read(&inside, 3).unwrap_err();
        assert_eq!(
            why_no_file(&inside, &error),
            None,
            "its folder is not one: {error}"
        );
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(why_no_file(&at("large"), &error).is_some(), "it is ours");
        assert_eq!(why_no_file(&at("none"), &error), None);
        let error = io::Error::from_raw_os_error(Errno::IO.raw_os_error());
        assert_eq!(why_no_file(&at("large"), &error), None);
    }

    #[test]
    fn what_is_in_the_place_of_a_folder_is_told() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::os::unix::fs::symlink("circle", at("circle")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        fs::write(at("file"), "").unwrap();
        let refused = |name| atomic::create_folder(&at(name), 0o700).unwrap_err();
        assert_eq!(refused("circle").raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        assert_eq!(refused("file").kind(), io::ErrorKind::NotADirectory);
        assert_eq!(
            refused("dangling").to_string(),
            "a link in its place leads nowhere"
        );
        fs::create_dir(at("nowhere")).unwrap();
        atomic::create_folder(&at("dangling"), 0o700).unwrap();
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (elsewhere, path) = (folder.path().join("elsewhere"), folder.path().join("fetch.json"));
        fs::write(&elsewhere, "theirs").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        atomic::replace(&path, ".tmp-", b"ours").unwrap();
        assert_eq!(fs::read(&elsewhere).unwrap(), b"theirs");
        assert_eq!(fs::read(&path).unwrap(), b"ours");
    }
}
