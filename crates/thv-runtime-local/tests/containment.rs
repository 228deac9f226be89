//! What the end of an instance means for processes that do all they can to outlive it, in both forms of containment.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use thv_core::{Dirs, Env, WorkloadName};
use thv_process::{LinuxProcesses, Processes};
use thv_runtime::{DeploySpec, InstanceRef, InstanceState, LogOptions, Runtime, StopOptions};
use thv_runtime_local::{LocalConfig, LocalRuntime};

/// The two forms; without the right to make a namespace the first is the second.
fn forms() -> [Arc<dyn Processes>; 2] {
    [
        Arc::new(LinuxProcesses::new().unwrap()),
        Arc::new(LinuxProcesses::new().unwrap().without_pid_namespaces()),
    ]
}

fn runtime(root: &Path, processes: Arc<dyn Processes>) -> LocalRuntime {
    let env = Env::from_vars([("PATH", "/usr/bin:/bin")]);
    LocalRuntime::new(LocalConfig::new(Dirs::under(root), env, processes).unwrap())
}

fn shell(name: &str, script: &str) -> DeploySpec {
    let mut spec = DeploySpec::new(name.parse().unwrap(), "exec:///bin/sh");
    spec.command = vec!["-c".to_owned(), script.to_owned()];
    spec
}

fn named(name: &WorkloadName) -> InstanceRef {
    InstanceRef::named(name.clone())
}

