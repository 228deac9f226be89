//! A Docker of a test's own, that may be filled, cut or restarted.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::requirements::missing;
use crate::{Docker, binaries};

/// A Docker whose data are on a small disk of their own; it ends when it is dropped. Containers have no network there, and
/// it has a network namespace of its own.
#[derive(Debug)]
pub struct PrivateDocker {
    folder: tempfile::TempDir,
    docker: Docker,
}

impl PrivateDocker {
    /// One with so many MiB for its data. `None`, where the other engine of the tests is not from `scripts/engine`: skip.
    ///
    /// # Panics
    /// When it does not start, or there is no other and `THV_REQUIRE` names `private-docker`.
    pub async fn with_disk_of(mebibytes: u32) -> Option<Self> {
        crate::docker().await?;
        let there = engine(["docker", "status"]).output();
        if !there.is_ok_and(|output| output.status.success()) {
            missing("private-docker", "no engine of scripts/engine runs");
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("thv-docker-")
            .tempdir_in("/tmp")
            .expect("a folder");
        std::fs::create_dir(folder.path().join("data")).expect("a folder");
        let docker = Docker::at(folder.path().join("docker.sock"));
        let private = Self { folder, docker };
        // The disk is in the engine's mount namespace alone: it ends with it.
        let script = r#"mount -t tmpfs -o "size=$1" tmpfs "$2/data" && exec "$3" docker start --in "$2""#;
        let mut start = Command::new("unshare");
        start
            .args(["-m", "--propagation", "private", "bash", "-c", script, "-"])
            .arg(format!("{mebibytes}m"))
            .arg(private.folder.path())
            .arg(program());
        let started = tokio::task::spawn_blocking(move || run(start)).await;
        started.expect("no panic");
        Some(private)
    }

    /// The engine.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// The engine's process.
    ///
    /// # Panics
    /// When there is none.
    pub fn pid(&self) -> u32 {
        let file = self.folder.path().join("engine.pid");
        let text = std::fs::read_to_string(file).expect("a pid");
        text.trim().parse().expect("a number")
    }
}

impl Drop for PrivateDocker {
    fn drop(&mut self) {
        let mut stop = engine(["docker", "stop", "--in"]);
        stop.arg(self.folder.path());
        // A panic in a panic would hide the first.
        let _ = stop.output();
    }
}

fn program() -> PathBuf {
    binaries::workspace().join(Path::new("scripts/engine"))
}

fn engine<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(program());
    command.args(args);
    command
}

fn run(mut command: Command) {
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
