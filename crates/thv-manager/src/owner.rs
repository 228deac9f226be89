//! Who else has a say: other installations on the engine, and whoever owns a workload's proxy.

use std::time::Duration;

use thv_core::{RunConfig, WorkloadName};
use thv_process::{ProcessHandle, TerminateOutcome, terminate};
use thv_runtime::{Instance, InstanceRef};
use thv_status::{OwnerKind, OwnerState, Snapshot, StatusManager};

use crate::parts::Parts;
use crate::{Error, Override, Result, engine, toolhive};

/// How soon a supervisor says that it heard that it should end; one that does not hangs. As long as the grace within these
/// bounds: whoever has little patience does not wait for a hanging one either.
const ANSWER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// What a supervisor may need besides grace of its clients and of its server: writing its status.
const SUPERVISOR_MARGIN: Duration = Duration::from_secs(2);
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
    Err(Error::AnotherInstallation {
        name: instance.workload.clone(),
        detail: format!("its instance is {}", instance.instance_name),
    })
}

/// As [`check`], of whatever instance `snapshot`'s workload has, before anything is touched. A runtime that does not
/// answer cannot tell: whoever acts on the instance asks again.
pub(crate) async fn check_first(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
    force: bool,
) -> Result<()> {
    let Ok(Some(runtime)) = parts.runtime_in(name, snapshot, config).await else {
        return Ok(());
    };
    engine::check(name, snapshot, &*runtime, (Override::Force, force)).await?;
    if let Ok(Some(instance)) = runtime.inspect(name).await {
        check(&*parts.status, &instance, force).await?;
    }
    Ok(())
}

/// Removes the instance of a workload wherever its record or its configuration says that it is, if it is ours to remove.
pub(crate) async fn remove_instance(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
    force: bool,
) -> Result<()> {
    let recorded = snapshot
        .companion
        .as_ref()
        .and_then(|companion| companion.runtime.as_ref());
    let runtime = match (parts.runtime_in(name, snapshot, config).await?, recorded) {
        (Some(runtime), _) => runtime,
        // Another program gave the name of a server that ran here to a remote one.
        (None, Some(recorded)) => parts.runtimes.get(&recorded.kind)?,
        (None, None) => return Ok(()),
    };
    if let Some(instance) = runtime.inspect(name).await? {
        check(&*parts.status, &instance, force).await?;
    }
    // By name: what an engine could not delete before may be left half.
    Ok(runtime.remove(&InstanceRef::named(name.clone())).await?)
}

/// What became of a workload's proxy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProxyEnd {
    /// Nobody served it.
    None,
    /// It was asked to end and did, or was killed.
    Ended,
    /// It was about to end and was killed: the time of its server is over too.
    Late,
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
        return end_owner(parts, name, snapshot, config, grace).await;
    }
    match toolhive::find_proxy(parts, name, snapshot, config)? {
        Some(proxy) => end_process(&*proxy, grace).await,
        None => Ok(ProxyEnd::None),
    }
}

async fn end_owner(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
    grace: Duration,
) -> Result<ProxyEnd> {
    let status = &parts.status;
    let companion = snapshot.companion.as_ref();
    let owner = companion.and_then(|companion| companion.owner.as_ref());
    let detached = owner.filter(|owner| owner.kind != OwnerKind::Application);
    let process = match (detached, owner) {
        (Some(owner), _) => parts.processes.open(&owner.identity)?,
        // Its record was damaged, and may have been made anew by this very verb: a detached proxy of ours is known by what
        // it shares with ToolHive's.
        (None, None) => toolhive::find_proxy(parts, name, snapshot, config)?,
        // An application.
        (None, Some(_)) => None,
    };
    let Some(process) = process else {
        // An application hears of it by itself; so does a supervisor that has not written who it is yet.
        if status
            .owner_free(name, grace + clients_grace(grace) + SUPERVISOR_MARGIN)
            .await?
        {
            return Ok(ProxyEnd::Ended);
        }
        let launcher = companion.map_or_else(String::new, |companion| companion.launcher.clone());
        return Ok(ProxyEnd::Application { launcher });
    };
    // The lock goes first: a supervisor releases it as its last act, and then its process ends. A command in a terminal
    // goes on, and may wait for whoever stops it.
    let goes_on = owner.is_some_and(|owner| owner.kind == OwnerKind::Foreground);
    process.signal(thv_process::Signal::Term)?;
    let answer = grace.clamp(ANSWER.0, ANSWER.1);
    if status.owner_free(name, answer).await? {
        return buried(&*process, goes_on, ProxyEnd::Ended).await;
    }
    let answered = is_ending(&status.read(name).await?);
    let rest = (grace + clients_grace(grace) + SUPERVISOR_MARGIN).saturating_sub(answer);
    if answered && status.owner_free(name, rest).await? {
        return buried(&*process, goes_on, ProxyEnd::Ended).await;
    }
    let pid = process.identity().pid;
    tracing::warn!(workload = %name, pid, answered, "the proxy does not end, killing it");
    process.signal(thv_process::Signal::Kill)?;
    if !status.owner_free(name, AFTER_KILL).await? {
        return Ok(ProxyEnd::StillAlive { pid });
    }
    let end = if answered { ProxyEnd::Late } else { ProxyEnd::Ended };
    buried(&*process, goes_on, end).await
}

/// `end`, once the process is gone that has given its lock up already. Unless it `goes_on` with something else, it has
/// nothing left to do: one that does not end is killed.
async fn buried(process: &dyn ProcessHandle, goes_on: bool, end: ProxyEnd) -> Result<ProxyEnd> {
    if goes_on {
        return Ok(end);
    }
    for _ in 0..2 {
        if tokio::time::timeout(AFTER_KILL, process.exited()).await.is_ok() {
            return Ok(end);
        }
        process.signal(thv_process::Signal::Kill)?;
    }
    Ok(ProxyEnd::StillAlive {
        pid: process.identity().pid,
    })
}

/// How long a supervisor waits for its clients' open requests before it turns to its server.
fn clients_grace(grace: Duration) -> Duration {
    grace.min(crate::supervisor::DRAIN)
}

/// Whether its supervisor has said that it is about to end.
fn is_ending(snapshot: &Snapshot) -> bool {
    let owner = snapshot
        .companion
        .as_ref()
        .and_then(|companion| companion.owner.as_ref());
    owner.is_some_and(|owner| owner.ending)
}

async fn end_process(process: &dyn ProcessHandle, grace: Duration) -> Result<ProxyEnd> {
    Ok(match terminate(process, grace).await? {
        TerminateOutcome::Exited { .. } => ProxyEnd::Ended,
        TerminateOutcome::StillAlive => ProxyEnd::StillAlive {
            pid: process.identity().pid,
        },
    })
}

/// Wakes a detached or foreground owner, so that it takes in what was asked of it.
pub(crate) async fn wake(parts: &Parts, name: &WorkloadName) -> Result<()> {
    let snapshot = parts.status.read(name).await?;
    if snapshot.owner != OwnerState::Alive {
        return Ok(());
    }
    let owner = snapshot
        .companion
        .as_ref()
        .and_then(|companion| companion.owner.as_ref());
    if let Some(owner) = owner.filter(|owner| owner.kind != OwnerKind::Application)
        && let Some(process) = parts.processes.open(&owner.identity)?
    {
        process.signal(thv_process::Signal::Term)?;
    }
    Ok(())
}
