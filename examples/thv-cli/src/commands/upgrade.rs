//! `thv upgrade`.

mod apply;
mod check;
mod report;

use thv::core::{RunConfig, WorkloadName};
use thv::manager::{ListOptions, Manager};

use super::{Done, Failure};
use crate::cli::{UpgradeApplyArgs, UpgradeCheckArgs};
use crate::output::note;

pub(super) use check::of_all;
pub(super) use report::json;

pub(super) async fn check(args: &UpgradeCheckArgs) -> Done {
    check::run(args).await
}

/// Ends by itself when it is interrupted: an upgrade that is past the point of no return is finished first.
pub(super) async fn apply(args: &UpgradeApplyArgs) -> Done {
    apply::run(args).await
}

/// The configurations of all workloads in the order of their names; what cannot be read is left out.
async fn configs(manager: &Manager) -> Result<Vec<RunConfig>, Failure> {
    let options = ListOptions {
        all: true,
        ..ListOptions::default()
    };
    let mut configs = Vec::new();
    for workload in manager.list(options).await?.workloads {
        let Ok(name) = WorkloadName::new(workload.name.as_str()) else {
            continue;
        };
        match manager.export(&name).await {
            Ok(config) => configs.push(config),
            // Another installation's, which the engine knows.
            Err(thv::manager::Error::NotFound { .. }) => {}
            Err(error) => note(&format!("Warning: {}", crate::output::error::chain(&error))),
        }
    }
    Ok(configs)
}
