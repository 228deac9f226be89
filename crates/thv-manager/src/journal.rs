//! Finishing what an interrupted verb began. The entry is the companion's `pending`; nobody works on it when its
//! `.op` is free.

use thv_core::{WorkloadName, WorkloadStatus};
use thv_state::{DocumentKind, StateStoreExt};
use thv_status::{
    Authority, ClaimId, Desired, Draft, INTERRUPTED, OpGuard, Operation, OwnerState, Pending, Snapshot,
    config_hash,
};

use crate::delete::remove_logs;
use crate::owner::{ProxyEnd, end_proxy, remove_instance};
use crate::parts::{Parts, Saved, keep};
use crate::{Error, Result, StopOptions, kept_image, toolhive};

/// What a settled journal leaves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Nothing was pending, or it is cleared.
    Clear,
    /// The interrupted verb's end is that the workload does not exist.
    Removed,
}

/// Takes in what ToolHive did, and finishes an interrupted verb on `name`, under its `.op`.
pub(crate) async fn settle(parts: &Parts, name: &WorkloadName, op: &OpGuard) -> Result<Settled> {
    settle_with(parts, name, op, Owner::MayBeEnding).await
}

/// As [`settle`], of a replacement that failed in this very process.
pub(crate) async fn take_back(parts: &Parts, name: &WorkloadName, op: &OpGuard) -> Result<Settled> {
    settle_with(parts, name, op, Owner::GoesOn).await
}

/// What a living supervisor does that an interrupted verb may have told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Nobody knows whether it was told already.
    MayBeEnding,
    /// It was not told, or does not react.
    GoesOn,
}

async fn settle_with(parts: &Parts, name: &WorkloadName, op: &OpGuard, owner: Owner) -> Result<Settled> {
    let mut snapshot = parts.status.read(name).await?;
    let saved = parts.saved(name).await?;
    if snapshot
        .companion
        .as_ref()
        .is_some_and(|companion| companion.gives_way)
    {
        // Whoever was told to give way does; what is left then is found below.
        goes_on(parts, name, &snapshot, &saved, owner).await?;
        snapshot = parts.status.read(name).await?;
    }
    if toolhive::runs(parts, name, &snapshot, saved.config())? {
        write(parts, name, op, Draft::leave_to_toolhive).await?;
        return Ok(Settled::Clear);
    }
    let settled = settle_entry(parts, name, op, &snapshot, &saved, owner).await?;
    if settled == Settled::Clear {
        let snapshot = parts.status.read(name).await?;
        if snapshot.owner == OwnerState::Dead {
            bring_back(parts, name, op, &snapshot).await?;
        } else if kept_image::is_left(&snapshot) {
            // What runs keeps its image by itself.
            kept_image::release(parts, name, op).await?;
        }
    }
    Ok(settled)
}

async fn settle_entry(
    parts: &Parts,
    name: &WorkloadName,
    op: &OpGuard,
    snapshot: &Snapshot,
    saved: &Saved,
    owner: Owner,
) -> Result<Settled> {
    let Some(companion) = &snapshot.companion else {
        return Ok(Settled::Clear);
    };
    let Some(pending) = &companion.pending else {
        if companion.gives_way {
            write(parts, name, op, clear).await?;
        }
        return Ok(Settled::Clear);
    };
    tracing::warn!(workload = %name, operation = ?pending.operation, "finishing an interrupted operation");
    match whose(pending, saved) {
        Whose::Replaced => {
            let alive = goes_on(parts, name, snapshot, saved, owner).await?;
            write(parts, name, op, if alive { old_runs } else { old_stands }).await?;
            return Ok(Settled::Clear);
        }
        Whose::SomebodyElses => {
            write(parts, name, op, went_on).await?;
            return Ok(Settled::Clear);
        }
        Whose::Its => {}
    }
    match pending.operation {
        Operation::Run if matches!(saved, Saved::Nothing) => {
            remove_recorded(parts, name, snapshot).await?;
            remove_logs(parts, name);
            thv_process::crash_point!(JournalRunUndone);
            Ok(Settled::Removed)
        }
        // The supervisor that is to end, not the one that is to come: that one has another entry.
        Operation::Restart => {
            let alive = goes_on(parts, name, snapshot, saved, owner).await?;
            write(parts, name, op, if alive { wanted } else { interrupted }).await?;
            Ok(Settled::Clear)
        }
        Operation::Run | Operation::Update | Operation::Start => {
            let alive = snapshot.owner == OwnerState::Alive;
            write(parts, name, op, if alive { clear } else { interrupted }).await?;
            Ok(Settled::Clear)
        }
        Operation::Remove => {
            finish_removal(parts, name, op, snapshot, saved, pending).await?;
            Ok(Settled::Removed)
        }
        // The verb that settles stops it too, or starts it over what the interrupted one left.
        _ => {
            write(parts, name, op, clear).await?;
            Ok(Settled::Clear)
        }
    }
}

