//! What stays on disk while instances come and go, and what becomes of what is damaged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use thv_core::{Dirs, Env, WorkloadName};
use thv_runtime::{
    DeploySpec, Expect, InstanceRef, InstanceState, LogOptions, LogRotation, Runtime, StopOptions,
};
use thv_runtime_local::{LocalConfig, LocalRuntime};
use tokio::io::AsyncWriteExt;

fn config(root: &Path) -> LocalConfig {
    let env = Env::from_vars([("PATH", "/usr/bin:/bin")]);
    LocalConfig::new(Dirs::under(root), env, thv_process::system().unwrap()).unwrap()
}

fn runtime(root: &Path) -> LocalRuntime {
    LocalRuntime::new(config(root))
}

fn shell(name: &str, script: &str) -> DeploySpec {
    let mut spec = DeploySpec::new(name.parse().unwrap(), "exec:///bin/sh");
    spec.command = vec!["-c".to_owned(), script.to_owned()];
    spec
}

fn named(name: &WorkloadName) -> InstanceRef {
    InstanceRef::named(name.clone())
}

fn lifecycle(root: &Path, path: &str) -> PathBuf {
    Dirs::under(root).lifecycle().join(path)
}

fn token(root: &Path, name: &str) -> String {
    let text = std::fs::read(lifecycle(root, &format!("instances/{name}.json"))).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
    record["token"].as_str().unwrap().to_owned()
}

fn living(token: &str) -> usize {
    let processes = thv_process::system().unwrap();
    processes.find_by_env("TOOLHIVE_INSTANCE", token).unwrap().len()
}

const FOLLOW: LogOptions = LogOptions {
    tail: None,
    follow: true,
    without_stdout: false,
};

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(2), what).await.unwrap()
}

async fn said(runtime: &LocalRuntime, name: &WorkloadName, wanted: &str) {
    let mut logs = runtime.logs(&named(name), FOLLOW).await.unwrap();
    soon(async { while logs.next().await.unwrap().unwrap().line != wanted {} }).await;
}

#[tokio::test]
async fn home_and_log_outlive_a_restart_and_followers_go_on() {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path());
    let mut spec = shell("kept", "echo first >&2; echo state > state; exec cat");
    let first = runtime.deploy(&spec).await.unwrap();
    let mut logs = runtime.logs(&named(&spec.name), FOLLOW).await.unwrap();
    assert_eq!(soon(logs.next()).await.unwrap().unwrap().line, "first");
    spec = shell("kept", "echo second >&2; cat state >&2; exec cat");
    spec.expect = Expect::Instance(first.instance.id);
    runtime.deploy(&spec).await.unwrap();
    assert_eq!(soon(logs.next()).await.unwrap().unwrap().line, "second");
    assert_eq!(soon(logs.next()).await.unwrap().unwrap().line, "state");
    runtime.remove(&named(&spec.name)).await.unwrap();
    assert!(soon(logs.next()).await.is_none(), "it ends with the workload");
    assert!(!lifecycle(root.path(), "homes/kept").exists());
    assert!(!lifecycle(root.path(), "logs/kept.log").exists());
}

/// As with `sudo`, where it keeps the home: the user's own commands must be able to go on with it, and to remove it.
#[tokio::test]
async fn what_root_makes_for_a_workload_is_whose_folder_it_is_in() {
    let root = tempfile::tempdir().unwrap();
    if chown(root.path(), Some(4711), Some(4712)).is_err() {
        println!("skipped: not root");
        return;
    }
    let runtime = runtime(root.path());
    let spec = shell("theirs", "echo ready >&2; exec cat");
    runtime.deploy(&spec).await.unwrap();
    said(&runtime, &spec.name, "ready").await;
    for path in [
        "homes/theirs",
        "homes/theirs/tmp",
        "logs/theirs.log",
        "instances/theirs.json",
    ] {
        let about = std::fs::metadata(lifecycle(root.path(), path)).unwrap();
        assert_eq!((about.uid(), about.gid()), (4711, 4712), "{path}");
    }
    runtime.remove(&named(&spec.name)).await.unwrap();
}

#[tokio::test]
async fn what_killed_writers_left_goes_with_the_next_change() {
    let root = tempfile::tempdir().unwrap();
    let instances = lifecycle(root.path(), "instances");
    std::fs::create_dir_all(&instances).unwrap();
    let (left, foreign) = (instances.join(".record-left.thv"), instances.join(".foreign"));
    for path in [&left, &foreign] {
        std::fs::write(path, "{").unwrap();
    }
    let runtime = runtime(root.path());
    runtime.list().await.unwrap();
    assert!(left.exists(), "who looks changes nothing");
    let spec = shell("next", "exec cat");
    runtime.deploy(&spec).await.unwrap();
    assert!(!left.exists() && foreign.exists());
    runtime.remove(&named(&spec.name)).await.unwrap();
}

