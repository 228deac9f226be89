//! The programs under test, built with the profile of the tests.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The command line.
///
/// # Panics
/// When it does not build.
pub fn thv() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| folder().join("thv"))
}

/// The command line that kills itself at a crash point when it is told to.
///
/// # Panics
/// When it does not build.
pub fn thv_crash_points() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let what = ["--features", "thv-cli/crash-points", "--bin", "thv-crash-points"];
        build(&what).join("thv-crash-points")
    })
}

/// The echo server as a program of this host.
///
/// # Panics
/// When it does not build.
pub fn echo_server() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| folder().join("echo-server"))
}

/// The example that tells the whole life of a server.
///
/// # Panics
/// When it does not build.
pub fn quickstart() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| folder().join("quickstart"))
}

/// The example that embeds the manager.
///
/// # Panics
/// When it does not build.
pub fn embed() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| folder().join("embed"))
}

/// The workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is a folder of the workspace")
}

/// Cargo, as it runs here.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(workspace());
    command
}

/// Where the programs are, once they are up to date.
fn folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let all = ["thv", "echo-server", "quickstart", "embed"];
    FOLDER
        .get_or_init(|| build(&all.map(|program| ["--bin", program]).concat()))
        .clone()
}

/// Lets cargo build programs of the workspace, and gives their folder. A test executable is at
/// `<target>/<profile>/deps/<name>`.
///
/// Each selection of packages has its own features of what they share. So it is the selection of `cargo test --workspace`,
/// with a test, for whose sake the features that only tests need count: what that built is used, and not built once more.
fn build(what: &[&str]) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("a test is below the target folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let target = folder
        .parent()
        .expect("a profile is a folder of the target folder");
    let status = cargo()
        .args(["build", "--quiet", "--workspace", "--test", "selectors"])
        .args(["--profile", profile])
        .args(what)
        .arg("--target-dir")
        .arg(target)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "{what:?} do not build");
    folder.to_owned()
}
