//! What a verb that was interrupted leaves behind, when that is not nothing.

use thv::core::{WorkloadName, WorkloadStatus};
use thv::manager::{ListOptions, Manager};

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
    let Ok(manager) = manager() else { return };
    let names = match name.map(WorkloadName::new) {
        Some(name) => name.into_iter().collect(),
        // It would have had a name of its own: what is starting now is, or somebody else's, of which the same holds.
        None => starting(&manager).await,
    };
    for name in names {
        if goes_on(&manager, &name).await {
            note(&format!(
                "\"{name}\" goes on starting; \"thv stop {name}\" ends it"
            ));
        }
    }
}

async fn starting(manager: &Manager) -> Vec<WorkloadName> {
    let options = ListOptions {
        all: true,
        ..ListOptions::default()
    };
    let listed = manager.list(options).await.unwrap_or_default();
    let starting = listed
        .workloads
        .iter()
        .filter(|workload| workload.status == WorkloadStatus::Starting);
    starting
        .filter_map(|workload| WorkloadName::new(workload.name.as_str()).ok())
        .collect()
}

async fn goes_on(manager: &Manager, name: &WorkloadName) -> bool {
    let Ok(details) = manager.status(name).await else {
        return false;
    };
    details.proxy_pid.is_some() && details.workload.status == WorkloadStatus::Starting
}
