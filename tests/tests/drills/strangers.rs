//! Drill: the pid of an unrelated process in ToolHive's files. Who is not proved to be the proxy is never signalled.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use thv::core::WorkloadStatus;
use thv_tests::Machine;

use crate::drill::{answers, kill_9, lives, proxy_pid, run_echo, toolhive_writes};

/// A process that has nothing to do with anything.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        let mut sleep = Command::new("sleep");
        sleep.arg("600").stdin(Stdio::null());
        Self(sleep.spawn().expect("sleep runs"))
    }

    /// What would be ToolHive's proxy of `name`, if it were not another user's.
    fn like_a_proxy(name: &str) -> Self {
        const NOBODY: u32 = 65_534;
        let folder = tempfile::tempdir().expect("a folder");
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), readable).expect("it is ours");
        fs::write(
            folder.path().join("start"),
            "echo ready\nwhile :; do sleep 0.05; done\n",
        )
        .expect("written");
        let mut shell = Command::new("sh");
        shell
            .args(["start", name])
            .current_dir(folder.path())
            .env("TOOLHIVE_DETACHED", "1")
            .uid(NOBODY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut stranger = Self(shell.spawn().expect("a shell"));
        let mut ready = String::new();
        let said = stranger.0.stdout.as_mut().expect("a pipe");
        BufReader::new(said)
            .read_line(&mut ready)
            .expect("it has read its program");
        assert_eq!(ready, "ready\n");
        stranger
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes `pid` where ToolHive would: into the status file, with any status, and into the PID file.
fn write_pid(machine: &Machine, name: &str, status: &str, pid: u32, file: File) {
    match file {
        File::Status => toolhive_writes(machine, name, status, pid),
        File::Pid => {
            toolhive_writes(machine, name, status, 0);
            fs::create_dir_all(machine.dirs().pids()).expect("a folder");
            let path = machine.dirs().pids().join(format!("toolhive-{name}.pid"));
            fs::write(path, format!("{pid}\n")).expect("a file");
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum File {
    Status,
    Pid,
}

/// Lets every verb loose on a workload whose files name `pid`.
async fn survives_every_verb(machine: &Machine, name: &str, pid: u32, file: File) {
    let alive = |verb: &str| assert!(lives(pid), "{verb} with its pid in the {file:?} file ended it");
    run_echo(machine, name).await;
    // While our proxy lives.
    write_pid(machine, name, "running", pid, file);
    machine.workload(name).await;
    machine.thv(["start", name]).await.ok();
    alive("start");
    write_pid(machine, name, "running", pid, file);
    machine.thv(["restart", name, "--wait=1m"]).await.ok();
    alive("restart");
    write_pid(machine, name, "running", pid, file);
    machine.thv(["stop", name]).await.ok();
    alive("stop");
    assert_eq!(machine.workload(name).await.status, WorkloadStatus::Stopped);
    // While nobody serves it.
    write_pid(machine, name, "running", pid, file);
    assert_ne!(
        machine.workload(name).await.status,
        WorkloadStatus::Running,
        "it is not its proxy"
    );
    machine.thv(["stop", name]).await.ok();
    alive("stop of a stopped one");
    write_pid(machine, name, "stopping", pid, file);
    machine.thv(["start", name, "--wait=1m"]).await.ok();
    alive("start of a stopped one");
    // After our proxy was killed.
    kill_9(proxy_pid(machine, name).await);
    write_pid(machine, name, "running", pid, file);
    machine.thv(["start", name, "--wait=1m"]).await.ok();
    alive("start after a kill");
    answers(&machine.workload(name).await).await;
    kill_9(proxy_pid(machine, name).await);
    write_pid(machine, name, "running", pid, file);
    machine.thv(["rm", name]).await.ok();
    alive("rm");
    assert!(
        machine
            .workloads()
            .await
            .iter()
            .all(|workload| workload.name != name)
    );
}

#[tokio::test]
async fn a_stranger_in_the_status_file_survives() {
    let stranger = Stranger::new();
    let machine = Machine::new();
    let name = machine.name("stranger");
    survives_every_verb(&machine, &name, stranger.pid(), File::Status).await;
    machine.assert_nothing_lives(&[]);
}

#[tokio::test]
async fn a_stranger_in_the_pid_file_survives() {
    let stranger = Stranger::new();
    let machine = Machine::new();
    let name = machine.name("stranger");
    survives_every_verb(&machine, &name, stranger.pid(), File::Pid).await;
    machine.assert_nothing_lives(&[]);
}

#[tokio::test]
async fn the_process_of_another_user_survives_though_it_looks_like_a_proxy() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can begin a process of another user");
        return;
    }
    let machine = Machine::new();
    let name = machine.name("stranger");
    let stranger = Stranger::like_a_proxy(&name);
    survives_every_verb(&machine, &name, stranger.pid(), File::Status).await;
    machine.assert_nothing_lives(&[]);
}

#[tokio::test]
async fn the_proxy_of_another_workload_survives() {
    let machine = Machine::new();
    let name = machine.name("foo");
    // ToolHive takes the proxy of `foo-bar` for that of `foo`.
    let other = format!("{name}-bar");
    let bystander = run_echo(&machine, &other).await;
    let pid = proxy_pid(&machine, &other).await;
    survives_every_verb(&machine, &name, pid, File::Status).await;
    answers(&bystander).await;
    assert_eq!(proxy_pid(&machine, &other).await, pid);
}
