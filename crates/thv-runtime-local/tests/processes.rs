//! What the local runtime promises beyond the contract.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use thv_core::{Dirs, Env, TransportType, WorkloadName};
use thv_process::{LinuxProcesses, Processes};
use thv_runtime::{
    DeployOutcome, DeploySpec, EventFilter, EventKind, Expect, InstanceId, InstanceRef, InstanceState,
    LogOptions, PortBinding, Runtime, StopOptions,
};
use thv_runtime_local::{LocalConfig, LocalRuntime};
use tokio::io::{AsyncBufReadExt, BufReader};

fn runtime_with(root: &Path, processes: Arc<dyn Processes>) -> LocalRuntime {
    let env = Env::from_vars([("PATH", "/usr/bin:/bin"), ("SHOULD_NOT_LEAK", "leaked")]);
    LocalRuntime::new(LocalConfig::new(Dirs::under(root), env, processes).unwrap())
}

fn runtime(root: &Path) -> LocalRuntime {
    runtime_with(root, thv_process::system().unwrap())
}

fn shell(name: &str, script: &str) -> DeploySpec {
    let mut spec = DeploySpec::new(name.parse().unwrap(), "exec:///bin/sh");
    spec.command = vec!["-c".to_owned(), script.to_owned()];
    spec
}

fn named(name: &WorkloadName) -> InstanceRef {
    InstanceRef::named(name.clone())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn over_http(mut spec: DeploySpec, port: u16) -> DeploySpec {
    spec.transport = TransportType::StreamableHttp;
    spec.target = Some(PortBinding {
        container_port: port,
        host_ip: None,
        host_port: port,
    });
    spec
}

/// Follows the log until the server said that line.
async fn said(runtime: &LocalRuntime, name: &WorkloadName, wanted: &str) {
    let opts = LogOptions {
        tail: None,
        follow: true,
        ..LogOptions::default()
    };
    let mut logs = runtime.logs(&named(name), opts).await.unwrap();
    let found = async { while logs.next().await.unwrap().unwrap().line != wanted {} };
    soon(found).await;
}

/// What comes, however slow the machine is.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(2), what).await.unwrap()
}

fn record(root: &Path, name: &str) -> serde_json::Value {
    let path = Dirs::under(root)
        .lifecycle()
        .join(format!("instances/{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn token(root: &Path, name: &str) -> String {
    record(root, name)["token"].as_str().unwrap().to_owned()
}

/// Everything below `root` that contains `text`.
fn files_with(root: &Path, text: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(text) {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn stop_ends_the_whole_tree_also_what_left_the_session_and_ignores_sigterm() {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path());
    let script = "trap '' TERM
        (setsid sh -c 'trap \"\" TERM; sleep 1000 & echo grandchild >&2; wait; sleep 1000' &) &
        wait; echo leader >&2; while :; do sleep 1000; done";
    let spec = shell("tree", script);
    runtime.deploy(&spec).await.unwrap();
    said(&runtime, &spec.name, "grandchild").await;
    said(&runtime, &spec.name, "leader").await;
    let processes = thv_process::system().unwrap();
    let token = token(root.path(), "tree");
    // A shell has spoken before it has started what comes next.
    let all = async {
        while processes.find_by_env("TOOLHIVE_INSTANCE", &token).unwrap().len() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(all).await;
    let opts = StopOptions {
        grace: Duration::from_millis(200),
    };
    runtime.stop(&named(&spec.name), opts).await.unwrap();
    assert!(
        processes
            .find_by_env("TOOLHIVE_INSTANCE", &token)
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        runtime.inspect(&spec.name).await.unwrap().unwrap().state,
        InstanceState::Stopped
    );
}

#[tokio::test]
async fn a_server_that_ignores_sigterm_stops_at_once_because_its_stdin_is_closed() {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path());
    let spec = shell("stubborn", "trap '' TERM; echo ready >&2; exec cat");
    runtime.deploy(&spec).await.unwrap();
    said(&runtime, &spec.name, "ready").await;
    // Without the closed stdin it takes the whole grace.
    let patient = StopOptions {
        grace: Duration::from_hours(1),
    };
    soon(runtime.stop(&named(&spec.name), patient)).await.unwrap();
}

#[tokio::test]
async fn a_server_gets_the_documented_environment_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path());
    let mut spec = DeploySpec::new("env".parse().unwrap(), "exec:///usr/bin/env");
    spec.env.insert("GIVEN".to_owned(), "yes".to_owned());
    runtime.deploy(&spec).await.unwrap();
    let stdio = runtime.attach(&named(&spec.name)).await.unwrap();
    let mut lines = BufReader::new(stdio.stdout).lines();
    let mut seen = std::collections::BTreeMap::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let (name, value) = line.split_once('=').unwrap();
        seen.insert(name.to_owned(), value.to_owned());
    }
    let dirs = Dirs::under(root.path());
    let home = dirs.lifecycle().join("homes/env").display().to_string();
    let cache = |name: &str| dirs.cache.join("toolhive").join(name).display().to_string();
    let documented = [
        ("GIVEN", "yes".to_owned()),
        ("HOME", home.clone()),
        ("LANG", "C.UTF-8".to_owned()),
        ("PATH", "/usr/bin:/bin".to_owned()),
        ("TMPDIR", format!("{home}/tmp")),
        ("TOOLHIVE_INSTANCE", token(root.path(), "env")),
        ("UV_CACHE_DIR", cache("uv")),
        ("UV_PYTHON_INSTALL_DIR", cache("uv-python")),
        ("UV_TOOL_DIR", cache("uv-tools")),
        ("npm_config_cache", cache("npm")),
    ];
    let documented = documented.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(seen, documented.into());
}

