//! `reconcile`: brings reality to what is desired, for the workloads that are ours to start.

use std::time::Duration;

use thv_core::{RunConfig, WorkloadName, WorkloadStatus};
use thv_runtime::InstanceState;
use thv_status::{Desired, Operation, OwnerState, Reading, Snapshot};

use crate::parts::COMMAND_LINE;
use crate::stop::was_removed;
use crate::{
    Error, Manager, Result, StartOptions, StopOptions, engine, journal, kept_image, owner, toolhive,
};

/// How long a workload's lock is waited for. A verb that goes on holds it longer, and needs nobody to finish it.
const CUT_OFF: Duration = Duration::from_secs(1);

/// What `reconcile` did about one workload.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reconciled {
    /// The workload.
    pub name: WorkloadName,
    /// What was done.
    pub action: ReconcileAction,
}

/// What `reconcile` did, and why.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReconcileAction {
    /// It should run and did not: it was started.
    Started,
    /// It should not run, and a part of it did: it was stopped.
    Stopped,
    /// Nothing of it is left: an interrupted `run` or deletion was finished, or what another program removed.
    Removed,
    /// It should run and its launcher is another application, which has to start it.
    BelongsElsewhere {
        /// That application.
        launcher: String,
    },
    /// It should run and could not be started.
    Failed(Error),
}

impl Manager {
    /// Starts what should run, does not, and is this manager's to start; finishes interrupted verbs. What was stopped
    /// stays so. Running it again changes nothing. What somebody works on right now is left to them.
    ///
    /// # Errors
    /// `Status` when the records cannot be read. What fails for one workload is its own [`ReconcileAction::Failed`].
    pub async fn reconcile(&self, options: StartOptions) -> Result<Vec<Reconciled>> {
        let mut done = Vec::new();
        for snapshot in self.parts.status.list().await? {
            let Some(name) = snapshot.name.clone() else {
                continue;
            };
            match Box::pin(self.reconcile_one(&name, snapshot, &options)).await {
                Ok(None) => {}
                Ok(Some(action)) => done.push(Reconciled { name, action }),
                // Whatever it was, somebody removed it meanwhile.
                Err(_) if self.is_gone(&name).await => {}
                Err(error) => done.push(Reconciled {
                    name,
                    action: ReconcileAction::Failed(error),
                }),
            }
        }
        Ok(done)
    }

    async fn reconcile_one(
        &self,
        name: &WorkloadName,
        mut snapshot: Snapshot,
        options: &StartOptions,
    ) -> Result<Option<ReconcileAction>> {
        if snapshot.companion.is_some() {
            match self.finish(name).await {
                Ok(journal::Settled::Removed) => return Ok(Some(ReconcileAction::Removed)),
                Ok(journal::Settled::Clear) => {}
                // Somebody works on it right now.
                Err(Error::Status(error)) if error.is_retryable() => return Ok(None),
                Err(error) => return Err(error),
            }
            snapshot = self.parts.status.read(name).await?;
        }
        if self.is_abandoned(&snapshot)? {
            Box::pin(self.serve_previous(name)).await?;
            return Ok(Some(ReconcileAction::Started));
        }
        // Of what is to be started the image is needed until it serves, which releases it.
        let at_rest = snapshot.owner == OwnerState::Alive || snapshot.desired() == Desired::Stopped;
        if at_rest && kept_image::is_left(&snapshot) {
            self.release_image(name).await?;
        }
        let config = self.parts.find_config(name).await?;
        // What it was starting may have died before it served.
        let was_started = toolhive::was_started(&self.parts, &snapshot)?;
        if !was_started && toolhive::runs(&self.parts, name, &snapshot, config.as_ref())? {
            return Ok(None);
        }
        let removed = was_removed(&snapshot) && self.is_gone(name).await;
        if removed || (config.is_none() && self.is_remnant(name, &snapshot).await) {
            self.delete(name, StopOptions::default()).await?;
            return Ok(Some(ReconcileAction::Removed));
        }
        if snapshot.desired() == Desired::Stopped && !was_started {
            // Without a record ToolHive looks after it.
            if snapshot.companion.is_none()
                || (is_at_rest(&snapshot) && !self.was_left(name, &snapshot, config.as_ref()).await)
            {
                return Ok(None);
            }
            return self.reconcile_stop(name, config.as_ref()).await;
        }
        if snapshot.owner == OwnerState::Alive || config.is_none() {
            return Ok(None);
        }
        let launcher = snapshot
            .companion
            .as_ref()
            .map_or_else(String::new, |companion| companion.launcher.clone());
        let mine = launcher == self.parts.launcher_id
            || (launcher.is_empty() && self.parts.launcher_id == COMMAND_LINE);
        if !mine && !options.take_over {
            return Ok(Some(ReconcileAction::BelongsElsewhere { launcher }));
        }
        let outcome = Box::pin(self.start(name, options.clone())).await?;
        Ok((!outcome.already_running).then_some(ReconcileAction::Started))
    }

