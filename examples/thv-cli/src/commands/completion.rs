//! `thv completion`.

use std::process::ExitCode;

use clap::CommandFactory as _;

use super::Done;
use crate::cli::Cli;
use crate::output;

pub(super) fn run(shell: clap_complete::Shell) -> Done {
    let mut script = Vec::new();
    // Flags that are only known in order to be refused are offered to nobody.
    clap_complete::generate(shell, &mut Cli::command(), "thv", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
