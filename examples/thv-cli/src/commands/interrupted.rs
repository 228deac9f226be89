//! What a verb that was interrupted leaves behind, when that is not nothing.

use thv::core::{WorkloadName, WorkloadStatus};

use super::manager;
use crate::cli::{Cli, Command};
use crate::output::note;

/// Says it, of a launch that goes on without this command.
pub(super) async fn say(cli: &Cli) {
    let name = match &cli.command {
        Command::Run(args) => args.name.as_deref(),
        Command::Start(args) | Command::Restart(args) => args.name.as_deref(),
        _ => return,
    };
    match name.and_then(|name| WorkloadName::new(name).ok()) {
        Some(name) if goes_on(&name).await => {
            note(&format!(
                "\"{name}\" goes on starting; \"thv stop {name}\" ends it"
            ));
        }
        Some(_) => {}
        None => note("what was begun goes on; \"thv list --all\" shows it"),
    }
}

async fn goes_on(name: &WorkloadName) -> bool {
    let Ok(manager) = manager() else {
        return false;
    };
    let Ok(details) = manager.status(name).await else {
        return false;
    };
    details.proxy_pid.is_some() && details.workload.status == WorkloadStatus::Starting
}
