//! Reads write nothing: names, bytes, modes and times below the state and data directories are the same afterwards.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thv_core::{Dirs, WorkloadName, WorkloadStatus};
use thv_status::{
    Authority, Change, ClaimId, Companion, FileStatusManager, Operation, OwnerState, StatusManager,
};

const SOON: Duration = Duration::from_mins(2);

const RUNNING: &str = "{\n  \"status\": \"running\",\n  \"created_at\": \"2026-08-21T10:12:13Z\",\n  \
                       \"updated_at\": \"2026-08-21T10:12:19Z\",\n  \"process_id\": 0\n}";

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    inode: u64,
    mode: u32,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
    bytes: Option<Vec<u8>>,
}

/// Everything at and below `path`.
fn tree(path: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return found;
    };
    let bytes = metadata.is_file().then(|| fs::read(path).unwrap());
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            found.append(&mut tree(&entry.unwrap().path()));
        }
    }
    let entry = Entry {
        inode: metadata.ino(),
        mode: metadata.mode(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        bytes,
    };
    found.insert(path.to_owned(), entry);
    found
}

async fn record(status: &FileStatusManager, name: &str, last: WorkloadStatus) {
    let name: WorkloadName = name.parse().unwrap();
    let op = status.lock_op(&name, Operation::Run, SOON).await.unwrap();
    let companion = Companion::new(ClaimId::random(), "thv");
    status.create(&name, &op, companion).await.unwrap();
    let change: Change = Box::new(move |draft| draft.force_status(last, ""));
    status.update(&name, Authority::Verb(&op), change).await.unwrap();
}

async fn read_all(status: &FileStatusManager) {
    for snapshot in status.list().await.unwrap() {
        if let Some(name) = &snapshot.name {
            // A damaged record is an error that names it.
            let _ = status.read(name).await;
            let _ = status.owner_free(name, Duration::ZERO).await.unwrap();
            let _ = status.claim_is_current(name, &ClaimId::random()).await;
        }
    }
    status.read(&"never-heard-of".parse().unwrap()).await.unwrap();
}

