//! What a supervisor writes, and the claim under which it may.

use std::time::Duration;

use thv_core::WorkloadStatus;
use thv_runtime::{DeployOutcome, Deployment, InstanceId, InstanceRef, Runtime, StopOptions};
use thv_status::{Authority, Desired, Draft, Owner, OwnerKind};

use super::Supervisor;
use crate::Result;
use crate::events::ManagerEvent;

impl Supervisor {
    /// Writes who owns the workload and clears the journal entry of the launch. `false`: the claim is lost.
    pub(super) async fn take_ownership(&self) -> Result<bool> {
        let owner = Owner {
            kind: self.kind,
            identity: self.parts.processes.current(),
        };
        // ToolHive signals the pid that it finds: of an application it must find none.
        let pid = match self.kind {
            OwnerKind::Application => 0,
            _ => i64::from(owner.identity.pid),
        };
        let taken = self
            .write(move |draft| {
                draft.companion.owner = Some(owner);
                draft.companion.pending = None;
                draft.status.process_id = pid;
                draft.set_status(WorkloadStatus::Starting, "");
            })
            .await?;
        if taken {
            // Evidence for ToolHive, where its status file names no pid: worth a try, not a failed start.
            if let Err(error) = self.write_pid_file().await {
                tracing::warn!(%error, "the PID file could not be written");
            }
            self.emit(WorkloadStatus::Starting, "");
        }
        Ok(taken)
    }

    /// ToolHive looks for the proxy of a detached container workload there, where its status file names none.
    async fn write_pid_file(&self) -> Result<()> {
        if self.kind != OwnerKind::Detached {
            return Ok(());
        }
        let companion = self.parts.status.read(&self.name).await?.companion;
        let kind = companion
            .and_then(|companion| companion.runtime)
            .map(|runtime| runtime.kind);
        let runtime = kind.and_then(|kind| self.parts.runtimes.get(&kind).ok());
        if runtime.is_some_and(|runtime| runtime.capabilities().images) {
            let pid = self.parts.processes.current().pid;
            self.parts.status.write_pid_file(&self.name, pid).await?;
        }
        Ok(())
    }

    /// Writes a status. `false`: the claim is lost and nothing was written.
    pub(super) async fn write_status(&self, status: WorkloadStatus, context: &str) -> Result<bool> {
        let text = context.to_owned();
        let written = self.write(move |draft| draft.set_status(status, &text)).await?;
        if written {
            self.emit(status, context);
        }
        Ok(written)
    }

    /// The server answered `initialize`.
    pub(super) async fn write_ready(&self, config_hash: String) -> Result<bool> {
        let written = self
            .write(move |draft| {
                draft.companion.ready = Some(config_hash);
                draft.set_status(WorkloadStatus::Running, "");
            })
            .await?;
        if written {
            self.emit(WorkloadStatus::Running, "");
        }
        Ok(written)
    }

    pub(super) async fn write_instance(&self, id: InstanceId, isolated: bool) -> Result<bool> {
        self.write(move |draft| {
            draft.companion.instance = Some(id);
            draft.companion.isolated = isolated;
        })
        .await
    }

    pub(super) async fn write_stopped(&self, context: &str) -> Result<bool> {
        self.write_end(WorkloadStatus::Stopped, context).await
    }

    pub(super) async fn write_failed(&self, reason: &str) -> Result<bool> {
        self.write_end(WorkloadStatus::Error, reason).await
    }

    async fn write_end(&self, status: WorkloadStatus, context: &str) -> Result<bool> {
        let text = context.to_owned();
        let written = self
            .write(move |draft| {
                draft.companion.owner = None;
                draft.status.process_id = 0;
                draft.set_status(status, &text);
            })
            .await?;
        if written {
            if let Err(error) = self.parts.status.remove_pid_files(&self.name).await {
                tracing::warn!(%error, "the PID file could not be removed");
            }
            self.emit(status, context);
        }
        Ok(written)
    }

    async fn write(&self, change: impl FnOnce(&mut Draft) + Send + 'static) -> Result<bool> {
        let authority = Authority::Supervisor(&self.claim);
        match self
            .parts
            .status
            .update(&self.name, authority, Box::new(change))
            .await
        {
            Ok(_) => Ok(true),
            Err(thv_status::Error::ClaimLost { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn emit(&self, status: WorkloadStatus, context: &str) {
        self.parts.emit(ManagerEvent {
            name: self.name.clone(),
            status,
            context: context.to_owned(),
        });
    }

    /// Whether the companion still names this claim.
    pub(super) async fn holds_claim(&self) -> Result<bool> {
        Ok(self
            .parts
            .status
            .claim_is_current(&self.name, &self.claim)
            .await?)
    }

    /// Whether the claim is held and the workload should run.
    pub(super) async fn should_run(&self) -> Result<bool> {
        let snapshot = self.parts.status.read(&self.name).await?;
        Ok(snapshot
            .companion
            .as_ref()
            .is_some_and(|companion| companion.claim == self.claim && snapshot.desired() == Desired::Running))
    }

    /// How the instance is to be stopped: as the `stop` that asked for it said.
    pub(super) async fn stop_options(&self) -> Result<StopOptions> {
        let snapshot = self.parts.status.read(&self.name).await?;
        let grace = snapshot.companion.and_then(|companion| companion.stop_grace_ms);
        Ok(grace.map_or_else(StopOptions::default, |grace| StopOptions {
            grace: Duration::from_millis(grace),
        }))
    }

    /// Takes back what a deployment did after the claim was lost, unless the record names that instance by now.
    pub(super) async fn undo(&self, runtime: &dyn Runtime, deployment: &Deployment) -> Result<()> {
        let id = deployment.instance.id.clone();
        let snapshot = self.parts.status.read(&self.name).await?;
        if snapshot
            .companion
            .is_some_and(|companion| companion.instance.as_ref() == Some(&id))
        {
            return Ok(());
        }
        let which = InstanceRef::exact(self.name.clone(), id);
        let undone = match deployment.outcome {
            DeployOutcome::Created | DeployOutcome::Replaced => runtime.remove(&which).await,
            DeployOutcome::Started => runtime.stop(&which, StopOptions::default()).await,
            DeployOutcome::AlreadyRunning => Ok(()),
        };
        match undone {
            // Somebody else's instance is there by now: ours is gone.
            Ok(()) | Err(thv_runtime::Error::Conflict { .. } | thv_runtime::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
