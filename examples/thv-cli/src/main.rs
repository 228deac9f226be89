//! `thv`: run and manage MCP servers from the command line.
//!
//! A thin layer: it reads a command line, calls one verb of the manager, and writes what came of it.

mod program;

mod cli;
mod commands;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::main()
}