    async fn is_gone(&self, name: &WorkloadName) -> bool {
        matches!(self.known(name).await, Err(Error::NotFound { .. }))
    }

    /// Whether an instance of ours runs, whatever the records say: who deployed it may have been killed before that was
    /// recorded. Of a runtime that does not answer nothing is known, and nothing is done.
    async fn was_left(&self, name: &WorkloadName, snapshot: &Snapshot, config: Option<&RunConfig>) -> bool {
        let Ok(Some(runtime)) = self.parts.runtime_in(name, snapshot, config).await else {
            return false;
        };
        match runtime.inspect(name).await {
            Ok(Some(instance)) if instance.state.is_up() => {
                // One without a label may be ToolHive's, that is just starting it.
                instance.labels.contains_key(thv_labels::OWNER)
                    && owner::check(&*self.parts.status, &instance, false).await.is_ok()
            }
            _ => false,
        }
    }

    /// Whether there is only a record, of what has no configuration any more: another program removed the workload while
    /// its supervisor lived, which then wrote how it ended. The instance that it deployed meanwhile, and stopped, goes too.
    async fn is_remnant(&self, name: &WorkloadName, snapshot: &Snapshot) -> bool {
        let Some(companion) = &snapshot.companion else {
            return false;
        };
        if snapshot.owner == OwnerState::Alive || companion.pending.is_some() || companion.previous.is_some()
        {
            return false;
        }
        let instance = match self.parts.runtime_in(name, snapshot, None).await {
            Ok(Some(runtime)) if engine::is_elsewhere(name, snapshot, &*runtime).await.is_some() => {
                return false;
            }
            Ok(Some(runtime)) => runtime.inspect(name).await,
            Ok(None) => Ok(None),
            // Nobody can say.
            Err(_) => return false,
        };
        match instance {
            Ok(None) => true,
            Ok(Some(instance)) => {
                companion.instance.as_ref() == Some(&instance.id)
                    && instance.state == InstanceState::Stopped
                    && instance.labels.contains_key(thv_labels::OWNER)
                    && owner::check(&*self.parts.status, &instance, false).await.is_ok()
            }
            Err(_) => false,
        }
    }

    /// Completes a stop that was asked for and cut off, or the removal of what another program removed under its
    /// supervisor.
    async fn reconcile_stop(
        &self,
        name: &WorkloadName,
        config: Option<&RunConfig>,
    ) -> Result<Option<ReconcileAction>> {
        Box::pin(self.stop(name, StopOptions::default())).await?;
        if config.is_none() {
            let snapshot = self.parts.status.read(name).await?;
            if self.is_remnant(name, &snapshot).await {
                self.delete(name, StopOptions::default()).await?;
                return Ok(Some(ReconcileAction::Removed));
            }
        }
        Ok(Some(ReconcileAction::Stopped))
    }

    async fn release_image(&self, name: &WorkloadName) -> Result<()> {
        let status = &self.parts.status;
        match status.lock_op(name, Operation::Start, Duration::ZERO).await {
            Ok(op) => kept_image::release(&self.parts, name, &op).await,
            // Somebody works on it right now.
            Err(error) if error.is_retryable() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Finishes what was cut off. What a dropped verb was writing is written when its lock is free: before that nobody can
    /// tell what there is to finish, and nobody else will.
    async fn finish(&self, name: &WorkloadName) -> Result<journal::Settled> {
        let parts = &self.parts;
        let op = parts.status.lock_op(name, Operation::Start, CUT_OFF).await?;
        let snapshot = parts.status.read(name).await?;
        let Some(companion) = &snapshot.companion else {
            // Who had the lock before has removed it: what the lock is made of goes too.
            if snapshot.status.is_none() && snapshot.damage.is_none() {
                parts.status.remove(name, op).await?;
            }
            return Ok(journal::Settled::Clear);
        };
        let unfinished = companion.pending.is_some()
            || companion.gives_way
            || (companion.previous.is_some() && snapshot.owner == OwnerState::Dead);
        if !unfinished {
            return Ok(journal::Settled::Clear);
        }
        let settled = journal::settle(parts, name, &op).await?;
        if settled == journal::Settled::Removed {
            parts.status.remove(name, op).await?;
        }
        Ok(settled)
    }
}

/// Whether a workload that should not run is recorded as one that does not. What somebody else wrote tells what they
/// want, not that its instance is down: a killed supervisor may have left it.
fn is_at_rest(snapshot: &Snapshot) -> bool {
    use WorkloadStatus as S;
    snapshot.owner == OwnerState::Dead
        && !matches!(snapshot.reading, Reading::Foreign(_))
        && snapshot.status.as_ref().is_some_and(|file| {
            matches!(
                file.status,
                S::Stopped | S::Error | S::Removing | S::PolicyStopped | S::Unknown
            )
        })
}