#[tokio::test]
async fn reading_an_empty_installation_creates_nothing() {
    let root = tempfile::tempdir().unwrap();
    let status = FileStatusManager::new(&Dirs::under(root.path()));
    read_all(&status).await;
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn reading_leaves_everything_as_it_is_damaged_files_too() {
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(root.path());
    let status = FileStatusManager::new(&dirs);
    record(&status, "running", WorkloadStatus::Running).await;
    record(&status, "stopped", WorkloadStatus::Stopped).await;
    record(&status, "foreign", WorkloadStatus::Running).await;
    record(&status, "gone", WorkloadStatus::Running).await;
    record(&status, "bad-record", WorkloadStatus::Running).await;
    record(&status, "newer-record", WorkloadStatus::Running).await;
    let statuses = dirs.statuses();
    fs::write(
        statuses.join("foreign.json"),
        RUNNING.replace("running", "stopped"),
    )
    .unwrap();
    fs::remove_file(statuses.join("gone.json")).unwrap();
    fs::write(
        dirs.lifecycle().join("bad-record.json"),
        "{\"version\": 1, \"claim\"",
    )
    .unwrap();
    fs::write(dirs.lifecycle().join("newer-record.json"), "{\"version\": 99}").unwrap();
    // ToolHive's: whole, repairable in each of the three ways, and not; with a PID file to migrate, in both places.
    let damaged = [
        ("whole", RUNNING.to_owned()),
        ("more-braces", format!("{RUNNING}}}}}")),
        ("fewer-braces", RUNNING[..RUNNING.len() - 1].to_owned()),
        ("control", format!("\0{RUNNING}\u{1}")),
        ("empty", String::new()),
        ("garbage", "not a status".to_owned()),
        ("no-fields", "{}".to_owned()),
        ("-odd", RUNNING.to_owned()),
    ];
    for (name, text) in &damaged {
        fs::write(statuses.join(format!("{name}.json")), text).unwrap();
    }
    fs::write(statuses.join("whole.lock"), "").unwrap();
    fs::create_dir_all(dirs.pids()).unwrap();
    fs::create_dir_all(&dirs.temp).unwrap();
    fs::write(dirs.pids().join("toolhive-whole.pid"), "1\n").unwrap();
    fs::write(dirs.temp.join("toolhive-more-braces.pid"), "1\n").unwrap();
    let owner = status.acquire_owner(&"running".parse().unwrap()).await.unwrap();

    let before = tree(root.path());
    read_all(&status).await;
    let listed = status.list().await.unwrap();
    assert_eq!(before, tree(root.path()));

    // It was worth reading: each of them is listed, what can be repaired is repaired, the rest says why not.
    let find = |name: &str| listed.iter().find(|found| found.raw_name == name).unwrap();
    assert_eq!(find("running").owner, OwnerState::Alive);
    for name in ["whole", "more-braces", "fewer-braces", "control"] {
        assert_eq!(
            find(name).status.as_ref().unwrap().status,
            WorkloadStatus::Running,
            "{name}"
        );
    }
    for name in ["empty", "garbage", "no-fields", "bad-record", "newer-record"] {
        assert!(find(name).damage.is_some(), "{name}");
    }
    assert_eq!(find("-odd").name, None);
    assert_eq!(find("whole").pid_file.unwrap().pid, 1);
    assert_eq!(find("more-braces").pid_file.unwrap().pid, 1);

    // The next change of one repairs that one, keeps what it cannot use, and touches no other.
    drop(owner);
    let name: WorkloadName = "garbage".parse().unwrap();
    let op = status.lock_op(&name, Operation::Stop, SOON).await.unwrap();
    status
        .update(&name, Authority::Verb(&op), Box::new(|_| {}))
        .await
        .unwrap();
    assert_eq!(
        fs::read(statuses.join("garbage.json.corrupted")).unwrap(),
        b"not a status"
    );
    let is_of_others = |path: &&PathBuf| {
        path.is_file()
            && !path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("garbage.")
    };
    let after = tree(root.path());
    for path in before.keys().filter(is_of_others) {
        assert_eq!(before.get(path), after.get(path), "{}", path.display());
    }
}

#[tokio::test]
async fn a_list_tells_what_is_there_now_whatever_size_and_time_say() {
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(root.path());
    let status = FileStatusManager::new(&dirs);
    fs::create_dir_all(dirs.statuses()).unwrap();
    let file = dirs.statuses().join("fetch.json");
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let write = |text: &str| {
        fs::write(&file, text).unwrap();
        let file = fs::File::options().write(true).open(&file).unwrap();
        file.set_modified(time).unwrap();
    };
    let listed = async || {
        let listed = status.list().await.unwrap();
        let statuses = listed
            .iter()
            .map(|found| found.status.as_ref().map(|file| file.status));
        statuses.collect::<Vec<_>>()
    };
    for _ in 0..2 {
        for now in [WorkloadStatus::Running, WorkloadStatus::Stopped] {
            write(&RUNNING.replace("running", now.as_str()));
            assert_eq!(listed().await, [Some(now)]);
            assert_eq!(listed().await, [Some(now)]);
        }
        write(&"x".repeat(RUNNING.len()));
        assert_eq!(listed().await, [None]);
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(listed().await, []);
    // And so with records.
    record(&status, "fetch", WorkloadStatus::Running).await;
    let companion = dirs.lifecycle().join("fetch.json");
    for claim in ["0", "1", "0"].map(|digit| digit.repeat(32)) {
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&companion).unwrap()).unwrap();
        record["claim"] = claim.as_str().into();
        fs::write(&companion, record.to_string()).unwrap();
        let listed = status.list().await.unwrap();
        assert_eq!(listed[0].companion.as_ref().unwrap().claim.as_str(), claim);
    }
}
