//! Who else has a say: other installations on the engine, and whoever owns a workload's proxy.

use std::time::Duration;

use jiff::Timestamp;
use thv_core::{RunConfig, WorkloadName};
use thv_process::{
    ProcessFacts, ProcessHandle, TerminateOutcome, ToolhiveEvidence, is_toolhive_proxy, terminate,
};
use thv_runtime::Instance;
use thv_status::{OwnerKind, OwnerState, Snapshot, StatusManager};

use crate::parts::Parts;
use crate::{Error, Result};

/// What a supervisor may need besides its instance's grace: draining its proxy and writing its status.
const SUPERVISOR_MARGIN: Duration = Duration::from_secs(10);
/// After a kill the kernel frees what a process held at once; this is for a machine under load.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// Refuses to touch an instance that another installation owns. No label is ToolHive's: allowed.
pub(crate) async fn check(status: &dyn StatusManager, instance: &Instance, force: bool) -> Result<()> {
    let Some(owner) = instance.labels.get(thv_labels::OWNER) else {
        return Ok(());
    };
    if force || *owner == status.owner_id().await? {
        return Ok(());
    }
    Err(Error::Conflict {
        name: instance.workload.clone(),
        detail: format!(
            "its instance {} belongs to another installation on this engine; use --force to act on it all the same",
            instance.instance_name
        ),
    })
}

/// What became of a workload's proxy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProxyEnd {
    /// Nobody served it.
    None,
    /// It was asked to end and did, or was killed.
    Ended,
    /// It lives in an application that did not react.
    Application { launcher: String },
    /// It was killed and lives still.
    StillAlive { pid: u32 },
}

/// Ends the proxy that `snapshot` speaks of: only a process that is proved to be it is ever signalled.
pub(crate) async fn end_proxy(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
    grace: Duration,
) -> Result<ProxyEnd> {
    if snapshot.owner == OwnerState::Alive {
        return end_owner(parts, name, snapshot, grace).await;
    }
    match find_toolhive_proxy(parts, name, snapshot, config)? {
        Some(proxy) => end_process(&*proxy, grace).await,
        None => Ok(ProxyEnd::None),
    }
}

async fn end_owner(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    grace: Duration,
) -> Result<ProxyEnd> {
    let status = &parts.status;
    let companion = snapshot.companion.as_ref();
    let owner = companion.and_then(|companion| companion.owner.as_ref());
    let detached = owner.filter(|owner| owner.kind != OwnerKind::Application);
    let process = match detached {
        Some(owner) => parts.processes.open(&owner.identity)?,
        None => None,
    };
    let Some(process) = process else {
        // An application hears of it by itself; so does a supervisor that has not written who it is yet.
        if status.owner_free(name, grace + SUPERVISOR_MARGIN).await? {
            return Ok(ProxyEnd::Ended);
        }
        let launcher = companion.map_or_else(String::new, |companion| companion.launcher.clone());
        return Ok(ProxyEnd::Application { launcher });
    };
    // With the lock goes the proxy: a supervisor releases it as its last act.
    process.signal(thv_process::Signal::Term)?;
    if status.owner_free(name, grace + SUPERVISOR_MARGIN).await? {
        return Ok(ProxyEnd::Ended);
    }
    tracing::warn!(workload = %name, pid = process.identity().pid, "the proxy ignored SIGTERM, killing it");
    process.signal(thv_process::Signal::Kill)?;
    if status.owner_free(name, AFTER_KILL).await? {
        return Ok(ProxyEnd::Ended);
    }
    Ok(ProxyEnd::StillAlive {
        pid: process.identity().pid,
    })
}

async fn end_process(process: &dyn ProcessHandle, grace: Duration) -> Result<ProxyEnd> {
    Ok(match terminate(process, grace).await? {
        TerminateOutcome::Exited { .. } => ProxyEnd::Ended,
        TerminateOutcome::StillAlive => ProxyEnd::StillAlive {
            pid: process.identity().pid,
        },
    })
}

/// ToolHive's proxy of this workload, if one is proved to run: by the recorded pid, else by the port.
pub(crate) fn find_toolhive_proxy(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
) -> Result<Option<Box<dyn ProcessHandle>>> {
    let processes = &*parts.processes;
    let open = |facts: &ProcessFacts, evidence: ToolhiveEvidence| -> Result<Option<Box<dyn ProcessHandle>>> {
        if is_toolhive_proxy(facts, name, processes.uid(), evidence) {
            return Ok(processes.open(&facts.identity)?);
        }
        Ok(None)
    };
    for (pid, at) in recorded(snapshot) {
        if let Some(facts) = processes.facts(pid)?
            && let Some(found) = open(&facts, ToolhiveEvidence::Recorded { pid, at })?
        {
            return Ok(Some(found));
        }
    }
    let port = config.map_or(0, |config| config.port);
    if port != 0
        && let Some(holder) = processes.port_holder(port)?
    {
        for facts in &holder.processes {
            if let Some(found) = open(facts, ToolhiveEvidence::ListensOnPort)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The pids that files of ToolHive's name, with the time of that file.
fn recorded(snapshot: &Snapshot) -> Vec<(u32, Timestamp)> {
    let file = snapshot.status.as_ref().and_then(|status| {
        Some((
            u32::try_from(status.process_id).ok().filter(|pid| *pid > 0)?,
            status.updated_at.timestamp(),
        ))
    });
    file.into_iter()
        .chain(
            snapshot
                .pid_file
                .as_ref()
                .map(|found| (found.pid, found.modified)),
        )
        .collect()
}

/// Wakes a detached or foreground owner, so that it takes in what was asked of it.
pub(crate) async fn wake(parts: &Parts, name: &WorkloadName) -> Result<()> {
    let snapshot = parts.status.read(name).await?;
    if snapshot.owner != OwnerState::Alive {
        return Ok(());
    }
    let owner = snapshot.companion.and_then(|companion| companion.owner);
    if let Some(owner) = owner.filter(|owner| owner.kind != OwnerKind::Application)
        && let Some(process) = parts.processes.open(&owner.identity)?
    {
        process.signal(thv_process::Signal::Term)?;
    }
    Ok(())
}
