//! Tasks of the workspace: `cargo xtask --help`.

mod cargo;
mod catalog;
mod features;
mod package;
mod static_program;
mod tidy;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask TASK

  tidy            the checks no other tool makes: arrows between crates, files without a target, manifests,
                  docs that name what does not exist, words that have no place here
  features        `cargo check` of each crate alone, with its default features, without, with each and with all of them
  package         `cargo package` of each crate that is published
  catalog PATH    writes the registry document at PATH into thv-registry as its built-in catalogue
  static-echo     builds the echo server as a static binary and prints its path
  static-egress   the same for the helper of isolated workloads; thv finds it beside itself
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = workspace_root();
    let result = match args[..] {
        ["tidy"] => tidy::run(&root),
        ["features"] => features::run(&root),
        ["package"] => package::run(&root),
        ["static-echo"] => {
            static_program::build(&root, "echo-server").map(|path| say(&path.display().to_string()))
        }
        ["static-egress"] => {
            static_program::build(&root, "thv-egress").map(|path| say(&path.display().to_string()))
        }
        ["catalog", document] => {
            catalog::make(&root, Path::new(document)).map(|path| say(&path.display().to_string()))
        }
        ["-h" | "--help" | "help"] => {
            say(HELP.trim_end());
            Ok(())
        }
        _ => Err(HELP.trim_end().to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            warn(&message);
            ExitCode::FAILURE
        }
    }
}

fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// A result, on stdout.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What a person should see, on stderr.
fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
