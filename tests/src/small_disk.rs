//! A disk that a test can fill.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::requirements::missing;

/// Tells a test that it runs where the disk is.
const HERE: &str = "THV_TEST_SMALL_DISK";
/// Mounts it in a namespace of its own, with which it ends, and goes on as the command that follows.
const MOUNT: &str = r#"mount -t tmpfs -o size=3m,mode=700 tmpfs "$1" && shift && exec "$@""#;

/// A file system of three MiB. A [`Machine`](crate::Machine) that is made now is on it.
#[derive(Debug, Clone)]
pub struct SmallDisk {
    folder: PathBuf,
}

/// The disk, if this is where it is. Otherwise `test`, which calls this, was run once more in a namespace with one (`None`:
/// there is no more to do), or cannot be (`None`: skip).
///
/// # Panics
/// When the test failed there, or cannot be run and `THV_REQUIRE` names `small-disk`.
pub async fn small_disk(test: &'static str) -> Option<SmallDisk> {
    if let Some(folder) = std::env::var_os(HERE) {
        return Some(SmallDisk {
            folder: folder.into(),
        });
    }
    let running = tokio::task::spawn_blocking(move || run(test));
    running.await.expect("the test ends well there");
    None
}

fn run(test: &str) {
    let folder = tempfile::Builder::new().prefix("thv-disk-").tempdir();
    let folder = folder.expect("a temporary folder");
    let on_disk = |program: &Path| {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", MOUNT, "-"])
            .arg(folder.path())
            .arg(program);
        command
    };
    let there = on_disk(Path::new("true")).output();
    if !there.is_ok_and(|output| output.status.success()) {
        missing("small-disk", "a file system cannot be mounted in a namespace");
        return;
    }
    let output = on_disk(&std::env::current_exe().expect("the test's program"))
        .args(["--exact", test, "--nocapture"])
        .env(HERE, folder.path())
        .env("TMPDIR", folder.path())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed, "{said}{}", String::from_utf8_lossy(&output.stderr));
}

impl SmallDisk {
    /// Takes all the space that is left.
    ///
    /// # Panics
    /// When that fails otherwise than by a full disk.
    pub fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.filling())
            .expect("a file");
        for size in [4096, 1] {
            let error = loop {
                if let Err(error) = file.write_all(&vec![0; size]) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
    }

    /// Gives it back.
    ///
    /// # Panics
    /// When it was not taken.
    pub fn clear(&self) {
        std::fs::remove_file(self.filling()).expect("it was filled");
    }

    fn filling(&self) -> PathBuf {
        self.folder.join("filling")
    }
}