#[tokio::test]
async fn values_of_the_environment_are_nowhere_on_disk_and_folders_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path());
    let mut spec = shell("secret", "echo ready >&2; exec cat");
    spec.env.insert("API_KEY".to_owned(), "hunter2-9f31".to_owned());
    runtime.deploy(&spec).await.unwrap();
    said(&runtime, &spec.name, "ready").await;
    assert_eq!(
        files_with(root.path(), "hunter2-9f31"),
        Vec::<std::path::PathBuf>::new()
    );
    let lifecycle = Dirs::under(root.path()).lifecycle();
    let mode = |path: &str| {
        std::fs::metadata(lifecycle.join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("instances"), mode("homes/secret"), mode("logs")),
        (0o700, 0o700, 0o700)
    );
    assert_eq!(
        (mode("instances/secret.json"), mode("logs/secret.log")),
        (0o600, 0o600)
    );
    runtime.remove(&named(&spec.name)).await.unwrap();
    for folder in ["instances", "homes", "logs"] {
        assert_eq!(
            std::fs::read_dir(lifecycle.join(folder)).unwrap().count(),
            0,
            "{folder} is empty"
        );
    }
}

#[tokio::test]
async fn another_value_cannot_attach_and_hears_the_end() {
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (runtime(root.path()), runtime(root.path()));
    let spec = shell("other", "exec cat");
    first.deploy(&spec).await.unwrap();
    assert_eq!(
        second.attach(&named(&spec.name)).await.unwrap_err().code(),
        "unsupported"
    );
    let mut events = second.events(EventFilter::of(spec.name.clone())).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Synced);
    drop(first.attach(&named(&spec.name)).await.unwrap());
    let event = soon(events.next()).await.unwrap().unwrap();
    assert!(matches!(event.kind, EventKind::Exited { .. }), "{event:?}");
}

