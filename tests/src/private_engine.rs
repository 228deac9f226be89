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
        let folder = place()?;
        command(folder.path(), "start").await;
        let docker = Docker::at(folder.path().join("docker.sock")).await;
        Some(Self { folder, docker })
    }

    /// The same without an image, and with a disk for its data that has this many MiB.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn with_disk_of(mebibytes: u32) -> Option<Self> {
        let folder = place()?;
        std::fs::create_dir(folder.path().join("data")).expect("a folder");
        // The disk is in the engine's mount namespace alone: it ends with it.
        let with_disk = r#"mount -t tmpfs -o "size=$1" tmpfs "$2/data" && exec "$3" docker start --in "$2""#;
        let mut start = Command::new("unshare");
        start
            .args(["-m", "--propagation", "private", "bash", "-c", with_disk, "-"])
            .arg(format!("{mebibytes}m"))
            .arg(folder.path())
            .arg(script());
        let starting = tokio::task::spawn_blocking(move || obeyed(start));
        starting.await.expect("the engine obeys");
        let docker = Docker::without_image(folder.path().join("docker.sock"));
        Some(Self { folder, docker })
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        let text = std::fs::read_to_string(self.folder.path().join("engine.pid"));
        text.expect("it runs").trim().parse().expect("a pid")
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

/// A folder for one. `None`: skip.
fn place() -> Option<TempDir> {
    let there = Command::new(script()).args(["docker", "status"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        missing("docker-of-scripts-engine", "no engine of scripts/engine runs");
        return None;
    }
    static_echo()?;
    let folder = tempfile::Builder::new().prefix("thv-engine-").tempdir_in("/tmp");
    Some(folder.expect("a temporary folder"))
}

async fn command(folder: &Path, command: &'static str) {
    let folder = folder.to_owned();
    let running = tokio::task::spawn_blocking(move || run(&folder, command));
    running.await.expect("the engine obeys");
}

fn run(folder: &Path, command: &str) {
    let mut call = Command::new(script());
    call.args(["docker", command, "--in"]).arg(folder);
    obeyed(call);
}

fn obeyed(mut call: Command) {
    let output = call.output().expect("the script runs");
    let failed = !output.status.success() && !std::thread::panicking();
    assert!(!failed, "{}", String::from_utf8_lossy(&output.stderr));
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/engine")
}
