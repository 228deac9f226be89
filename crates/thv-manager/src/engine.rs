//! Which engine a workload belongs to: several of one kind are there one after the other, or for different users.

use thv_core::WorkloadName;
use thv_runtime::{EngineIdentity, Runtime};
use thv_status::{RuntimeRecord, Snapshot};

use crate::{Error, Override, Result};

/// Why the workload of this record is not where `here` is; `None` if it may be.
pub(crate) fn elsewhere(record: &RuntimeRecord, here: &EngineIdentity) -> Option<String> {
    let recorded = record.engine_id.as_deref()?;
    if here.id.is_empty() || recorded == here.id {
        return None;
    }
    let place = record.endpoint.as_deref().unwrap_or("another place");
    Some(if place == here.place {
        format!("it belongs to another engine than the one that is at {place} now")
    } else {
        format!(
            "it belongs to the engine at {place}; here is the one at {}",
            here.place
        )
    })
}

/// As [`elsewhere`], of the runtime that would be asked. One that does not answer cannot tell, and what is there all the
/// same is there.
pub(crate) async fn is_elsewhere(
    name: &WorkloadName,
    snapshot: &Snapshot,
    runtime: &dyn Runtime,
) -> Option<String> {
    let record = snapshot.companion.as_ref()?.runtime.as_ref()?;
    record.engine_id.as_ref()?;
    let reason = elsewhere(record, &runtime.identity().await.ok()?)?;
    match runtime.inspect(name).await {
        Ok(None) => Some(reason),
        _ => None,
    }
}

/// Refuses to act on a workload that another engine has, unless the option of the verb says so.
pub(crate) async fn check(
    name: &WorkloadName,
    snapshot: &Snapshot,
    runtime: &dyn Runtime,
    option: (Override, bool),
) -> Result<()> {
    let (option, given) = option;
    match is_elsewhere(name, snapshot, runtime).await {
        Some(reason) if !given => Err(Error::BelongsElsewhere {
            name: name.to_string(),
            launcher: "another engine".into(),
            detail: format!("{reason}; choose that engine (DOCKER_HOST), or go on without it"),
            option,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_that_names_another_engine_is_elsewhere() {
        let here = |id: &str| EngineIdentity {
            id: id.to_owned(),
            place: "/here".to_owned(),
        };
        let record = |id: Option<&str>, place: &str| RuntimeRecord {
            kind: "docker".into(),
            endpoint: Some(place.to_owned()),
            engine_id: id.map(str::to_owned),
        };
        assert_eq!(elsewhere(&record(None, "/there"), &here("a")), None);
        assert_eq!(elsewhere(&record(Some("a"), "/there"), &here("a")), None);
        assert_eq!(elsewhere(&record(Some("b"), "/there"), &here("")), None);
        let other = elsewhere(&record(Some("b"), "/there"), &here("a")).unwrap();
        assert!(other.contains("/there") && other.contains("/here"), "{other}");
        let same_place = elsewhere(&record(Some("b"), "/here"), &here("a")).unwrap();
        assert!(same_place.contains("another engine"), "{same_place}");
    }
}
