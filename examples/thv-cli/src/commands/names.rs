//! Which workloads a verb is for.

use thv::core::{Workload, WorkloadName};
use thv::manager::{Error, ListOptions, Manager};

use super::{Failure, LAUNCHER};
use crate::output::note;

/// The names as they were given, or all, or those of a group.
pub(super) async fn chosen(
    manager: &Manager,
    given: &[String],
    group: Option<&String>,
) -> Result<Vec<String>, Failure> {
    if !given.is_empty() {
        // A name that is none is a mistake at the keyboard: nothing is touched for the others either.
        for name in given {
            WorkloadName::new(name).map_err(Error::from)?;
        }
        return Ok(given.to_vec());
    }
    let workloads = listed(manager, group).await?;
    Ok(workloads.into_iter().map(|workload| workload.name).collect())
}

/// All, or those of a group, that a start can be for. A container of another installation on the engine is not: it has
/// neither configuration nor record here. What an application launched is that application's to start, unless it is to
/// be taken over.
pub(super) async fn startable(
    manager: &Manager,
    group: Option<&String>,
    take_over: bool,
) -> Result<Vec<String>, Failure> {
    let mut ours = Vec::new();
    for Workload {
        name,
        proxy_mode,
        thv,
        ..
    } in listed(manager, group).await?
    {
        let why = match thv.launcher.as_deref() {
            // How a proxy speaks is in the configuration alone.
            None if proxy_mode.is_none() => "there is no configuration of it here".to_owned(),
            Some(other) if other != LAUNCHER && !take_over => {
                format!("it belongs to {other}; --take-over starts it here")
            }
            _ => {
                ours.push(name);
                continue;
            }
        };
        note(&format!("Warning: \"{name}\" is left out: {why}"));
    }
    Ok(ours)
}

async fn listed(manager: &Manager, group: Option<&String>) -> Result<Vec<Workload>, Failure> {
    let options = ListOptions {
        all: true,
        group: group.cloned(),
        selector: None,
    };
    let listed = manager.list(options).await?;
    for warning in &listed.warnings {
        note(&format!("Warning: {warning}"));
    }
    Ok(listed.workloads)
}
