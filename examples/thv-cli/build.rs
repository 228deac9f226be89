//! What `thv version` says of the build, found out without a network. What cannot be found out is "unknown".

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    for part in ["HEAD", "logs/HEAD"] {
        if let Some(path) = output("git", &["rev-parse", "--git-path", part])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let compiler = std::env::var("RUSTC")
        .ok()
        .and_then(|rustc| output(&rustc, &["--version"]));
    say("THV_COMPILER", compiler);
    say("THV_COMMIT", commit());
    say("THV_BUILD_DATE", build_date());
}

fn say(variable: &str, value: Option<String>) {
    println!(
        "cargo::rustc-env={variable}={}",
        value.as_deref().unwrap_or("unknown")
    );
}

/// The commit that the tree is made from, if it is this project's tree. Edits since are not told.
fn commit() -> Option<String> {
    let top = output("git", &["rev-parse", "--show-toplevel"])?;
    let is_ours = Path::new(&top).join("examples/thv-cli/build.rs").exists();
    output("git", &["rev-parse", "HEAD"]).filter(|_| is_ours)
}

/// Only a build that is told its date has one: the clock would make every build another.
fn build_date() -> Option<String> {
    let seconds = std::env::var("SOURCE_DATE_EPOCH").ok()?;
    output(
        "date",
        &["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"],
    )
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