#[tokio::test]
async fn a_replacement_that_fails_leaves_home_and_log_for_the_removal() {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path());
    let mut spec = shell("failed", "echo first >&2; exec cat");
    let first = runtime.deploy(&spec).await.unwrap();
    said(&runtime, &spec.name, "first").await;
    // It is executable, and what it wants to be executed by is not there.
    let broken = root.path().join("broken");
    std::fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&broken, PermissionsExt::from_mode(0o755)).unwrap();
    spec.image = format!("exec://{}", broken.display());
    spec.expect = Expect::Instance(first.instance.id);
    assert_eq!(runtime.deploy(&spec).await.unwrap_err().code(), "image_not_found");
    assert!(lifecycle(root.path(), "logs/failed.log").exists());
    runtime.remove(&named(&spec.name)).await.unwrap();
    for folder in ["instances", "homes", "logs"] {
        let left = std::fs::read_dir(lifecycle(root.path(), folder)).unwrap().count();
        assert_eq!(left, 0, "{folder} is empty");
    }
}

#[tokio::test]
async fn a_long_log_is_rotated_at_a_start_and_removed_with_the_workload() {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path());
    let mut spec = shell("long", "echo ready >&2; exec cat");
    let first = runtime.deploy(&spec).await.unwrap();
    said(&runtime, &spec.name, "ready").await;
    let log = lifecycle(root.path(), "logs/long.log");
    let mut lines = vec![b'x'; (10 << 20) + 1];
    lines.extend_from_slice(b"\nlast\n");
    std::fs::write(&log, &lines).unwrap();
    let mut logs = runtime
        .logs(
            &named(&spec.name),
            LogOptions {
                tail: Some(1),
                ..FOLLOW
            },
        )
        .await
        .unwrap();
    assert_eq!(soon(logs.next()).await.unwrap().unwrap().line, "last");
    spec.expect = Expect::Instance(first.instance.id);
    runtime.deploy(&spec).await.unwrap();
    assert_eq!(soon(logs.next()).await.unwrap().unwrap().line, "ready");
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 6);
    let rotated = lifecycle(root.path(), "logs/long.log.1");
    assert_eq!(std::fs::metadata(&rotated).unwrap().len(), lines.len() as u64);
    runtime.remove(&named(&spec.name)).await.unwrap();
    assert_eq!(
        std::fs::read_dir(lifecycle(root.path(), "logs")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn a_log_is_rotated_while_its_server_runs_and_followers_miss_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config(root.path());
    config.log_rotation = LogRotation {
        size: 2048,
        files: 50,
    };
    let runtime = LocalRuntime::new(config);
    // 2000 lines of 10 bytes: ten files.
    let lines = "i=0; while [ $i -lt 2000 ]; do printf 'line %04d\\n' $i >&2; i=$((i+1)); done";
    let spec = shell("chatty", &format!("read go; {lines}; exec cat"));
    let deployed = runtime.deploy(&spec).await.unwrap();
    let which = InstanceRef::exact(spec.name.clone(), deployed.instance.id);
    let mut streams = runtime.attach(&which).await.unwrap();
    let mut logs = runtime.logs(&which, FOLLOW).await.unwrap();
    streams.stdin.write_all(b"go\n").await.unwrap();
    for number in 0..2000 {
        let line = soon(logs.next()).await.unwrap().unwrap().line;
        assert_eq!(line, format!("line {number:04}"));
    }
    let folder = std::fs::read_dir(lifecycle(root.path(), "logs")).unwrap();
    let sizes: Vec<_> = folder
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    assert!(sizes.len() > 1, "{sizes:?}");
    assert_eq!(sizes.iter().sum::<u64>(), 2000 * 10, "{sizes:?}");
    runtime.remove(&named(&spec.name)).await.unwrap();
    assert_eq!(
        std::fs::read_dir(lifecycle(root.path(), "logs")).unwrap().count(),
        0
    );
}

/// Runs this test anew as a user for whom permissions count; whether this process is that one.
fn unprivileged(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    // The folder of the build may be closed to others.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut again = std::process::Command::new(&program);
    let nobody = 65_534;
    again
        .args(["--exact", test, "--nocapture"])
        .current_dir("/")
        .env("TMPDIR", "/tmp")
        .uid(nobody)
        .gid(nobody);
    // A test beside this one may hold the copy open for writing in a child that has not executed yet.
    let done = loop {
        match again.output() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            done => break done.unwrap(),
        }
    };
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    false
}

