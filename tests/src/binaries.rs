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
        let what = [
            "thv-cli",
            "--features",
            "crash-points",
            "--bin",
            "thv-crash-points",
        ];
        build(["--package"].into_iter().chain(what)).join("thv-crash-points")
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

/// Where the programs are, once they are up to date. All of them in one go: each selection of packages has its own
/// features of the dependencies, and what they share would be built once for each.
fn folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let packages = ["thv-cli", "echo-server", "quickstart", "embed"];
    let build_all = || build(packages.iter().flat_map(|package| ["--package", package]));
    FOLDER.get_or_init(build_all).clone()
}

/// Lets cargo build, and gives the folder of programs. A test executable is at `<target>/<profile>/deps/<name>`.
fn build<'a>(what: impl IntoIterator<Item = &'a str> + Clone) -> PathBuf {
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
        .args(["build", "--quiet", "--profile", profile])
        .args(what.clone())
        .arg("--target-dir")
        .arg(target)
        .status()
        .expect("cargo runs");
    assert!(
        status.success(),
        "{:?} do not build",
        what.into_iter().collect::<Vec<_>>()
    );
    folder.to_owned()
}
