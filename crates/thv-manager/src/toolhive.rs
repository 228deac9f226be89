//! ToolHive beside us: whether it runs a workload by now. Nothing of it is believed without proof.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use thv_core::{Dirs, RunConfig, WorkloadName, WorkloadStatus};
use thv_process::{ProcessFacts, ProcessHandle, ToolhiveEvidence, is_toolhive_proxy};
use thv_status::{Companion, Draft, ForeignMeaning, Reading, Snapshot, StatusFile};

use crate::Result;
use crate::parts::Parts;

/// ToolHive's proxy of this workload, if one is proved to run: by the recorded pid, else by the port.
pub(crate) fn find_proxy(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
) -> Result<Option<Box<dyn ProcessHandle>>> {
    let file = snapshot
        .status
        .as_ref()
        .and_then(|status| recorded(status.process_id, status));
    let pid_file = snapshot
        .pid_file
        .as_ref()
        .map(|found| (found.pid, found.modified));
    let port = config.map_or(0, |config| config.port);
    prove(parts, name, file.into_iter().chain(pid_file), port)
}

/// Whether ToolHive started the workload since we wrote last: it says `starting`, or its proxy is proved to run.
pub(crate) fn runs(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
) -> Result<bool> {
    if snapshot.reading != Reading::Foreign(ForeignMeaning::MayRun) {
        return Ok(false);
    }
    if snapshot.status.as_ref().is_some_and(is_starting) {
        return Ok(true);
    }
    let proxy = find_proxy(parts, name, snapshot, config)?;
    Ok(proxy.is_some_and(|proxy| !is_ours(&*proxy, snapshot.companion.as_deref())))
}

/// Whether ToolHive started the workload after it was stopped here, and its proxy is no more: its status file names a process
/// that is gone. One that is there and is not proved to be that proxy proves nothing: anybody may have written its pid.
pub(crate) fn was_started(parts: &Parts, snapshot: &Snapshot) -> Result<bool> {
    if !snapshot.was_started_elsewhere() {
        return Ok(false);
    }
    let status = snapshot.status.as_ref();
    let Some((pid, _)) = status.and_then(|status| recorded(status.process_id, status)) else {
        return Ok(false);
    };
    let there = parts.processes.facts(pid)?;
    Ok(there.is_none_or(|facts| !facts.is_alive()))
}

/// As [`runs`], in the middle of a change, from what it works on.
pub(crate) fn took_over(parts: &Parts, name: &WorkloadName, draft: &Draft) -> bool {
    if draft.reading() != Reading::Foreign(ForeignMeaning::MayRun) {
        return false;
    }
    if is_starting(&draft.status) {
        return true;
    }
    match prove(parts, name, recorded(draft.found_process_id(), &draft.status), 0) {
        Ok(proxy) => proxy.is_some_and(|proxy| !is_ours(&*proxy, Some(&draft.companion))),
        Err(error) => {
            tracing::warn!(%error, "whether ToolHive runs it cannot be found out");
            false
        }
    }
}

fn is_starting(file: &StatusFile) -> bool {
    file.status == WorkloadStatus::Starting
}

/// A detached proxy of ours looks the same, and listens on the same port.
fn is_ours(proxy: &dyn ProcessHandle, companion: Option<&Companion>) -> bool {
    let owner = companion.and_then(|companion| companion.owner.as_ref());
    owner.is_some_and(|owner| owner.identity == *proxy.identity())
}

/// The pid that a status file names, with the time of that file.
fn recorded(pid: i64, file: &StatusFile) -> Option<(u32, Timestamp)> {
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    Some((pid, file.updated_at.timestamp()))
}

fn prove(
    parts: &Parts,
    name: &WorkloadName,
    recorded: impl IntoIterator<Item = (u32, Timestamp)>,
    port: u16,
) -> Result<Option<Box<dyn ProcessHandle>>> {
    let processes = &*parts.processes;
    let open = |facts: &ProcessFacts, evidence: ToolhiveEvidence| -> Result<Option<Box<dyn ProcessHandle>>> {
        if is_toolhive_proxy(facts, name, processes.uid(), evidence) {
            return Ok(processes.open(&facts.identity)?);
        }
        Ok(None)
    };
    for (pid, at) in recorded {
        if let Some(facts) = processes.facts(pid)?
            && let Some(found) = open(&facts, ToolhiveEvidence::Recorded { pid, at })?
        {
            return Ok(Some(found));
        }
    }
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

/// Removes the permission profile that ToolHive has written for this workload alone (`toolhive-*-permissions-*.json`
/// among the temporary files), as it does itself.
pub(crate) fn remove_profile(dirs: &Dirs, config: Option<&RunConfig>) {
    let Some(config) = config else { return };
    let path = Path::new(&config.permission_profile_name_or_path);
    if !is_temporary_profile(path, &dirs.temp) {
        return;
    }
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "ToolHive's permission profile could not be removed");
    }
}

fn is_temporary_profile(path: &Path, temp: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.and_then(|name| name.strip_prefix("toolhive-")?.strip_suffix(".json"));
    path.parent() == Some(temp) && name.is_some_and(|name| name.contains("-permissions-"))
}