#[tokio::test]
async fn folders_without_write_permission_are_removed_and_hinder_no_start() {
    if !unprivileged("folders_without_write_permission_are_removed_and_hinder_no_start") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o555)).unwrap();
    let runtime = runtime(root.path());
    let script = format!(
        "mkdir -p mod/cache/deep; echo x > mod/cache/deep/file; ln -s {} mod/link
        chmod 000 mod/cache/deep; chmod 555 mod/cache mod; echo made >&2; exec cat",
        outside.display()
    );
    let mut spec = shell("readonly", &script);
    let first = runtime.deploy(&spec).await.unwrap();
    said(&runtime, &spec.name, "made").await;
    spec.expect = Expect::Instance(first.instance.id);
    runtime.deploy(&spec).await.unwrap();
    runtime.remove(&named(&spec.name)).await.unwrap();
    assert!(!lifecycle(root.path(), "homes/readonly").exists());
    let mode = std::fs::metadata(&outside).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o555, "what a link points at is not touched");
}

#[tokio::test]
async fn what_has_a_damaged_record_is_seen_stopped_and_removed() {
    with_a_damaged_record(|path| std::fs::write(path, "{").unwrap()).await;
    with_a_damaged_record(|path| {
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
    })
    .await;
}

async fn with_a_damaged_record(damage: impl Fn(&Path)) {
    let root = tempfile::tempdir().unwrap();
    let whole = shell("whole", "exec cat");
    let spec = shell(
        "damaged",
        "trap '' TERM; echo ready >&2; while :; do sleep 1000; done",
    );
    let first = runtime(root.path());
    first.deploy(&whole).await.unwrap();
    let deployed = first.deploy(&spec).await.unwrap();
    said(&first, &spec.name, "ready").await;
    let token = token(root.path(), "damaged");
    damage(&lifecycle(root.path(), "instances/damaged.json"));

    let second = runtime(root.path());
    let listed = second.list().await.unwrap();
    assert_eq!(listed.len(), 2);
    let seen = second.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!(seen.state, InstanceState::Unknown);
    assert!(
        seen.status_text.contains("remove the workload"),
        "{}",
        seen.status_text
    );
    assert!(living(&token) > 0);
    // It may be the one that was meant.
    let which = InstanceRef::exact(spec.name.clone(), deployed.instance.id);
    let grace = Duration::from_millis(100);
    second.stop(&which, StopOptions { grace }).await.unwrap();
    assert_eq!(living(&token), 0);
    second.remove(&which).await.unwrap();
    assert!(second.inspect(&spec.name).await.unwrap().is_none());
    for left in [
        "instances/damaged.json",
        "instances/damaged.lock",
        "homes/damaged",
        "logs/damaged.log",
    ] {
        assert!(!lifecycle(root.path(), left).exists(), "{left}");
    }
    second.remove(&named(&whole.name)).await.unwrap();
}

#[tokio::test]
async fn what_has_a_damaged_record_is_replaced_by_a_start() {
    let root = tempfile::tempdir().unwrap();
    let mut spec = shell("healed", "exec cat");
    let first = runtime(root.path());
    first.deploy(&spec).await.unwrap();
    let token = token(root.path(), "healed");
    std::fs::write(lifecycle(root.path(), "instances/healed.json"), "{").unwrap();
    let second = runtime(root.path());
    assert_eq!(second.deploy(&spec).await.unwrap_err().code(), "conflict");
    let seen = second.inspect(&spec.name).await.unwrap().unwrap();
    spec.expect = Expect::Instance(seen.id);
    second.deploy(&spec).await.unwrap();
    assert_eq!(living(&token), 0);
    second.remove(&named(&spec.name)).await.unwrap();
}

#[tokio::test]
async fn a_record_of_a_newer_version_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let spec = shell("newer", "exec cat");
    let runtime = runtime(root.path());
    runtime.deploy(&spec).await.unwrap();
    let token = token(root.path(), "newer");
    let path = lifecycle(root.path(), "instances/newer.json");
    let kept = std::fs::read(&path).unwrap();
    std::fs::write(&path, r#"{"version": 2, "something": "else"}"#).unwrap();
    let error = runtime.remove(&named(&spec.name)).await.unwrap_err();
    assert_eq!(error.code(), "failed", "{error}");
    assert_eq!(living(&token), 1);
    assert!(path.exists());
    std::fs::write(&path, kept).unwrap();
    runtime.remove(&named(&spec.name)).await.unwrap();
}
