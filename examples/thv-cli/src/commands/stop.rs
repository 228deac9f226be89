//! `thv stop`.

use std::time::Duration;

use thv::manager::{StopOptions, StopOutcome};

use super::{Done, manager, names, results};
use crate::cli::StopArgs;
use crate::output::{json, progress};

pub(super) async fn run(args: &StopArgs) -> Done {
    let manager = manager()?;
    let names = names::chosen(&manager, &args.names, args.group.as_ref()).await?;
    let options = StopOptions {
        grace: Duration::from_secs(args.timeout),
        force: args.force,
    };
    let stopped = progress::during_batch("stopping", manager.stop_all(names, options)).await;
    results::write(&stopped, results::Whom::of(&args.names), args.format, |outcome| {
        json::Object::default().with("stopped", matches!(outcome, StopOutcome::Stopped))
    })
}