#[tokio::test]
async fn what_was_started_and_not_confirmed_is_found_and_ended() {
    let root = tempfile::tempdir().unwrap();
    let processes = thv_process::system().unwrap();
    let first = runtime(root.path());
    let mut spec = shell("orphan", "trap '' TERM; echo ready >&2; sleep 1000");
    let deployed = first.deploy(&spec).await.unwrap();
    said(&first, &spec.name, "ready").await;
    // As a crash between exec and confirmation leaves it.
    let mut unconfirmed = record(root.path(), "orphan");
    unconfirmed["process"] = serde_json::Value::Null;
    let path = Dirs::under(root.path()).lifecycle().join("instances/orphan.json");
    std::fs::write(path, unconfirmed.to_string()).unwrap();
    let token = token(root.path(), "orphan");

    let second = runtime(root.path());
    assert_eq!(
        second.inspect(&spec.name).await.unwrap().unwrap().state,
        InstanceState::Starting
    );
    spec.expect = Expect::Instance(deployed.instance.id);
    spec.command = vec!["-c".to_owned(), "exec cat".to_owned()];
    second.deploy(&spec).await.unwrap();
    assert!(
        processes
            .find_by_env("TOOLHIVE_INSTANCE", &token)
            .unwrap()
            .is_empty(),
        "the orphan is gone"
    );
    second.remove(&named(&spec.name)).await.unwrap();
}

#[tokio::test]
async fn after_a_restart_of_the_machine_it_is_stopped_and_nobody_is_signalled() {
    let root = tempfile::tempdir().unwrap();
    let first = runtime(root.path());
    let spec = shell("rebooted", "exec cat");
    first.deploy(&spec).await.unwrap();
    let rebooted = runtime_with(
        root.path(),
        Arc::new(LinuxProcesses::with_boot_id("another").unwrap()),
    );
    let seen = rebooted.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!(
        (seen.state, seen.status_text.as_str()),
        (InstanceState::Stopped, "machine restarted")
    );
    rebooted
        .stop(&named(&spec.name), StopOptions::default())
        .await
        .unwrap();
    assert_eq!(
        first.inspect(&spec.name).await.unwrap().unwrap().state,
        InstanceState::Running
    );
    first.remove(&named(&spec.name)).await.unwrap();
}

#[tokio::test]
async fn a_pid_that_is_anothers_by_now_is_stopped_and_the_other_lives() {
    let root = tempfile::tempdir().unwrap();
    let first = runtime(root.path());
    let spec = shell("recycled", "exec cat");
    first.deploy(&spec).await.unwrap();
    first
        .stop(&named(&spec.name), StopOptions::default())
        .await
        .unwrap();
    let stranger = thv_process::system().unwrap();
    let stranger = stranger
        .spawn_detached(thv_process::DetachedSpec::new("/bin/sleep").args(["1000"]))
        .unwrap();
    let mut forged = record(root.path(), "recycled");
    forged["process"]["pid"] = stranger.identity().pid.into();
    let path = Dirs::under(root.path())
        .lifecycle()
        .join("instances/recycled.json");
    std::fs::write(path, forged.to_string()).unwrap();
    let second = runtime(root.path());
    assert_eq!(
        second.inspect(&spec.name).await.unwrap().unwrap().state,
        InstanceState::Stopped
    );
    second.remove(&named(&spec.name)).await.unwrap();
    assert!(
        stranger.signal(thv_process::Signal::Kill).unwrap(),
        "the stranger lived"
    );
}

