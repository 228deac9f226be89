//! Several processes at one workload: what they lose, what they leave behind, who waits for whom.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use thv_core::{Dirs, WorkloadName, WorkloadStatus};
use thv_status::{
    Authority, Change, ClaimId, Companion, Desired, Draft, Error, FileStatusManager, Operation, OwnerState,
    StatusManager,
};

/// How long anything may take that has no reason to wait.
const SOON: Duration = Duration::from_mins(2);
const NOW: Duration = Duration::ZERO;

/// What another process does; it is the test binary itself, told so in the environment.
const ROLE: &str = "THV_STATUS_TEST_ROLE";
const ROOT: &str = "THV_STATUS_TEST_ROOT";
const CLAIM: &str = "THV_STATUS_TEST_CLAIM";

const PROCESSES: u64 = 50;
const UPDATES: u64 = 100;

fn name() -> &'static WorkloadName {
    static NAME: LazyLock<WorkloadName> = LazyLock::new(|| "shared".parse().unwrap());
    &NAME
}

fn manager(root: &Path) -> FileStatusManager {
    FileStatusManager::new(&Dirs::under(root))
}

fn change(change: impl FnOnce(&mut Draft) + Send + 'static) -> Change {
    Box::new(change)
}

async fn created(status: &FileStatusManager) -> ClaimId {
    let claim = ClaimId::random();
    let op = status.lock_op(name(), Operation::Run, SOON).await.unwrap();
    let companion = Companion::new(claim.clone(), "test");
    status.create(name(), &op, companion).await.unwrap();
    let starting = change(|draft| draft.force_status(WorkloadStatus::Starting, ""));
    let written = status.update(name(), Authority::Verb(&op), starting).await;
    written.unwrap();
    claim
}

async fn revision(status: &FileStatusManager) -> u64 {
    status.read(name()).await.unwrap().companion.unwrap().revision
}

/// Another process in `role`; it ends at the latest when this value is dropped.
struct Other {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Other {
    fn start(role: &str, root: &Path, claim: &ClaimId) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_other_process", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(ROOT, root)
            .env(CLAIM, serde_json::to_string(claim).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Waits until it says `word`.
    fn says(&mut self, word: &str) {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            // The harness says on the same line which test runs.
            if line.trim_end().ends_with(word) {
                return;
            }
            line.clear();
        }
        panic!("the other process ended before it said {word:?}");
    }

    /// Lets it go on: it reads its stdin to the end.
    fn go_on(&mut self) {
        drop(self.child.stdin.take());
    }

    fn ends_well(mut self) {
        self.go_on();
        std::io::copy(&mut self.output, &mut std::io::sink()).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word}").unwrap();
    out.flush().unwrap();
}

fn wait_for_the_parent() {
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).unwrap();
}

/// Not a test by itself: what the other processes run.
#[tokio::test]
async fn the_other_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let root = std::env::var(ROOT).unwrap();
    let claim: ClaimId = serde_json::from_str(&std::env::var(CLAIM).unwrap()).unwrap();
    let status = manager(Path::new(&root));
    match role.as_str() {
        "count" => {
            say("ready");
            wait_for_the_parent();
            for _ in 0..UPDATES {
                let update = || status.update(name(), Authority::Supervisor(&claim), change(|_| {}));
                // On a slow machine one of so many may not come to its turn in time: then it has changed nothing.
                while let Err(error) = update().await {
                    assert!(error.is_retryable(), "{error}");
                }
            }
        }
        "unlink" => {
            let lock = Dirs::under(&root).statuses().join("shared.lock");
            let waiting = std::thread::spawn(wait_for_the_parent);
            let mut unlinked = 0_u64;
            say("ready");
            while !waiting.is_finished() {
                unlinked += u64::from(std::fs::remove_file(&lock).is_ok());
                std::thread::yield_now();
            }
            assert!(unlinked > 0, "it never met a lock");
        }
        "hold" => {
            let _op = status.lock_op(name(), Operation::Stop, SOON).await.unwrap();
            let _owner = status.acquire_owner(name()).await.unwrap();
            say("ready");
            wait_for_the_parent();
        }
        "change" => {
            let endless = change(|draft| {
                draft.companion.desired = Desired::Stopped;
                say("ready");
                wait_for_the_parent();
            });
            let supervisor = Authority::Supervisor(&claim);
            status.update(name(), supervisor, endless).await.unwrap();
        }
        "wait" => {
            say("ready");
            let op = status.lock_op(name(), Operation::Run, SOON).await.unwrap();
            say("locked");
            wait_for_the_parent();
            drop(op);
        }
        other => panic!("unknown role {other:?}"),
    }
}

#[tokio::test]
async fn fifty_processes_lose_no_update_while_toolhives_lock_is_unlinked() {
    // In memory where that is to be had: what is counted is updates, and 20,000 waits for a disk would be most of the test.
    let root = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let status = manager(root.path());
    let claim = created(&status).await;
    let before = revision(&status).await;
    let mut unlinker = Other::start("unlink", root.path(), &claim);
    unlinker.says("ready");
    let mut writers: Vec<_> = (0..PROCESSES)
        .map(|_| Other::start("count", root.path(), &claim))
        .collect();
    for writer in &mut writers {
        writer.says("ready");
    }
    for writer in &mut writers {
        writer.go_on();
    }
    for writer in writers {
        writer.ends_well();
    }
    unlinker.ends_well();
    assert_eq!(revision(&status).await - before, PROCESSES * UPDATES);
}

