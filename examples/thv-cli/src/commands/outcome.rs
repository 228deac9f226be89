//! What `run` and `start` say when a workload is up, or on its way.

use std::process::ExitCode;

use thv::manager::{Error, RunOutcome, WaitFor};

use super::{Done, Failure, results};
use crate::cli::{Format, WaitArgs};
use crate::output::{json, note};

/// When the verb returns.
pub(super) fn wait_for(args: &WaitArgs) -> WaitFor {
    match args.wait {
        Some(time) => WaitFor::Ready(time),
        None if args.no_wait => WaitFor::Owned,
        None => WaitFor::Launch(args.launch_timeout),
    }
}

/// What came of a verb for one workload. Of a failure programs get what an entry of several would say.
pub(super) fn write_result(name: &str, result: Result<RunOutcome, Error>, format: Format) -> Done {
    match result {
        Ok(outcome) => write(&outcome, format)?,
        Err(error) => {
            if format == Format::Json {
                json::print(&results::failed(name, &error).into())?;
            }
            return Err(error.into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Text goes to standard error, as logs do; only JSON is for programs.
pub(super) fn write(outcome: &RunOutcome, format: Format) -> Result<(), Failure> {
    for notice in &outcome.notices {
        note(&format!("Warning: {notice}"));
    }
    if format == Format::Json {
        json::print(&object(outcome).into())?;
        return Ok(());
    }
    let name = &outcome.name;
    let why = match outcome.context.as_str() {
        "" => String::new(),
        context => format!(" ({context})"),
    };
    note(&match (outcome.already_running, outcome.ready) {
        (true, true) => format!("\"{name}\" is running already at {}", outcome.url),
        (true, false) => format!(
            "\"{name}\" was started already and is still starting{why} at {}",
            outcome.url
        ),
        (false, true) => format!("\"{name}\" is running at {}", outcome.url),
        (false, false) => format!("\"{name}\" is still starting{why}; it will be at {}", outcome.url),
    });
    Ok(())
}

pub(super) fn object(outcome: &RunOutcome) -> json::Object {
    json::Object::default()
        .with("name", outcome.name.as_str())
        .with("url", outcome.url.as_str())
        .with("ready", outcome.ready)
        .with_text("context", &outcome.context)
        .with("already_running", outcome.already_running)
}