/// A folder for a runtime. Whoever was started for it and lives on, because a test failed, is killed.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("thv-mark-").tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// An argument that nobody else on this machine has.
    fn mark(&self) -> String {
        self.path().file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// The processes that name it, in their arguments or their environment.
    fn left(&self) -> Vec<u32> {
        let mark = self.mark();
        let names = |file: String| {
            let bytes = std::fs::read(file).unwrap_or_default();
            bytes.windows(mark.len()).any(|part| part == mark.as_bytes())
        };
        let named = |pid: &u32| {
            ["cmdline", "environ"]
                .iter()
                .any(|of| names(format!("/proc/{pid}/{of}")))
        };
        pids().into_iter().filter(named).collect()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Who forks all the time cannot do so without its program.
        let _ = std::fs::remove_dir_all(self.path());
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let left = self.left();
            if left.is_empty() || Instant::now() > deadline {
                return;
            }
            for pid in left {
                let pid = Pid::from_raw(pid.cast_signed()).unwrap();
                // One that is gone by now is what is wanted.
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pid = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries.filter_map(pid).collect()
}

/// The living processes that have `mark` among their arguments.
fn marked(mark: &str) -> Vec<u32> {
    let processes = thv_process::system().unwrap();
    let alive = pids().into_iter().filter(|pid| {
        let facts = processes.facts(*pid).ok().flatten();
        facts.is_some_and(|facts| facts.is_alive() && facts.argv.iter().any(|arg| arg == mark))
    });
    alive.collect()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !is_so() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn said(runtime: &LocalRuntime, name: &WorkloadName, wanted: &str) {
    let opts = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let mut logs = runtime.logs(&named(name), opts).await.unwrap();
    let found = async { while logs.next().await.unwrap().unwrap().line != wanted {} };
    tokio::time::timeout(Duration::from_mins(2), found).await.unwrap();
}

fn program(root: &Path, name: &str, text: &str) -> PathBuf {
    let path = root.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

const GRACE: StopOptions = StopOptions {
    grace: Duration::from_millis(200),
};

/// Ends in a session of its own, without a parent, without the token, deaf to SIGTERM.
fn runaway(mark: &str) -> String {
    format!(
        "(setsid env -i /bin/sh -c 'trap \"\" TERM; echo away >&2; while :; do sleep 1000; done' {mark} &)"
    )
}

/// One process has the mark. What a shell starts has the shell's arguments until it is executed.
async fn is_alone(mark: &str) {
    until("it is alone", || marked(mark).len() == 1).await;
}

#[tokio::test]
async fn who_left_session_parent_and_environment_does_not_survive_stop() {
    for (form, processes) in forms().into_iter().enumerate() {
        let root = Root::new();
        // Stopped by a value that did not start it, as another process would be.
        let (first, second) = (
            runtime(root.path(), processes.clone()),
            runtime(root.path(), processes),
        );
        let mark = root.mark();
        let spec = shell("runaway", &format!("{}; exec cat", runaway(&mark)));
        first.deploy(&spec).await.unwrap();
        said(&first, &spec.name, "away").await;
        is_alone(&mark).await;
        second.stop(&named(&spec.name), GRACE).await.unwrap();
        assert!(marked(&mark).is_empty(), "form {form}");
        second.remove(&named(&spec.name)).await.unwrap();
    }
}

#[tokio::test]
async fn who_left_everything_does_not_survive_remove() {
    for (form, processes) in forms().into_iter().enumerate() {
        let root = Root::new();
        let runtime = runtime(root.path(), processes);
        let mark = root.mark();
        let spec = shell("removed", &format!("{}; exec cat", runaway(&mark)));
        runtime.deploy(&spec).await.unwrap();
        said(&runtime, &spec.name, "away").await;
        runtime.remove(&named(&spec.name)).await.unwrap();
        assert!(marked(&mark).is_empty(), "form {form}");
    }
}

#[tokio::test]
async fn who_left_everything_is_found_although_the_record_says_little_or_nothing() {
    for (form, processes) in forms().into_iter().enumerate() {
        for damage in [|_: &serde_json::Value| "{".to_owned(), unconfirmed] {
            let root = Root::new();
            let (first, second) = (
                runtime(root.path(), processes.clone()),
                runtime(root.path(), processes.clone()),
            );
            let mark = root.mark();
            let script = format!("trap '' TERM; {}; while :; do sleep 1000; done", runaway(&mark));
            let spec = shell("damaged", &script);
            first.deploy(&spec).await.unwrap();
            said(&first, &spec.name, "away").await;
            let path = Dirs::under(root.path())
                .lifecycle()
                .join("instances/damaged.json");
            let record = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            std::fs::write(&path, damage(&record)).unwrap();
            second.stop(&named(&spec.name), GRACE).await.unwrap();
            assert!(marked(&mark).is_empty(), "form {form}");
            second.remove(&named(&spec.name)).await.unwrap();
        }
    }
}

/// As a crash between exec and confirmation leaves it.
fn unconfirmed(record: &serde_json::Value) -> String {
    let mut record = record.clone();
    for key in ["process", "server", "containment"] {
        record[key] = serde_json::Value::Null;
    }
    record.to_string()
}

#[tokio::test]
async fn what_a_server_left_behind_ends_with_it_and_its_exit_code_is_its_own() {
    for (form, processes) in forms().into_iter().enumerate() {
        let root = Root::new();
        let runtime = runtime(root.path(), processes);
        let mark = root.mark();
        let script = format!(
            "env -i /bin/sh -c 'echo left >&2; while :; do sleep 1000; done' {mark} & read line; exit 3"
        );
        let spec = shell("left", &script);
        runtime.deploy(&spec).await.unwrap();
        said(&runtime, &spec.name, "left").await;
        is_alone(&mark).await;
        drop(runtime.attach(&named(&spec.name)).await.unwrap());
        let mut seen = runtime.inspect(&spec.name).await.unwrap().unwrap();
        let deadline = Instant::now() + Duration::from_mins(2);
        while seen.state != InstanceState::Stopped {
            assert!(Instant::now() < deadline, "it ends: {seen:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
            seen = runtime.inspect(&spec.name).await.unwrap().unwrap();
        }
        assert_eq!(seen.exit_code, Some(3), "form {form}");
        assert!(marked(&mark).is_empty(), "form {form}");
    }
}

#[tokio::test]
async fn who_forks_all_the_time_does_not_survive_stop() {
    for (form, processes) in forms().into_iter().enumerate() {
        let root = Root::new();
        let runtime = runtime(root.path(), processes);
        // Whoever lists processes may miss each of them. All have this pipe open, and each writes to it.
        let pipe = root.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from(0o600)).unwrap();
        let open = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(&pipe);
        let mut pipe_out = open.unwrap();
        let script = "#!/bin/sh\ntrap '' TERM\n/bin/sleep 0.002\necho >&3\n\"$0\" &\nexit 0\n";
        let forker = program(root.path(), "forker", script);
        let start = format!(
            "trap '' TERM; exec 3>{}; setsid env -i {} & while :; do sleep 1000; done",
            pipe.display(),
            forker.display()
        );
        let spec = shell("forker", &start);
        runtime.deploy(&spec).await.unwrap();
        let mut seen = [0; 64];
        let mut forks = 0;
        until("the forker forks", || {
            forks += pipe_out.read(&mut seen).unwrap_or(0);
            forks > 1
        })
        .await;
        runtime.stop(&named(&spec.name), GRACE).await.unwrap();
        // Its end is read where nobody has it open any more, behind what was written before.
        let end = loop {
            match pipe_out.read(&mut seen) {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        assert!(end.is_ok(), "form {form}: somebody lives: {end:?}");
    }
}

/// Names the folder in which a copy of this test deploys a server, and waits to be killed.
const SUPERVISOR: &str = "THV_TEST_SUPERVISOR";

#[tokio::test]
async fn a_killed_supervisor_ends_nothing_and_another_stops_everything() {
    let own = "a_killed_supervisor_ends_nothing_and_another_stops_everything";
    if let Ok(told) = std::env::var(SUPERVISOR) {
        let (form, root) = told.split_once(' ').unwrap();
        let runtime = runtime(Path::new(root), forms()[usize::from(form == "1")].clone());
        let mark = Path::new(root).file_name().unwrap().to_str().unwrap();
        let script = format!("{}; while :; do sleep 1000; done", runaway(mark));
        let mut spec = shell("outlives", &script);
        spec.transport = thv_core::TransportType::StreamableHttp;
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        spec.target = Some(thv_runtime::PortBinding {
            container_port: port,
            host_ip: None,
            host_port: port,
        });
        runtime.deploy(&spec).await.unwrap();
        said(&runtime, &spec.name, "away").await;
        println!("\nready");
        return std::future::pending().await;
    }
    for (form, processes) in forms().into_iter().enumerate() {
        let root = Root::new();
        let mut supervisor = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", own, "--nocapture"])
            .env(SUPERVISOR, format!("{form} {}", root.path().display()))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(supervisor.stdout.take().unwrap());
        assert!(std::io::BufRead::lines(output).any(|line| line.unwrap() == "ready"));
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();

        let name: WorkloadName = "outlives".parse().unwrap();
        let mark = root.mark();
        let another = runtime(root.path(), processes);
        let seen = another.inspect(&name).await.unwrap().unwrap();
        assert_eq!(seen.state, InstanceState::Running, "form {form}");
        is_alone(&mark).await;
        another.stop(&named(&name), GRACE).await.unwrap();
        assert!(marked(&mark).is_empty(), "form {form}");
        let seen = another.inspect(&name).await.unwrap().unwrap();
        assert_eq!(seen.state, InstanceState::Stopped, "form {form}");
        another.remove(&named(&name)).await.unwrap();
    }
}