/// Whether the supervisor goes on that an interrupted verb was to end. One that was told to end already cannot be kept:
/// its end is awaited, so that whoever starts it again finds nobody.
async fn goes_on(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    saved: &Saved,
    owner: Owner,
) -> Result<bool> {
    if snapshot.owner != OwnerState::Alive {
        return Ok(false);
    }
    if owner == Owner::GoesOn {
        return Ok(true);
    }
    let grace = StopOptions::default().grace;
    let end = end_proxy(parts, name, snapshot, saved.config(), grace).await?;
    Ok(!matches!(end, ProxyEnd::None | ProxyEnd::Ended | ProxyEnd::Late))
}

/// Whose the run configuration is that is there.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    /// It is as the entry's last step left it, or gone, as a removal leaves it.
    Its,
    /// It is the one that the verb was to replace.
    Replaced,
    /// Somebody went on without us.
    SomebodyElses,
}

fn whose(pending: &Pending, saved: &Saved) -> Whose {
    let Saved::Config(config) = saved else {
        return Whose::Its;
    };
    let there = Some(config_hash(config));
    let replaced = pending.replaces.is_some() && there == pending.replaces;
    // A replacement may bring the same once more: until its record says that it came, the old one stands.
    let came = pending.next.is_none();
    if there == pending.config_hash && (came || !replaced) {
        Whose::Its
    } else if replaced {
        Whose::Replaced
    } else {
        Whose::SomebodyElses
    }
}

/// Brings back what an update replaced whose new configuration is not known to serve, and which nobody supervises.
pub(crate) async fn bring_back(
    parts: &Parts,
    name: &WorkloadName,
    op: &OpGuard,
    snapshot: &Snapshot,
) -> Result<()> {
    let Some(previous) = snapshot.companion.as_ref().and_then(|c| c.previous.clone()) else {
        return Ok(());
    };
    tracing::warn!(workload = %name, "an update did not become ready, its old configuration is brought back");
    let saved = parts.saved(name).await?;
    remove_instance(parts, name, snapshot, saved.config(), false).await?;
    thv_process::crash_point!(RollbackRemoved);
    let bytes = previous.config.clone().into_bytes();
    parts
        .state
        .replace(DocumentKind::RunConfig, &name.into(), bytes, keep(op))
        .await?;
    thv_process::crash_point!(RollbackSaved);
    let change = Box::new(move |draft: &mut Draft| {
        draft.companion.previous = None;
        draft.companion.describe(previous.described);
        draft.companion.ready = previous.ready;
        draft.companion.claim = ClaimId::random();
        draft.companion.owner = None;
        draft.status.process_id = 0;
        draft.force_status(WorkloadStatus::Stopped, "its update did not become ready");
    });
    parts.status.update(name, Authority::Verb(op), change).await?;
    thv_process::crash_point!(RollbackCommitted);
    Ok(())
}

async fn finish_removal(
    parts: &Parts,
    name: &WorkloadName,
    op: &OpGuard,
    snapshot: &Snapshot,
    saved: &Saved,
    pending: &Pending,
) -> Result<()> {
    let config = saved.config();
    let grace = StopOptions::default().grace;
    match end_proxy(parts, name, snapshot, config, grace).await? {
        ProxyEnd::None | ProxyEnd::Ended | ProxyEnd::Late => {}
        ProxyEnd::Application { .. } | ProxyEnd::StillAlive { .. } => {
            return Err(Error::StillRunning {
                name: name.to_string(),
                detail: "its deletion was interrupted, and its proxy still lives".into(),
            });
        }
    }
    thv_process::crash_point!(JournalProxyEnded);
    // The configuration goes after the instance, and without it nobody knows that there was none to begin with.
    let is_removed = matches!(saved, Saved::Nothing) && pending.config_hash.is_some();
    match remove_instance(parts, name, snapshot, config, pending.force).await {
        // The removal was allowed when it began: what is there by now is not what it was about.
        Err(error @ Error::AnotherInstallation { .. }) => {
            tracing::warn!(workload = %name, %error, "it is left alone");
        }
        Err(error @ Error::Runtime(_)) if is_removed => {
            tracing::warn!(workload = %name, %error, "its instance was removed before");
        }
        other => other?,
    }
    thv_process::crash_point!(JournalInstanceRemoved);
    kept_image::let_go(parts, name, snapshot).await;
    toolhive::remove_profile(&parts.dirs, config);
    parts.state.delete_run_config_under(name, keep(op)).await?;
    thv_process::crash_point!(JournalConfigDeleted);
    remove_logs(parts, name);
    Ok(())
}

