//! What a host may lack.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::binaries;

/// The virtual environment with `mcp-server-time` and the official client, or `None`: skip.
///
/// # Panics
/// When there is none and `THV_REQUIRE` names `python`.
pub fn python() -> Option<PathBuf> {
    let folder = prepared("THV_TEST_PYTHON_VENV", "python");
    present("python", folder, "bin/mcp-server-time")
}

/// The folder with `node_modules/.bin/mcp-server-everything`, or `None`: skip.
///
/// # Panics
/// When there is none and `THV_REQUIRE` names `node`.
pub fn node() -> Option<PathBuf> {
    let folder = prepared("THV_TEST_NODE_DIR", "node");
    present("node", folder, "node_modules/.bin/mcp-server-everything")
}

/// The folder with the official conformance suite and the `node` that it needs, or `None`: skip.
///
/// # Panics
/// When there is none and `THV_REQUIRE` names `conformance`.
pub fn conformance() -> Option<PathBuf> {
    let folder = prepared("THV_TEST_CONFORMANCE_DIR", "conformance");
    present("conformance", folder, "node")
}

/// Debian's `docker-registry`, or `None`: skip.
///
/// # Panics
/// When there is none and `THV_REQUIRE` names `registry`.
pub(crate) fn docker_registry() -> Option<PathBuf> {
    let folder = prepared("THV_TEST_REGISTRY_DIR", "registry");
    let folder = present("registry", folder, "usr/bin/docker-registry")?;
    Some(folder.join("usr/bin/docker-registry"))
}

/// Whether there is `systemd-analyze`; `false`: skip.
///
/// # Panics
/// When there is none and `THV_REQUIRE` names `systemd-analyze`.
pub fn systemd_analyze() -> bool {
    let there = runs(OsStr::new("systemd-analyze"));
    if !there {
        missing("systemd-analyze", "there is no systemd-analyze");
    }
    there
}

/// Whether there is `script`, which gives a command a terminal; `false`: skip.
///
/// # Panics
/// When there is none and `THV_REQUIRE` names `script`.
pub(crate) fn script() -> bool {
    let there = runs(OsStr::new("script"));
    if !there {
        missing("script", "there is no script, which is in util-linux");
    }
    there
}

/// The echo server as a static binary: given, else built. `None`: skip.
pub(crate) fn static_echo() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    static_program(&BUILT, "THV_TEST_STATIC_ECHO", "static-echo")
}

/// The helper of isolated workloads as a static binary: given, else built. `None`: skip.
///
/// # Panics
/// When there is none and `THV_REQUIRE` names `static-egress`.
pub fn static_egress() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    static_program(&BUILT, "THV_TEST_STATIC_EGRESS", "static-egress")
}

fn static_program(built: &OnceLock<Option<PathBuf>>, variable: &str, task: &str) -> Option<PathBuf> {
    let built = built.get_or_init(|| {
        if let Some(path) = std::env::var_os(variable) {
            return Some(PathBuf::from(path));
        }
        let output = binaries::cargo()
            .args(["run", "--quiet", "--package", "xtask", "--", task])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
    });
    let path = built.clone().filter(|path| path.is_file());
    if path.is_none() {
        missing(
            task,
            &format!("a static program cannot be built: see cargo xtask {task}"),
        );
    }
    path
}

/// Says on one line, past the test harness's capture, why a test skips.
///
/// # Panics
/// When `THV_REQUIRE` names `word`.
pub(crate) fn missing(word: &str, why: &str) {
    let required = std::env::var("THV_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name.trim() == word),
        "{word} is required: {why}"
    );
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Where `scripts/test-setup` puts things.
fn prepared(variable: &str, folder: &str) -> PathBuf {
    let var = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    var(variable).unwrap_or_else(|| {
        let cache = || {
            Some(
                var("XDG_CACHE_HOME")
                    .unwrap_or(var("HOME")?.join(".cache"))
                    .join("thv-tests"),
            )
        };
        var("THV_TEST_CACHE")
            .or_else(cache)
            .unwrap_or_default()
            .join(folder)
    })
}

fn present(word: &str, folder: PathBuf, program: &str) -> Option<PathBuf> {
    let program = folder.join(program);
    if program.is_file() && (word != "node" || runs(OsStr::new("node"))) {
        return Some(folder);
    }
    let program = Path::new(&program).display();
    missing(
        word,
        &format!("there is no {program}: source <(scripts/test-setup)"),
    );
    None
}

fn runs(program: &OsStr) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
