//! Programs that run in containers, as static binaries.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::cargo::{cargo, run};

/// The gnu target, not musl: it is installed wherever Rust is.
fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Builds it and gives its path. It has a target folder of its own, so that its flags do not make the other builds stale.
pub(crate) fn build(root: &Path, package: &str) -> Result<PathBuf, String> {
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
            package,
            "--target",
            &target,
        ])
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Flags and profiles of the caller (a test, a coverage run) are not meant for this binary.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdout(Stdio::null());
    run(&mut command)?;
    let binary = folder.join(&target).join("release").join(package);
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(format!("{} was not built", binary.display()))
    }
}