#[tokio::test]
async fn what_cannot_be_executed_is_named_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path());
    let plain = root.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    for (image, code) in [
        ("exec:///no/such/program".to_owned(), "image_not_found"),
        (format!("exec://{}", plain.display()), "denied"),
        ("exec:///tmp".to_owned(), "invalid"),
        ("exec://relative".to_owned(), "invalid"),
        ("docker.example/image:1".to_owned(), "invalid"),
        (
            "uvx://".to_owned(),
            if Path::new("/usr/bin/uvx").exists() {
                "invalid"
            } else {
                "image_not_found"
            },
        ),
    ] {
        let spec = DeploySpec::new("bad".parse().unwrap(), &image);
        let error = runtime.deploy(&spec).await.unwrap_err();
        assert_eq!(error.code(), code, "{image}: {error}");
        assert!(runtime.inspect(&spec.name).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_changed_secret_replaces_a_server_and_an_equal_one_does_not() {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path());
    let mut spec = over_http(shell("reused", "exec sleep 1000"), free_port());
    spec.env.insert("API_KEY".to_owned(), "one".to_owned());
    let first = runtime.deploy(&spec).await.unwrap();
    spec.expect = Expect::Instance(first.instance.id.clone());
    let same = runtime.deploy(&spec).await.unwrap();
    assert_eq!(same.instance.id, first.instance.id);
    spec.env.insert("API_KEY".to_owned(), "two".to_owned());
    let changed = runtime.deploy(&spec).await.unwrap();
    assert_ne!(changed.instance.id, first.instance.id);
    runtime.remove(&named(&spec.name)).await.unwrap();
}

#[tokio::test]
async fn a_server_is_the_same_while_it_becomes_another_program() {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path());
    let mut spec = over_http(shell("becomes", r#"ulimit -t 20; eval "$AGAIN""#), free_port());
    spec.env
        .insert("AGAIN".to_owned(), r#"exec sh -c 'eval "$AGAIN"'"#.to_owned());
    let first = runtime.deploy(&spec).await.unwrap();
    spec.expect = Expect::Instance(first.instance.id.clone());
    for _ in 0..200 {
        let same = runtime.deploy(&spec).await.unwrap();
        assert_eq!(same.outcome, DeployOutcome::AlreadyRunning);
    }
    runtime.remove(&named(&spec.name)).await.unwrap();
}

#[tokio::test]
async fn a_busy_port_is_an_error_that_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path());
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = over_http(
        shell("busy", "exec sleep 1000"),
        busy.local_addr().unwrap().port(),
    );
    assert_eq!(runtime.deploy(&spec).await.unwrap_err().code(), "port_taken");
    assert!(runtime.inspect(&spec.name).await.unwrap().is_none());
}

#[tokio::test]
async fn an_identical_server_of_another_value_is_stopped_and_not_reused() {
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (runtime(root.path()), runtime(root.path()));
    let mut spec = over_http(shell("outlived", "exec sleep 1000"), free_port());
    let deployed = first.deploy(&spec).await.unwrap();
    let before = token(root.path(), "outlived");
    spec.expect = Expect::Instance(deployed.instance.id.clone());
    let again = second.deploy(&spec).await.unwrap();
    assert_eq!(again.outcome, DeployOutcome::Replaced);
    assert_ne!(again.instance.id, deployed.instance.id);
    let processes = thv_process::system().unwrap();
    assert!(
        processes
            .find_by_env("TOOLHIVE_INSTANCE", &before)
            .unwrap()
            .is_empty()
    );
    // Its new owner learns how it ends.
    second
        .stop(&named(&spec.name), StopOptions::default())
        .await
        .unwrap();
    let seen = second.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!(seen.exit_code, Some(143));
    second.remove(&named(&spec.name)).await.unwrap();
}

#[tokio::test]
async fn a_refused_deployment_leaves_no_file() {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path());
    let left = || files_with(root.path(), "");
    let nothing = Vec::<std::path::PathBuf>::new();
    let mut spec = shell("nothing", "exec cat");
    spec.expect = Expect::Instance(InstanceId::new("somebody"));
    assert_eq!(runtime.deploy(&spec).await.unwrap_err().code(), "conflict");
    assert_eq!(left(), nothing);
    spec.expect = Expect::Absent;
    spec.env.insert("ZERO".to_owned(), "a\0b".to_owned());
    assert_eq!(runtime.deploy(&spec).await.unwrap_err().code(), "invalid");
    assert_eq!(left(), nothing);
    spec.env.clear();
    "exec:///no/such/program".clone_into(&mut spec.image);
    assert_eq!(runtime.deploy(&spec).await.unwrap_err().code(), "image_not_found");
    assert_eq!(left(), nothing);
}
