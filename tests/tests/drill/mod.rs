//! What drills share.
#![allow(dead_code, reason = "each drill uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

pub(crate) mod application;
pub(crate) mod isolated;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};
use thv::core::{Workload, WorkloadStatus};
use thv_tests::{Client, Machine, echo_server};

/// The echo server as a program of this host.
pub(crate) fn exec() -> String {
    format!("exec://{}", echo_server().display())
}

/// Runs `server` with further arguments of `thv run`, and waits until it is ready.
pub(crate) async fn run(machine: &Machine, name: &str, server: &str, args: &[&str]) -> Workload {
    let run = ["run", server, "--name", name, "--wait=1m"];
    machine.thv(run.iter().chain(args)).await.ok();
    let workload = machine.workload(name).await;
    assert_eq!(workload.status, WorkloadStatus::Running, "{workload:?}");
    workload
}

/// Runs the echo server of this host over stdio.
pub(crate) async fn run_echo(machine: &Machine, name: &str) -> Workload {
    run(machine, name, &exec(), &["--transport", "stdio"]).await
}

/// `status --format json`.
pub(crate) async fn status(machine: &Machine, name: &str) -> Value {
    machine
        .thv(["status", name, "--format", "json"])
        .await
        .ok()
        .json()
}

/// The process of the proxy that serves a workload.
pub(crate) async fn proxy_pid(machine: &Machine, name: &str) -> u32 {
    let status = status(machine, name).await;
    let pid = status["thv"]["proxy_pid"].as_u64().unwrap_or(0);
    assert_ne!(pid, 0, "no proxy: {status}");
    u32::try_from(pid).unwrap()
}

/// A process that is to be killed, named while it lives for certain: it may end by itself first.
pub(crate) struct Victim {
    pid: u32,
    handle: OwnedFd,
}

impl Victim {
    pub(crate) fn new(pid: u32) -> Self {
        let process = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let handle = pidfd_open(process, PidfdFlags::empty()).unwrap();
        Self { pid, handle }
    }

    /// Kills it, and waits for its end: the signal alone is only asked for when `kill` returns.
    pub(crate) fn kill_9(&self) {
        match pidfd_send_signal(&self.handle, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => panic!("{error}"),
        }
        let limit = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        // The end of a child of the test interrupts it.
        let ended = rustix::io::retry_on_intr(|| {
            let mut ends = [PollFd::new(&self.handle, PollFlags::IN)];
            poll(&mut ends, Some(&limit))
        });
        assert_eq!(ended.unwrap(), 1, "process {} survives SIGKILL", self.pid);
    }
}

/// `kill -9` of one that lives, and its end.
pub(crate) fn kill_9(pid: u32) {
    Victim::new(pid).kill_9();
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// The state letter of a process; none when there is no such process.
pub(crate) fn process_state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Whether a process lives: a zombie does not.
pub(crate) fn lives(pid: u32) -> bool {
    process_state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The token of a workload's local server.
pub(crate) async fn token_of(workload: &Workload) -> String {
    let client = Client::connect(&workload.url).await;
    let token = client.call("env", json!({ "name": "TOOLHIVE_INSTANCE" })).await;
    client.close().await;
    token
}

/// The processes whose environment names an instance of the local runtime.
pub(crate) fn with_token(token: &str) -> Vec<u32> {
    let wanted = format!("TOOLHIVE_INSTANCE={token}");
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
    })
    .collect()
}

/// Calls the workload and checks that the answer is to this call.
pub(crate) async fn answers(workload: &Workload) {
    let client = Client::connect(&workload.url).await;
    for text in ["the first", "the second"] {
        assert_eq!(client.call("echo", json!({ "text": text })).await, text);
    }
    client.close().await;
}

/// The status file of a workload, which ToolHive writes too.
pub(crate) fn status_file(machine: &Machine, name: &str) -> PathBuf {
    machine.dirs().statuses().join(format!("{name}.json"))
}

/// The status that is written there. Asking this takes no time: who waits for a moment that passes misses none.
pub(crate) fn written(machine: &Machine, name: &str) -> Option<Value> {
    // It is replaced by renames: what is there is whole.
    serde_json::from_slice(&fs::read(status_file(machine, name)).ok()?).ok()
}

/// Replaces the status file as ToolHive does: five keys, whole, by a rename. It keeps `created_at`.
pub(crate) fn toolhive_writes(machine: &Machine, name: &str, status: &str, process_id: u32) {
    let path = status_file(machine, name);
    let created = fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        .and_then(|file| Some(file["created_at"].as_str()?.to_owned()))
        .unwrap_or_else(|| "2026-08-21T10:12:13.123456789+02:00".to_owned());
    // It was written now, by the clock that started any process before: the strongest case for a pid in it.
    let now = "2099-08-21T10:12:19.5+02:00";
    let text = format!(
        "{{\n  \"status\": \"{status}\",\n  \"created_at\": \"{created}\",\n  \"updated_at\": \"{now}\",\n  \
         \"process_id\": {process_id}\n}}"
    );
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let temporary = path.with_file_name(".tmp-drill");
    fs::write(&temporary, text).unwrap();
    fs::rename(temporary, path).unwrap();
}

/// Everything at and below some paths: mode, times and bytes.
pub(crate) type Tree = BTreeMap<PathBuf, (u32, (i64, i64), Option<Vec<u8>>)>;

/// The state and data directories of a machine.
pub(crate) fn files_of(machine: &Machine) -> Tree {
    let mut found = Tree::new();
    add(&machine.dirs().state, &mut found);
    add(&machine.dirs().data, &mut found);
    assert!(!found.is_empty(), "there is something to change");
    found
}

/// Nothing of `name` is left but what its proxy logged, which is kept.
///
/// # Panics
/// With what is left.
pub(crate) fn assert_no_files_of(machine: &Machine, name: &str) {
    let left = files_of(machine);
    let left: Vec<_> = left
        .keys()
        .filter(|path| path.to_string_lossy().contains(name))
        .filter(|path| !path.starts_with(machine.dirs().proxy_logs()))
        .collect();
    assert!(left.is_empty(), "left: {left:?}");
}

/// All files below `path`.
pub(crate) fn files_below(path: &Path) -> Tree {
    let mut found = Tree::new();
    add(path, &mut found);
    found
}

fn add(path: &Path, found: &mut Tree) {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    let bytes = match metadata.is_file().then(|| fs::read(path)) {
        // It was taken away in between.
        Some(Err(error)) if error.kind() == ErrorKind::NotFound => return,
        read => read.map(Result::unwrap_or_default),
    };
    if metadata.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            add(&entry.path(), found);
        }
    }
    let times = (metadata.mtime(), metadata.mtime_nsec());
    found.insert(path.to_owned(), (metadata.mode(), times, bytes));
}

/// What is different between two trees, in words.
pub(crate) fn assert_same(before: &Tree, after: &Tree) {
    let paths = before.keys().chain(after.keys());
    let changed: Vec<_> = paths
        .filter(|path| before.get(*path) != after.get(*path))
        .collect();
    assert!(changed.is_empty(), "changed by reading: {changed:?}");
}
