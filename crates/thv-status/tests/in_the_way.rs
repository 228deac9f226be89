//! A person, or another program, has put something else where a file of a workload belongs: it is said, changed and removed
//! all the same, and at once.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thv_core::{Dirs, WorkloadName, WorkloadStatus};
use thv_status::{Authority, Change, ClaimId, Companion, FileStatusManager, Operation, StatusManager};

const SOON: Duration = Duration::from_mins(2);

/// What may be there.
const KINDS: [&str; 10] = [
    "pipe",
    "folder",
    "full folder",
    "link",
    "dangling link",
    "circle of links",
    "socket",
    "empty file",
    "huge file",
    "garbage",
];

/// Puts a thing of that kind to `path`; what a link leads to is below `root`.
fn put(kind: &str, path: &Path, root: &Path) {
    let _ = fs::remove_file(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let elsewhere = root.join("elsewhere");
    fs::write(&elsewhere, "theirs").unwrap();
    match kind {
        "pipe" => {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }
        "folder" => fs::create_dir(path).unwrap(),
        "full folder" => {
            fs::create_dir(path).unwrap();
            fs::write(path.join("note"), "kept").unwrap();
        }
        "link" => symlink(elsewhere, path).unwrap(),
        "dangling link" => symlink(root.join("nowhere"), path).unwrap(),
        "circle of links" => symlink(path.file_name().unwrap(), path).unwrap(),
        "socket" => drop(UnixListener::bind(path).unwrap()),
        "empty file" => drop(File::create(path).unwrap()),
        "huge file" => File::create(path).unwrap().set_len(1 << 30).unwrap(),
        _ => fs::write(path, b"\xff\0{garbage").unwrap(),
    }
}

/// The files of a workload that others may have replaced.
fn places(dirs: &Dirs) -> Vec<PathBuf> {
    let lifecycle = ["json", "op", "owner", "guard"].map(|end| dirs.lifecycle().join(format!("fetch.{end}")));
    let statuses = ["json", "lock"].map(|end| dirs.statuses().join(format!("fetch.{end}")));
    let pids = [dirs.pids(), dirs.temp.clone()].map(|folder| folder.join("toolhive-fetch.pid"));
    lifecycle.into_iter().chain(statuses).chain(pids).collect()
}

async fn write(status: &FileStatusManager, name: &WorkloadName, now: WorkloadStatus) {
    let op = status.lock_op(name, Operation::Stop, SOON).await.unwrap();
    let change: Change = Box::new(move |draft| draft.force_status(now, ""));
    status.update(name, Authority::Verb(&op), change).await.unwrap();
}

async fn all_is_well_with(kind: &str) {
    let root = tempfile::tempdir().unwrap();
    // Below a short path: a socket's may not be long.
    let dirs = Dirs::under(root.path().join("d"));
    let name: WorkloadName = "fetch".parse().unwrap();
    let status = FileStatusManager::new(&dirs);
    for place in places(&dirs) {
        let shown = format!("{kind} at {}", place.display());
        let op = status.lock_op(&name, Operation::Run, SOON).await.unwrap();
        status
            .create(&name, &op, Companion::new(ClaimId::random(), "thv"))
            .await
            .unwrap();
        drop(op);
        write(&status, &name, WorkloadStatus::Running).await;
        put(kind, &place, root.path());

        // It can be read and listed, and who owns it is nobody.
        status.read(&name).await.unwrap();
        assert_eq!(status.list().await.unwrap().len(), 1, "{shown}");
        assert!(status.owner_free(&name, Duration::ZERO).await.unwrap(), "{shown}");
        drop(status.acquire_owner(&name).await.unwrap());

        // The next change makes it whole.
        write(&status, &name, WorkloadStatus::Stopped).await;
        let snapshot = status.read(&name).await.unwrap();
        assert_eq!(snapshot.damage, None, "{shown}");
        let file = snapshot.status.unwrap();
        assert_eq!(file.status, WorkloadStatus::Stopped, "{shown}");
        status.remove_pid_files(&name).await.unwrap();

        // It can be removed in any state, and only what was in a folder is left.
        put(kind, &place, root.path());
        let op = status.lock_op(&name, Operation::Remove, SOON).await.unwrap();
        status.remove(&name, op).await.unwrap();
        assert!(status.list().await.unwrap().is_empty(), "{shown}");
        assert!(fs::symlink_metadata(&place).is_err(), "{shown}");
        assert_eq!(
            fs::read(root.path().join("elsewhere")).unwrap(),
            b"theirs",
            "{shown}"
        );
        assert!(!root.path().join("nowhere").exists(), "{shown}");
        if kind == "full folder" {
            let mut kept = place.into_os_string();
            kept.push(".corrupted");
            assert_eq!(
                fs::read(Path::new(&kept).join("note")).unwrap(),
                b"kept",
                "{shown}"
            );
        }
    }
}

#[tokio::test]
async fn whatever_is_in_the_place_of_a_file_the_workload_can_be_read_changed_and_removed() {
    for kind in KINDS {
        let soon = tokio::time::timeout(Duration::from_secs(300), all_is_well_with(kind));
        soon.await
            .unwrap_or_else(|_| panic!("a {kind} holds somebody up"));
    }
}

#[tokio::test]
async fn an_id_of_the_installation_that_cannot_be_read_says_what_to_do_and_is_not_made_anew() {
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(root.path().join("d"));
    let path = dirs.lifecycle().join("owner-id");
    for kind in KINDS.into_iter().filter(|kind| *kind != "link") {
        let status = FileStatusManager::new(&dirs);
        let _ = fs::remove_dir_all(dirs.lifecycle());
        put(kind, &path, root.path());
        let error = status.owner_id().await.unwrap_err().to_string();
        assert!(
            error.contains("owner-id") && error.contains("another installation's"),
            "{error}"
        );
        assert!(fs::symlink_metadata(&path).is_ok(), "{kind}");
    }
}

#[tokio::test]
async fn the_first_verb_takes_away_what_a_killed_writer_left() {
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(root.path());
    let left = [dirs.lifecycle(), dirs.statuses(), dirs.pids()].map(|folder| folder.join(".tmp-Ab12Cd.thv"));
    let toolhives = dirs.statuses().join(".tmp-123456");
    for path in left.iter().chain([&toolhives]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{").unwrap();
    }
    let (status, name) = (FileStatusManager::new(&dirs), WorkloadName::new("fetch").unwrap());
    status.read(&name).await.unwrap();
    assert!(status.list().await.unwrap().is_empty());
    assert!(left.iter().all(|path| path.exists()), "a read writes nothing");
    drop(status.lock_op(&name, Operation::Stop, SOON).await.unwrap());
    assert!(left.iter().all(|path| !path.exists()) && toolhives.exists());
}