/// The instance that the record names, of a workload that has no configuration any more; no other one is its.
async fn remove_recorded(parts: &Parts, name: &WorkloadName, snapshot: &Snapshot) -> Result<()> {
    if snapshot.companion.as_ref().is_some_and(|c| c.instance.is_some()) {
        remove_instance(parts, name, snapshot, None, false).await?;
    }
    Ok(())
}

/// Drops the entry, and what the record says of a configuration that is not the one that is there.
fn went_on(draft: &mut Draft) {
    draft.companion.pending = None;
    draft.companion.resolved = None;
    draft.companion.provenance = None;
}

fn clear(draft: &mut Draft) {
    draft.companion.pending = None;
}

fn wanted(draft: &mut Draft) {
    draft.companion.pending = None;
    draft.companion.desired = Desired::Running;
}

/// The replacement never came, and its predecessor is supervised: what becomes of it is written by its supervisor.
fn old_runs(draft: &mut Draft) {
    let pending = draft.companion.pending.take();
    if let Some(desired) = pending.and_then(|pending| pending.desired_before) {
        draft.companion.desired = desired;
    }
}

/// The replacement never came: what was there is there, stopped, and wanted as before.
fn old_stands(draft: &mut Draft) {
    old_runs(draft);
    draft.companion.owner = None;
    draft.status.process_id = 0;
    draft.force_status(WorkloadStatus::Stopped, "its replacement was interrupted");
}

fn interrupted(draft: &mut Draft) {
    let pending = draft.companion.pending.as_ref();
    if pending.is_some_and(|pending| pending.operation == Operation::Restart || pending.next.is_some()) {
        draft.companion.desired = Desired::Running;
    }
    draft.companion.carry_out();
    draft.companion.pending = None;
    draft.companion.owner = None;
    draft.status.process_id = 0;
    if draft.companion.desired == Desired::Running {
        draft.force_status(WorkloadStatus::Error, INTERRUPTED);
    }
}

async fn write(parts: &Parts, name: &WorkloadName, op: &OpGuard, change: fn(&mut Draft)) -> Result<()> {
    parts
        .status
        .update(name, Authority::Verb(op), Box::new(change))
        .await?;
    thv_process::crash_point!(JournalCleared);
    Ok(())
}

#[cfg(test)]
mod tests {
    use thv_core::RunConfig;

    use super::*;

    #[test]
    fn whose_configuration_is_there() {
        let saved = |image: &str| {
            let config = RunConfig::from_json(format!(r#"{{"image":"{image}","name":"x"}}"#).as_bytes());
            Saved::Config(Box::new(config.unwrap().normalized()))
        };
        let hash = |saved: &Saved| saved.config().map(config_hash);
        let (a, b, c) = (saved("a"), saved("b"), saved("c"));
        let mut pending = Pending::new(Operation::Run, 1, "now");
        pending.config_hash = hash(&a);
        assert_eq!(whose(&pending, &a), Whose::Its);
        assert_eq!(whose(&pending, &b), Whose::SomebodyElses);
        assert_eq!(
            whose(&pending, &Saved::Nothing),
            Whose::Its,
            "rm had removed it already"
        );
        pending.replaces = hash(&b);
        assert_eq!(whose(&pending, &b), Whose::Replaced);
        assert_eq!(whose(&pending, &c), Whose::SomebodyElses);
        // The same once more.
        pending.replaces = hash(&a);
        assert_eq!(whose(&pending, &a), Whose::Its, "it came");
        pending.next = Some(thv_status::Described::default());
        assert_eq!(whose(&pending, &a), Whose::Replaced, "it has not come");
        let without = Pending::new(Operation::Remove, 1, "now");
        assert_eq!(whose(&without, &a), Whose::SomebodyElses);
    }
}
