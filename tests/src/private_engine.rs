//! A Docker of a test's own, which may be stopped and started.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::docker::Docker;
use crate::requirements::{missing, static_echo};

/// An engine in a network namespace of its own, as `scripts/engine docker start --in FOLDER` makes it: stdio servers run
/// there. It goes with the test.
#[derive(Debug)]
pub struct PrivateEngine {
    folder: TempDir,
    docker: Docker,
}

impl PrivateEngine {
    /// Starts one with the echo server's image; `None`: skip, where the engine of the tests is not from that script
    /// either.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Option<Self> {
        let there = Command::new(script()).args(["docker", "status"]).output();
        if !there.is_ok_and(|output| output.status.success()) {
            missing("docker-of-scripts-engine", "no engine of scripts/engine runs");
            return None;
        }
        static_echo()?;
        let folder = tempfile::Builder::new().prefix("thv-engine-").tempdir_in("/tmp");
        let folder = folder.expect("a temporary folder");
        command(folder.path(), "start").await;
        let docker = Docker::at(folder.path().join("docker.sock")).await;
        Some(Self { folder, docker })
    }

    /// The engine.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Stops it, and with it all that runs on it. Returns when it is gone.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn stop(&self) {
        command(self.folder.path(), "stop").await;
    }

    /// Starts it again. Returns when it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&self) {
        command(self.folder.path(), "start").await;
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        run(self.folder.path(), "stop");
    }
}

async fn command(folder: &Path, command: &'static str) {
    let folder = folder.to_owned();
    let running = tokio::task::spawn_blocking(move || run(&folder, command));
    running.await.expect("the engine obeys");
}

fn run(folder: &Path, command: &str) {
    let mut call = Command::new(script());
    let output = call.args(["docker", command, "--in"]).arg(folder).output();
    let output = output.expect("the script runs");
    let failed = !output.status.success() && !std::thread::panicking();
    assert!(!failed, "{}", String::from_utf8_lossy(&output.stderr));
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/engine")
}
