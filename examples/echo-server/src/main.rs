//! An MCP server for examples and tests: small, quick to build, and able to misbehave on request.
//!
//! ```text
//! echo-server                          # JSON-RPC lines on stdin and stdout
//! echo-server --http --port 8080       # streamable HTTP at /mcp
//! echo-server --sse --port 8080        # the older HTTP+SSE transport at /sse and /messages
//! ```
//!
//! `echo-server --help` lists the options, [`tools`] the tools. It uses threads and a small HTTP/1.1 of its own instead
//! of an async runtime, so that the static build for container images takes seconds.

mod options;
mod protocol;
mod tools;

mod stdio;

mod http1;
mod sessions;
mod sse;
mod streamable;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use options::{Options, Parsed, Transport};
use protocol::Server;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1), |name| std::env::var(name).ok()) {
        Ok(Parsed::Run(options)) => options,
        Ok(Parsed::Print(text)) => {
            // Nobody is left to tell when stdout is gone.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            log(&message);
            return ExitCode::from(2);
        }
    };
    if let Some(text) = &options.stderr_at_start {
        log(text);
    }
    if let Some(code) = options.exit_at_start {
        return ExitCode::from(code);
    }
    if let Err(error) = handle_signals(options.ignore_sigterm) {
        log(&format!("cannot install signal handlers: {error}"));
        return ExitCode::FAILURE;
    }

    let server = Arc::new(Server::new(&options));
    let result = match options.transport {
        Transport::Stdio => stdio::serve(&server, options.ignore_eof),
        Transport::StreamableHttp => streamable::serve(server, options.address, options.stateless),
        Transport::Sse => sse::serve(server, options.address),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Exits on SIGTERM and SIGINT, or ignores SIGTERM. As pid 1 of a container the default would be to ignore both.
fn handle_signals(ignore_sigterm: bool) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let always = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_shutdown(SIGINT, 0, Arc::clone(&always))?;
    if ignore_sigterm {
        signal_hook::flag::register(SIGTERM, always)?;
    } else {
        signal_hook::flag::register_conditional_shutdown(SIGTERM, 0, always)?;
    }
    Ok(())
}

/// One line on stderr, where a workload's log comes from.
fn log(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