#[tokio::test]
async fn what_a_killed_process_held_is_free_at_once() {
    let root = tempfile::tempdir().unwrap();
    let status = manager(root.path());
    let claim = created(&status).await;
    let mut holder = Other::start("hold", root.path(), &claim);
    holder.says("ready");
    assert_eq!(status.read(name()).await.unwrap().owner, OwnerState::Alive);
    let busy = status.lock_op(name(), Operation::Start, NOW).await;
    assert!(matches!(busy, Err(Error::Conflict { .. })), "{busy:?}");
    assert!(!status.owner_free(name(), NOW).await.unwrap());
    holder.kill();
    assert_eq!(status.read(name()).await.unwrap().owner, OwnerState::Dead);
    assert!(status.owner_free(name(), NOW).await.unwrap());
    status.lock_op(name(), Operation::Start, NOW).await.unwrap();
    status.acquire_owner(name()).await.unwrap();
}

#[tokio::test]
async fn a_process_killed_in_the_middle_of_a_change_changed_nothing_and_is_in_nobodys_way() {
    let root = tempfile::tempdir().unwrap();
    let status = manager(root.path());
    let claim = created(&status).await;
    let before = status.read(name()).await.unwrap();
    let mut writer = Other::start("change", root.path(), &claim);
    writer.says("ready");
    writer.kill();
    let after = status.read(name()).await.unwrap();
    assert_eq!((before.companion, before.status), (after.companion, after.status));
    let next = status.update(name(), Authority::Supervisor(&claim), change(|_| {}));
    let next = tokio::time::timeout(SOON, next).await.expect("the guard is free");
    assert_eq!(next.unwrap().desired, Desired::Running);
}

#[tokio::test]
async fn who_waits_for_a_workload_that_is_removed_locks_the_next_one() {
    let root = tempfile::tempdir().unwrap();
    let status = manager(root.path());
    let claim = created(&status).await;
    let op = status.lock_op(name(), Operation::Remove, SOON).await.unwrap();
    let mut waiting = Other::start("wait", root.path(), &claim);
    waiting.says("ready");
    status.remove(name(), op).await.unwrap();
    waiting.says("locked");
    // The one that waited holds the lock that everybody sees, not the one that was unlinked.
    let busy = status.lock_op(name(), Operation::Run, NOW).await;
    assert!(matches!(busy, Err(Error::Conflict { .. })), "{busy:?}");
    waiting.ends_well();
    status.lock_op(name(), Operation::Run, SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_never_hold_a_lock_that_is_unlinked_again_and_again() {
    const REMOVALS: usize = 1000;
    let root = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let status = Arc::new(manager(root.path()));
    let inside = Arc::new(AtomicUsize::new(0));
    let removals = Arc::new(AtomicUsize::new(0));
    let verbs: Vec<_> = (0..4)
        .map(|_| {
            let (status, inside, removals) = (status.clone(), inside.clone(), removals.clone());
            tokio::spawn(async move {
                while removals.load(Ordering::Relaxed) < REMOVALS {
                    match status.lock_op(name(), Operation::Remove, NOW).await {
                        Ok(op) => {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
                            tokio::task::yield_now().await;
                            inside.fetch_sub(1, Ordering::SeqCst);
                            status.remove(name(), op).await.unwrap();
                            removals.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(Error::Conflict { .. }) => tokio::task::yield_now().await,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for verb in verbs {
        verb.await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_that_nobody_waits_for_any_longer_is_held_by_nobody() {
    let root = tempfile::tempdir().unwrap();
    let status = manager(root.path());
    // Dropped while it is waiting, and at every moment of getting it.
    let op = status.lock_op(name(), Operation::Stop, SOON).await.unwrap();
    let waiting = status.lock_op(name(), Operation::Start, SOON);
    let cut_off = tokio::time::timeout(Duration::from_millis(100), waiting).await;
    assert!(cut_off.is_err(), "it had to wait");
    drop(op);
    for micros in 0..100 {
        let locking = status.lock_op(name(), Operation::Start, SOON);
        drop(tokio::time::timeout(Duration::from_micros(micros * 5), locking).await);
        status.lock_op(name(), Operation::Start, SOON).await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_update_keeps_its_lock_to_its_end_and_no_longer() {
    let root = tempfile::tempdir().unwrap();
    let status = manager(root.path());
    created(&status).await;
    let before = revision(&status).await;
    let op = status.lock_op(name(), Operation::Stop, SOON).await.unwrap();
    let (entered, has_entered) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let blocked = change(move |draft| {
        draft.companion.desired = Desired::Stopped;
        entered.send(()).unwrap();
        let _ = may_go_on.recv();
    });
    {
        let update = status.update(name(), Authority::Verb(&op), blocked);
        tokio::select! {
            _ = update => panic!("it is blocked"),
            entered = has_entered => entered.unwrap(),
        }
    }
    drop(op);
    let busy = status.lock_op(name(), Operation::Start, NOW).await;
    assert!(
        matches!(busy, Err(Error::Conflict { .. })),
        "the change goes on: {busy:?}"
    );
    drop(go_on);
    status.lock_op(name(), Operation::Start, SOON).await.unwrap();
    let after = status.read(name()).await.unwrap().companion.unwrap();
    assert_eq!((after.revision - before, after.desired), (1, Desired::Stopped));
}
