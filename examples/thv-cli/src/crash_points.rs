//! `thv` that kills itself at a crash point when it is told to: for drills. `thv-crash-points all` says which there are.

mod program;

mod cli;
mod commands;
mod output;

use std::process::ExitCode;

use thv::process::crash::CrashPoint;

fn main() -> ExitCode {
    if !std::env::args().skip(1).eq(["all"]) {
        return program::main();
    }
    let names = CrashPoint::ALL.iter().map(|point| point.name());
    let names: Vec<_> = names.collect();
    match output::print(&(names.join("\n") + "\n")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
