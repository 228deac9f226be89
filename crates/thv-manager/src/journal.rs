//! Finishing what an interrupted verb began. The entry is the companion's `pending`; nobody works on it when its
//! `.op` is free.

use sha2::{Digest, Sha256};
use thv_core::{RunConfig, WorkloadName, WorkloadStatus};
use thv_state::StateStoreExt;
use thv_status::{
    Authority, Desired, Draft, ForeignMeaning, OpGuard, Operation, OwnerState, Pending, Reading, Snapshot,
};

use crate::owner::{ProxyEnd, end_proxy, find_toolhive_proxy};
use crate::parts::{Parts, any};
use crate::{Error, Result, StopOptions};

/// What a settled journal leaves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Nothing was pending, or it is cleared.
    Clear,
    /// The interrupted verb's end is that the workload does not exist.
    Removed,
}

/// The hash under which a configuration was ready once.
pub(crate) fn config_hash(config: &RunConfig) -> String {
    hash(&config.to_json())
}

fn hash(document: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(document.as_bytes())
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Finishes an interrupted verb on `name`, under its `.op`.
pub(crate) async fn settle(parts: &Parts, name: &WorkloadName, op: &OpGuard) -> Result<Settled> {
    let snapshot = parts.status.read(name).await?;
    let Some((companion, pending)) = snapshot
        .companion
        .as_ref()
        .and_then(|c| c.pending.as_ref().map(|pending| (c, pending)))
    else {
        return Ok(Settled::Clear);
    };
    let config = parts.state.read_run_config(name).await?;
    let there = config.as_ref().map(config_hash);
    tracing::warn!(workload = %name, operation = ?pending.operation, "finishing an interrupted operation");
    if another_config(pending, there.as_deref()) || foreign_start(parts, name, &snapshot, config.as_ref())? {
        went_on(parts, name, op).await?;
        return Ok(Settled::Clear);
    }
    match pending.operation {
        Operation::Run if config.is_none() => {
            remove_instance(
                parts,
                name,
                companion.runtime.as_ref().map(|runtime| &runtime.kind),
                None,
            )
            .await?;
            Ok(Settled::Removed)
        }
        Operation::Run | Operation::Start => {
            if snapshot.owner == OwnerState::Alive {
                clear(parts, name, op).await?;
            } else {
                interrupted(parts, name, op).await?;
            }
            Ok(Settled::Clear)
        }
        Operation::Remove => {
            let grace = StopOptions::default().grace;
            match end_proxy(parts, name, &snapshot, config.as_ref(), grace).await? {
                ProxyEnd::None | ProxyEnd::Ended => {}
                ProxyEnd::Application { .. } | ProxyEnd::StillAlive { .. } => {
                    return Err(Error::StillRunning {
                        name: name.to_string(),
                        detail: "its deletion was interrupted, and its proxy still lives".into(),
                    });
                }
            }
            remove_instance(
                parts,
                name,
                companion.runtime.as_ref().map(|runtime| &runtime.kind),
                config.as_ref(),
            )
            .await?;
            parts
                .state
                .delete_run_config_under(name, crate::parts::keep(op))
                .await?;
            Ok(Settled::Removed)
        }
        // The verb that settles stops it too, or starts it over what the interrupted one left.
        _ => {
            clear(parts, name, op).await?;
            Ok(Settled::Clear)
        }
    }
}

/// Whether another configuration is there than the entry's last step left.
fn another_config(pending: &Pending, there: Option<&str>) -> bool {
    there.is_some_and(|there| pending.config_hash.as_deref() != Some(there))
}

/// Whether ToolHive started the workload since: it says `starting`, or its proxy is proved to run.
pub(crate) fn foreign_start(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
) -> Result<bool> {
    if snapshot.reading != Reading::Foreign(ForeignMeaning::MayRun) {
        return Ok(false);
    }
    let starting = snapshot
        .status
        .as_ref()
        .is_some_and(|file| file.status == WorkloadStatus::Starting);
    if starting {
        return Ok(true);
    }
    // A detached proxy of ours looks the same, and listens on the same port.
    let ours = snapshot
        .companion
        .as_ref()
        .and_then(|companion| companion.owner.as_ref())
        .map(|owner| &owner.identity);
    let proxy = find_toolhive_proxy(parts, name, snapshot, config)?;
    Ok(proxy.is_some_and(|proxy| Some(proxy.identity()) != ours))
}

/// Drops the entry, and what the record says of a configuration that is not the one that is there.
async fn went_on(parts: &Parts, name: &WorkloadName, op: &OpGuard) -> Result<()> {
    let change = Box::new(|draft: &mut Draft| {
        draft.companion.pending = None;
        draft.companion.resolved = None;
    });
    parts.status.update(name, Authority::Verb(op), change).await?;
    Ok(())
}

async fn clear(parts: &Parts, name: &WorkloadName, op: &OpGuard) -> Result<()> {
    let change = Box::new(|draft: &mut Draft| draft.companion.pending = None);
    parts.status.update(name, Authority::Verb(op), change).await?;
    Ok(())
}

async fn interrupted(parts: &Parts, name: &WorkloadName, op: &OpGuard) -> Result<()> {
    let change = Box::new(|draft: &mut Draft| {
        draft.companion.pending = None;
        draft.companion.owner = None;
        draft.status.process_id = 0;
        if draft.companion.desired == Desired::Running {
            draft.set_status(WorkloadStatus::Error, "start was interrupted");
        }
    });
    parts.status.update(name, Authority::Verb(op), change).await?;
    Ok(())
}

/// Removes the instance of a workload wherever its record or its configuration says that it is.
pub(crate) async fn remove_instance(
    parts: &Parts,
    name: &WorkloadName,
    recorded: Option<&thv_runtime::RuntimeKind>,
    config: Option<&RunConfig>,
) -> Result<()> {
    let runtime = match parts.runtime_of(name, recorded, config).await {
        Ok(Some(runtime)) => runtime,
        Ok(None) => return Ok(()),
        Err(error) => return Err(error),
    };
    runtime.remove(&any(name)).await.map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_dropped_when_another_configuration_is_there() {
        let mut pending = Pending::new(Operation::Remove, 1, "now");
        pending.config_hash = Some("a".into());
        assert!(!another_config(&pending, Some("a")));
        assert!(another_config(&pending, Some("b")));
        assert!(!another_config(&pending, None), "rm had removed it already");
        let without = Pending::new(Operation::Remove, 1, "now");
        assert!(another_config(&without, Some("a")));
    }
}
