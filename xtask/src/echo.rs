//! The echo server as a static binary, and as an image made of nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo::{cargo, run};

/// The gnu target, not musl: it is installed wherever Rust is.
fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Builds it and gives its path. It has a target folder of its own, so that its flags do not make the other builds stale.
pub(crate) fn build(root: &Path) -> Result<PathBuf, String> {
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder))
        .join("static");
    let target = target();
    let mut command = cargo(root);
    // With --target the flags are not applied to build scripts and macros, which cannot be static.
    command
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "echo-server",
            "--target",
            &target,
        ])
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Flags and profiles of the caller (a test, a coverage run) are not meant for this binary.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdout(Stdio::null());
    run(&mut command)?;
    let binary = folder.join(&target).join("release").join("echo-server");
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(format!("{} was not built", binary.display()))
    }
}

/// Builds it, imports it as an image named `tag` and gives the image's id.
pub(crate) fn import(root: &Path, tag: &str) -> Result<String, String> {
    let binary = build(root)?;
    let folder = binary.parent().unwrap_or(root);
    let mut tar = Command::new("tar")
        .args(["--create", "--owner=0", "--group=0", "--directory"])
        .arg(folder)
        .arg("echo-server")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run tar: {error}"))?;
    let archive = tar.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let id = crate::cargo::output(
        Command::new("docker")
            .args(["import", "--change", r#"ENTRYPOINT ["/echo-server"]"#, "-", tag])
            .stdin(archive),
    )?;
    let status = tar.wait().map_err(|error| format!("tar: {error}"))?;
    if status.success() {
        Ok(id.trim().to_owned())
    } else {
        Err(format!("tar: {status}"))
    }
}
