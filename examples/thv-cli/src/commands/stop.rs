//! `thv stop`.

use std::time::Duration;

use thv::manager::{BatchResult, Error, StopOptions, StopOutcome};

use super::{Done, manager, names, results};
use crate::cli::StopArgs;
use crate::output::{json, note, progress};

pub(super) async fn run(args: &StopArgs) -> Done {
    let manager = manager()?;
    let names = names::chosen(&manager, &args.names, args.group.as_ref()).await?;
    let options = StopOptions {
        grace: Duration::from_secs(args.timeout),
        force: args.force,
    };
    let mut stopped = progress::during_batch("stopping", manager.stop_all(names, options)).await;
    if !args.names.is_empty() {
        stopped.iter_mut().for_each(take_absent_as_stopped);
    }
    results::write(&stopped, results::Whom::of(&args.names), args.format, |outcome| {
        json::Object::default().with("stopped", matches!(outcome, StopOutcome::Stopped))
    })
}

/// What does not exist does not run, which is all that was asked for: it is said, and is no failure, as ToolHive has it.
fn take_absent_as_stopped(one: &mut BatchResult<StopOutcome>) {
    if let Err(error @ Error::NotFound { .. }) = &one.result {
        note(&format!("Warning: {error}"));
        one.result = Ok(StopOutcome::NotRunning);
    }
}
