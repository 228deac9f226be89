//! `thv completion`.

use std::process::ExitCode;

use super::Done;
use crate::cli::Cli;
use crate::output;

pub(super) fn run(shell: clap_complete::Shell) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::full_command(), "thv", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
