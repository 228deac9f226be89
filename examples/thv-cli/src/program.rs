//! From a command line to an exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::{Cli, Command, Refused};
use crate::output::error::with_remedy;
use crate::output::proxy_log::ProxyLog;
use crate::{commands, output};

/// All failures, usage included, end with 1, as ToolHive's do.
pub(crate) fn main() -> ExitCode {
    if commands::answered_completion() {
        return ExitCode::SUCCESS;
    }
    match Cli::read(std::env::args_os()) {
        Ok(cli) => run(&cli),
        Err(Refused::NoEffect(text)) => fail(&text),
        // Help that nobody asked for by name goes to standard output too; a closed stream is nobody's failure.
        Err(Refused::Usage(error)) => match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                shown(output::print(&error.render().to_string()))
            }
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => shown(
                output::unless_nobody_reads(error.print().and_then(|()| io::stdout().flush())).map(drop),
            ),
            _ => {
                let _ = error.print();
                ExitCode::FAILURE
            }
        },
    }
}

fn shown(written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot write: {error}")),
    }
}

fn run(cli: &Cli) -> ExitCode {
    start_logging(cli);
    // One thread is enough to wait, and a detached proxy stays small.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&with_remedy(format!("cannot start the async runtime: {error}"))),
    };
    let done = runtime.block_on(commands::run(cli));
    // A reader of standard input or a log that is still followed must not hold the end up.
    runtime.shutdown_background();
    match done {
        Ok(code) => code,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(text: &str) -> ExitCode {
    output::note(&format!("Error: {text}"));
    ExitCode::FAILURE
}

fn start_logging(cli: &Cli) {
    let (debug, detached) = (cli.debug, commands::is_detached());
    let level = match (debug, detached) {
        (true, _) => {
            "info,thv_manager=debug,thv_proxy=debug,thv_runtime_docker=debug,thv_runtime_local=debug"
        }
        (false, true) => "info",
        (false, false) => "warn",
    };
    let log = match &cli.command {
        Command::Start(args) if detached => args.name.as_deref().and_then(ProxyLog::of),
        _ => None,
    };
    let writer = match log {
        Some(log) => BoxMakeWriter::new(log),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .with_target(debug);
    tracing_subscriber::registry()
        .with(EnvFilter::new(level))
        .with(filter_fn(move |event| {
            debug || detached || !is_the_error_itself(event)
        }))
        .with(lines)
        .init();
}

/// Whether it is the end of a workload in the foreground, with its last lines: the command says both as its error.
fn is_the_error_itself(event: &Metadata<'_>) -> bool {
    let failed = event.target() == "thv_manager::supervisor"
        && *event.level() == Level::ERROR
        && event.fields().field("reason").is_some();
    failed || event.target() == "server"
}
