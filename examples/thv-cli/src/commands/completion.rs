//! `thv completion`, and what its scripts ask.
//!
//! A script only asks: it calls the program with the line so far, and gets what may come next, names of this machine
//! included. Nothing is written for an answer, no engine or registry is asked, and what goes wrong is no answer.

mod candidates;

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

use super::{Done, Failure};
use crate::cli::Cli;
use crate::output;

/// The variable by which a script asks, with its shell as value.
const ASKED: &str = "THV_COMPLETE";

pub(super) fn run(shell: clap_complete::Shell) -> Done {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(&shell.to_string()) else {
        return Err(Failure::new(format!("{shell} cannot be served")));
    };
    let mut script = Vec::new();
    shell.write_registration(ASKED, "thv", "thv", "thv", &mut script)?;
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a script asked, and was answered.
pub(crate) fn answered() -> bool {
    let Some(shell) = std::env::var_os(ASKED).filter(|shell| !shell.is_empty()) else {
        return false;
    };
    // Flags that are only known in order to be refused are offered to nobody.
    let asked = CompleteEnv::with_factory(|| candidates::add(Cli::command(), shell == "bash")).var(ASKED);
    let folder = std::env::current_dir().ok();
    asked
        .try_complete(std::env::args_os(), folder.as_deref())
        .unwrap_or(true)
}
