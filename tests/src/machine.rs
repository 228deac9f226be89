//! A machine of a test's own: directories, environment, and an end for all that was started on it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use thv::core::{Dirs, Workload};
use tokio::process::Command;

use crate::{Docker, Output, thv};

/// No command of a test takes longer.
const COMMAND: Duration = Duration::from_mins(5);

/// An installation that shares nothing with the host's, nor with another test's.
///
/// It has no engine unless it was made [`with_docker`](Self::with_docker). Dropping it kills every process whose
/// environment names its folder, and removes every container that carries its owner's id.
#[derive(Debug)]
pub struct Machine {
    folder: TempDir,
    dirs: Dirs,
    env: BTreeMap<OsString, OsString>,
    docker: Option<Docker>,
}

impl Machine {
    /// A machine without a container engine: `DOCKER_HOST` names a socket that is not there.
    ///
    /// # Panics
    /// When there is no room for temporary files.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("thv-test-")
            .tempdir()
            .expect("a temporary folder");
        let dirs = Dirs::under(folder.path());
        let runtime = dirs.runtime.clone().unwrap_or_else(|| folder.path().join("run"));
        for made in [&dirs.home, &dirs.temp, &runtime] {
            std::fs::create_dir(made).expect("a folder in a temporary folder");
        }
        let nowhere = format!("unix://{}", folder.path().join("no-engine.sock").display());
        let env = [
            ("HOME", dirs.home.as_os_str()),
            ("XDG_CONFIG_HOME", dirs.config.as_os_str()),
            ("XDG_DATA_HOME", dirs.data.as_os_str()),
            ("XDG_STATE_HOME", dirs.state.as_os_str()),
            ("XDG_CACHE_HOME", dirs.cache.as_os_str()),
            ("XDG_RUNTIME_DIR", runtime.as_os_str()),
            ("TMPDIR", dirs.temp.as_os_str()),
            ("PATH", &std::env::var_os("PATH").unwrap_or_default()),
            ("DOCKER_HOST", OsStr::new(&nowhere)),
        ];
        let env = env.map(|(name, value)| (name.into(), value.to_owned())).into();
        Self {
            folder,
            dirs,
            env,
            docker: None,
        }
    }

    /// A machine with this engine.
    pub fn with_docker(docker: &Docker) -> Self {
        let mut machine = Self::new();
        machine.set("DOCKER_HOST", docker.host());
        machine.docker = Some(docker.clone());
        machine
    }

    /// Sets a variable of the environment of its commands.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> &mut Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// The folder that holds all of it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its base directories.
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// A workload's name that no other test uses.
    pub fn name(&self, stem: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!(
            "{stem}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// Runs `thv` to its end.
    ///
    /// # Panics
    /// When it does not end in five minutes, standard output and error closed by all who have them.
    pub async fn thv<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.finish(self.command(args)).await
    }

    /// `thv` with these arguments, to be started; a dropped child is killed.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.program(thv());
        command.args(args);
        command
    }

    /// A program with the environment of this machine.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(&self.env)
            .current_dir(&self.dirs.home)
            .kill_on_drop(true);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// As [`thv`](Self::thv).
    pub async fn finish(&self, mut command: Command) -> Output {
        let line = format!("{:?}", command.as_std());
        let output = tokio::time::timeout(COMMAND, command.output());
        let output = output
            .await
            .unwrap_or_else(|_| panic!("did not end in {COMMAND:?}: {line}"));
        let output = output.unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        Output {
            command: line,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// All workloads, as `list --all` shows them.
    ///
    /// # Panics
    /// When the list cannot be had.
    pub async fn workloads(&self) -> Vec<Workload> {
        let output = self.thv(["list", "--all", "--format", "json"]).await.ok();
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("not a list ({error}): {output}"))
    }

    /// One workload, as `list --all` shows it; others on the same engine are in that list too.
    ///
    /// # Panics
    /// When the list cannot be had.
    pub async fn find(&self, name: &str) -> Option<Workload> {
        self.workloads()
            .await
            .into_iter()
            .find(|workload| workload.name == name)
    }

    /// One workload that is there, as `list --all` shows it.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn workload(&self, name: &str) -> Workload {
        self.find(name)
            .await
            .unwrap_or_else(|| panic!("list --all does not show {name}"))
    }

    /// The living processes that were started on this machine: proxies, servers and what those started.
    pub fn processes(&self) -> Vec<u32> {
        let folder = self.folder.path().as_os_str().as_encoded_bytes();
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| named_in(folder, *pid)).collect()
    }

    /// Nothing lives here any more, and nobody listens on these ports.
    ///
    /// # Panics
    /// When something does.
    #[track_caller]
    pub fn assert_nothing_lives(&self, ports: &[u16]) {
        let processes = self.processes();
        let shown = processes.iter().map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " "))
        });
        assert!(
            processes.is_empty(),
            "still alive: {:?}",
            shown.collect::<Vec<_>>()
        );
        for port in ports {
            let bound = std::net::TcpListener::bind(("127.0.0.1", *port));
            assert!(bound.is_ok(), "port {port} is not free: {bound:?}");
        }
    }

    fn kill_everything(&self) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let pids = self.processes();
            if pids.is_empty() || Instant::now() > end {
                return;
            }
            for pid in pids {
                if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                    // One that is gone by now is what is wanted.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill_everything();
        if let Some(docker) = &self.docker
            && let Ok(owner) = std::fs::read_to_string(self.dirs.lifecycle().join("owner-id"))
        {
            docker.remove_all_of(owner.trim());
        }
    }
}

/// Whether the environment of a process names the folder. A zombie has none.
fn named_in(folder: &[u8], pid: u32) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.windows(folder.len()).any(|part| part == folder)
}
