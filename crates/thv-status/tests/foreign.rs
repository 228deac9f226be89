//! A writer shaped like ToolHive between our writes, and what ToolHive left behind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use thv_core::{Dirs, WorkloadName, WorkloadStatus};
use thv_status::{
    Authority, Change, ClaimId, Companion, Desired, Draft, Error, FileStatusManager, ForeignMeaning,
    Operation, OwnerState, Pending, Reading, Snapshot, StatusManager,
};

const SOON: Duration = Duration::from_mins(2);

/// A workload on disk, ToolHive's hand and ours.
struct Workload {
    _root: tempfile::TempDir,
    dirs: Dirs,
    status: FileStatusManager,
    name: WorkloadName,
}

impl Workload {
    /// One that nobody has written anything of.
    fn nothing() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dirs = Dirs::under(root.path());
        fs::create_dir_all(dirs.statuses()).unwrap();
        Self {
            _root: root,
            status: FileStatusManager::new(&dirs),
            name: "fetch".parse().unwrap(),
            dirs,
        }
    }

    /// One that we started, and whose status we wrote: `running`.
    async fn ours() -> Self {
        let workload = Self::nothing();
        let op = workload
            .status
            .lock_op(&workload.name, Operation::Run, SOON)
            .await
            .unwrap();
        let companion = Companion::new(ClaimId::random(), "thv");
        workload
            .status
            .create(&workload.name, &op, companion)
            .await
            .unwrap();
        drop(op);
        workload
            .write(|draft| draft.force_status(WorkloadStatus::Starting, ""))
            .await;
        workload
            .write(|draft| {
                draft.set_status(WorkloadStatus::Running, "");
                draft.status.process_id = 4242;
            })
            .await;
        workload
    }

    async fn write(&self, change: impl FnOnce(&mut Draft) + Send + 'static) -> Companion {
        let op = self
            .status
            .lock_op(&self.name, Operation::Start, SOON)
            .await
            .unwrap();
        let change: Change = Box::new(change);
        self.status
            .update(&self.name, Authority::Verb(&op), change)
            .await
            .unwrap()
    }

    async fn read(&self) -> Snapshot {
        self.status.read(&self.name).await.unwrap()
    }

    fn file(&self) -> PathBuf {
        self.dirs.statuses().join("fetch.json")
    }

    /// Writes as ToolHive does: its own lock, a temporary file beside the target, a rename; then the lock is unlinked. It
    /// keeps `created_at`, and `process_id` unless it is given one.
    fn toolhive_writes(&self, status: &str, process_id: i64) {
        let lock = self.dirs.statuses().join("fetch.lock");
        let held = fs::File::create(&lock).unwrap();
        held.lock().unwrap();
        let text = format!(
            "{{\n  \"status\": \"{status}\",\n  \"created_at\": \"2026-08-21T10:12:13.123456789+02:00\",\n  \
             \"updated_at\": \"2026-08-21T10:12:19.5+02:00\",\n  \"process_id\": {process_id}\n}}"
        );
        let temporary = self.dirs.statuses().join(".tmp-1234");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        fs::rename(temporary, self.file()).unwrap();
        fs::remove_file(lock).unwrap();
    }
}

/// What `status` between two writes of ours is read as, and what is desired then; the next write takes it in.
async fn check(status: &str, meaning: ForeignMeaning, desired: Desired) {
    let workload = Workload::ours().await;
    workload.toolhive_writes(status, 4242);
    let read = workload.read().await;
    assert_eq!(
        (read.reading, read.desired()),
        (Reading::Foreign(meaning), desired),
        "{status}"
    );
    assert_eq!(
        read.status.unwrap().status.as_str(),
        status,
        "it is shown as it is"
    );
    let recorded = read.companion.unwrap();
    assert_eq!(
        recorded.desired,
        Desired::Running,
        "{status}: a read writes nothing"
    );

    let written = workload.write(|_| {}).await;
    assert_eq!(
        (written.desired, &written.claim),
        (desired, &recorded.claim),
        "{status}"
    );
    let read = workload.read().await;
    assert_eq!(
        (read.reading, read.desired()),
        (Reading::Ours, desired),
        "{status}"
    );
}

#[tokio::test]
async fn a_stop_of_toolhives_is_what_the_user_wants() {
    for status in ["stopping", "stopped", "removing", "policy_stopped"] {
        check(status, ForeignMeaning::Stopped, Desired::Stopped).await;
    }
}

#[tokio::test]
async fn running_by_toolhives_word_is_left_to_be_proved() {
    for status in ["running", "starting"] {
        check(status, ForeignMeaning::MayRun, Desired::Running).await;
    }
}

#[tokio::test]
async fn unhealthy_is_an_observation_and_the_rest_changes_nothing() {
    check("unhealthy", ForeignMeaning::Observation, Desired::Running).await;
    for status in ["error", "unknown", "unauthenticated", "auth_retrying"] {
        check(status, ForeignMeaning::Other, Desired::Running).await;
    }
}

