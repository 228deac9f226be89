//! Which workloads a verb is for.

use thv::core::WorkloadName;
use thv::manager::{Error, ListOptions, Manager};

use super::Failure;
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
    let options = ListOptions {
        all: true,
        group: group.cloned(),
        selector: None,
    };
    let listed = manager.list(options).await?;
    for warning in &listed.warnings {
        note(&format!("Warning: {warning}"));
    }
    Ok(listed
        .workloads
        .into_iter()
        .map(|workload| workload.name)
        .collect())
}
