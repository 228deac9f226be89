//! Programs under measurement, as they are released.

use std::path::{Path, PathBuf};
use std::process::Command;

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command
}

/// The release build of a package's program.
///
/// # Panics
/// When it does not build.
pub fn release(package: &str, program: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program's path");
    // <target>/release/deps/<bench>
    let target = this
        .ancestors()
        .nth(3)
        .expect("a bench is below the target folder");
    let built = cargo()
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            package,
            "--target-dir",
        ])
        .arg(target)
        .status()
        .expect("cargo");
    assert!(built.success(), "{package} is built");
    target.join("release").join(program)
}

/// The echo server as a program that needs nothing.
///
/// # Panics
/// When it does not build.
pub fn static_echo() -> PathBuf {
    static_program("static-echo")
}

/// What this task of `cargo xtask` builds as a program that needs nothing.
///
/// # Panics
/// When it does not build.
pub fn static_program(task: &str) -> PathBuf {
    let output = cargo()
        .args(["run", "--quiet", "--package", "xtask", "--", task])
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{task} is built");
    String::from_utf8(output.stdout).expect("a path").trim().into()
}