#[tokio::test]
async fn running_by_toolhives_word_does_not_start_what_was_stopped() {
    let workload = Workload::ours().await;
    workload
        .write(|draft| draft.companion.desired = Desired::Stopped)
        .await;
    workload.toolhive_writes("running", 1);
    assert_eq!(workload.read().await.desired(), Desired::Stopped);
    assert_eq!(workload.write(|_| {}).await.desired, Desired::Stopped);
}

#[tokio::test]
async fn a_status_file_that_is_gone_means_stopped_and_the_next_write_brings_it_back() {
    let workload = Workload::ours().await;
    fs::remove_file(workload.file()).unwrap();
    let read = workload.read().await;
    assert_eq!(read.reading, Reading::Foreign(ForeignMeaning::Gone));
    assert_eq!((read.desired(), read.status), (Desired::Stopped, None));
    let listed = workload.status.list().await.unwrap();
    assert_eq!(listed.len(), 1, "the record still tells of it");
    assert_eq!(workload.write(|_| {}).await.desired, Desired::Stopped);
    assert!(workload.file().exists());
}

#[tokio::test]
async fn a_crash_between_record_and_status_file_is_no_foreign_write() {
    let workload = Workload::ours().await;
    let before = fs::read(workload.file()).unwrap();
    workload
        .write(|draft| draft.set_status(WorkloadStatus::Stopping, "asked to"))
        .await;
    // The record was written, the rename of the status file did not happen.
    fs::write(workload.file(), before).unwrap();
    let read = workload.read().await;
    assert_eq!(
        (read.reading, read.desired()),
        (Reading::Interrupted, Desired::Running)
    );
    let file = read.status.unwrap();
    assert_eq!(
        (file.status, &*file.status_context),
        (WorkloadStatus::Stopping, "asked to")
    );
    workload.write(|_| {}).await;
    let file = workload.read().await.status.unwrap();
    assert_eq!(
        (file.status, &*file.status_context),
        (WorkloadStatus::Stopping, "asked to")
    );
}

#[tokio::test]
async fn a_write_keeps_what_toolhive_keeps() {
    let workload = Workload::ours().await;
    workload.toolhive_writes("stopped", 77);
    workload
        .write(|draft| draft.force_status(WorkloadStatus::Starting, ""))
        .await;
    let text = fs::read_to_string(workload.file()).unwrap();
    assert!(
        text.contains("\"created_at\": \"2026-08-21T10:12:13.123456789+02:00\""),
        "{text}"
    );
    assert!(
        text.contains("\"process_id\": 4242"),
        "a pid that somebody wrote: {text}"
    );
    assert!(
        !text.contains("\"updated_at\": \"2026-08-21T10:12:19.5+02:00\""),
        "{text}"
    );
}

#[tokio::test]
async fn what_toolhive_made_is_adopted_with_what_its_status_says() {
    for (status, desired) in [("running", Desired::Running), ("stopped", Desired::Stopped)] {
        let workload = Workload::nothing();
        workload.toolhive_writes(status, 0);
        let read = workload.read().await;
        assert_eq!((read.reading, read.desired()), (Reading::ToolHive, desired));
        let written = workload.write(|_| {}).await;
        assert_eq!(
            (written.desired, written.revision, &*written.launcher),
            (desired, 1, "")
        );
        let op = workload
            .status
            .lock_op(&workload.name, Operation::Remove, SOON)
            .await
            .unwrap();
        workload.status.remove(&workload.name, op).await.unwrap();
        assert!(workload.status.list().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_lock_that_toolhive_holds_or_left_behind_is_in_nobodys_way() {
    let workload = Workload::ours().await;
    let lock = workload.dirs.statuses().join("fetch.lock");
    // Left behind by a process that died: a file, and nobody's lock.
    fs::write(&lock, "").unwrap();
    let revision = workload.write(|_| {}).await.revision;
    // Held by one that hangs.
    let held = fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let written = tokio::time::timeout(SOON, workload.write(|_| {}))
        .await
        .expect("it does not wait for ToolHive");
    assert_eq!(written.revision, revision + 1);
    assert!(lock.exists(), "what ToolHive holds is ToolHive's");
}

#[tokio::test]
async fn a_damaged_record_is_made_anew_by_a_verb_and_kept_beside() {
    let workload = Workload::ours().await;
    let record = workload.dirs.lifecycle().join("fetch.json");
    fs::write(&record, "{").unwrap();
    let read = workload.read().await;
    let damage = read.damage.unwrap();
    assert!(
        damage.contains("fetch.json") && damage.contains("lifecycle"),
        "{damage}"
    );
    assert!(read.companion.is_none());
    let old = ClaimId::random();
    let supervisor = workload
        .status
        .update(&workload.name, Authority::Supervisor(&old), Box::new(|_| {}))
        .await;
    assert!(supervisor.is_err(), "only a verb does: {supervisor:?}");
    let written = workload.write(|_| {}).await;
    assert_eq!(written.desired, Desired::Running, "as the status file says");
    assert_eq!(workload.read().await.damage, None);
    assert_eq!(
        fs::read_to_string(record.with_extension("json.corrupted")).unwrap(),
        "{"
    );
}

#[tokio::test]
async fn a_pipe_in_place_of_a_file_holds_nobody_up() {
    let workload = Workload::ours().await;
    let record = workload.dirs.lifecycle().join("fetch.json");
    for path in [workload.file(), record] {
        fs::remove_file(&path).unwrap();
        let folder = fs::File::open(path.parent().unwrap()).unwrap();
        let name = path.file_name().unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(folder, name, kind, mode, 0).unwrap();
        assert!(workload.read().await.damage.is_some());
        let write = workload.write(|draft| draft.force_status(WorkloadStatus::Stopped, ""));
        tokio::time::timeout(SOON, write).await.unwrap();
        let kept = fs::symlink_metadata(path.with_extension("json.corrupted")).unwrap();
        assert!(!kept.is_file(), "it is kept beside");
        let snapshot = workload.read().await;
        assert_eq!(snapshot.status.unwrap().status, WorkloadStatus::Stopped);
    }
}

#[tokio::test]
async fn a_pipe_in_place_of_a_lock_holds_nobody_up() {
    let workload = Workload::ours().await;
    let path = workload.dirs.lifecycle().join("fetch.owner");
    let _ = fs::remove_file(&path);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from(0o600)).unwrap();
    let read = tokio::time::timeout(SOON, workload.read()).await;
    let listed = tokio::time::timeout(SOON, workload.status.list()).await;
    // Whoever waits for somebody who writes goes on, so that the test ends.
    let both = fs::OpenOptions::new().read(true).write(true).open(&path);
    assert_eq!(read.unwrap().owner, OwnerState::Dead);
    assert_eq!(listed.unwrap().unwrap()[0].owner, OwnerState::Dead);
    drop(both);
}

#[tokio::test]
async fn a_record_of_a_newer_program_is_left_alone() {
    let workload = Workload::ours().await;
    let record = workload.dirs.lifecycle().join("fetch.json");
    fs::write(&record, "{\"version\": 2, \"what\": \"ever\"}").unwrap();
    let error = workload.status.read(&workload.name).await.unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
    let listed = workload.status.list().await.unwrap();
    assert!(listed[0].damage.as_ref().unwrap().contains("version 2"));
}

#[tokio::test]
async fn an_operation_of_a_newer_program_makes_no_record_unreadable() {
    let workload = Workload::ours().await;
    workload
        .write(|draft| draft.companion.pending = Some(Pending::new(Operation::Move, 1, "now")))
        .await;
    let record = workload.dirs.lifecycle().join("fetch.json");
    let text = fs::read_to_string(&record)
        .unwrap()
        .replace("\"move\"", "\"teleport\"");
    fs::write(&record, text).unwrap();
    let pending = workload.read().await.companion.unwrap().pending.clone().unwrap();
    assert_eq!(pending.operation, Operation::Unknown);
}

#[tokio::test]
async fn one_workload_that_cannot_be_read_does_not_hide_the_others() {
    let workload = Workload::ours().await;
    let text = fs::read(workload.file()).unwrap();
    fs::write(workload.dirs.statuses().join("loop.json"), text).unwrap();
    fs::write(workload.dirs.lifecycle().join("loop.json"), "{\"version\": 99}").unwrap();
    let listed = workload.status.list().await.unwrap();
    let names: Vec<_> = listed.iter().map(|snapshot| snapshot.raw_name.as_str()).collect();
    assert_eq!(names, ["fetch", "loop"]);
    assert!(listed[1].damage.is_some());
}

#[tokio::test]
async fn a_late_write_leaves_nothing_of_what_is_removed() {
    let workload = Workload::ours().await;
    let claim = workload.read().await.companion.unwrap().claim.clone();
    let lock = |operation| workload.status.lock_op(&workload.name, operation, SOON);
    let op = lock(Operation::Remove).await.unwrap();
    let owner = workload.status.acquire_owner(&workload.name).await.unwrap();
    let refused = workload.status.remove(&workload.name, op).await;
    assert!(refused.is_err(), "its supervisor lives: {refused:?}");
    drop(owner);
    let op = lock(Operation::Remove).await.unwrap();
    workload.status.remove(&workload.name, op).await.unwrap();
    for authority in [Authority::Supervisor(&claim), Authority::StopRequest] {
        let late = workload
            .status
            .update(&workload.name, authority, Box::new(|_| {}))
            .await;
        assert!(late.is_err(), "{late:?}");
    }
    for folder in [workload.dirs.lifecycle(), workload.dirs.statuses()] {
        // Room for when the disk is full is the folder's, not the workload's.
        let left: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, [".spare"], "{}", folder.display());
    }
}

#[tokio::test]
async fn a_process_that_is_halted_in_a_change_holds_nobody_up_for_ever() {
    let workload = Workload::ours().await;
    let guard = fs::File::open(workload.dirs.lifecycle().join("fetch.guard")).unwrap();
    guard.lock().unwrap();
    let stop = workload
        .status
        .update(&workload.name, Authority::StopRequest, Box::new(|_| {}))
        .await;
    assert!(matches!(stop, Err(Error::Conflict { .. })), "{stop:?}");
}
