//! What a supervisor writes, and the claim under which it may.

use std::collections::BTreeMap;
use std::time::Duration;

use thv_core::WorkloadStatus;
use thv_runtime::{DeployOutcome, Deployment, EngineIdentity, InstanceId, InstanceRef, Runtime, StopOptions};
use thv_status::{Authority, Companion, Desired, Draft, Owner, OwnerKind, Snapshot};

use super::Supervisor;
use crate::{Result, kept_image, toolhive};

/// How long records are tried again that cannot be read or written, before a server is given up for them.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What the records say that a supervisor is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Go on.
    Run,
    /// End its server.
    Stop,
    /// Somebody else has the workload: end without an effect.
    Lost,
}

impl Supervisor {
    /// Writes who owns the workload and clears the journal entry of the launch. `false`: the claim is lost.
    pub(super) async fn take_ownership(&self) -> Result<bool> {
        let owner = Owner {
            kind: self.kind,
            identity: self.parts.processes.current(),
            ending: false,
        };
        // ToolHive signals the pid that it finds: of an application it must find none.
        let pid = match self.kind {
            OwnerKind::Application => 0,
            _ => i64::from(owner.identity.pid),
        };
        let taken = self
            .write_if_ours(move |draft| {
                draft.companion.owner = Some(owner.clone());
                draft.companion.pending = None;
                draft.status.process_id = pid;
                draft.set_status(WorkloadStatus::Starting, "");
            })
            .await?;
        // Evidence for ToolHive, where its status file names no pid: worth a try, not a failed start.
        if taken && let Err(error) = self.write_pid_file().await {
            tracing::warn!(%error, "the PID file could not be written");
        }
        Ok(taken)
    }

    /// It serves, and mostly waits from now on. An application has other things to do than this.
    pub(super) fn rest(&self) {
        if self.kind == OwnerKind::Detached {
            self.parts.processes.at_rest();
        }
    }

    /// ToolHive looks for the proxy of a detached container workload there, where its status file names none.
    async fn write_pid_file(&self) -> Result<()> {
        if self.kind != OwnerKind::Detached {
            return Ok(());
        }
        let companion = self.parts.status.read(&self.name).await?.companion;
        let record = companion
            .as_ref()
            .and_then(|companion| companion.runtime.as_ref());
        let runtime = record.and_then(|record| self.parts.runtimes.get(&record.kind).ok());
        if runtime.is_some_and(|runtime| runtime.capabilities().images) {
            let pid = self.parts.processes.current().pid;
            self.parts.status.write_pid_file(&self.name, pid).await?;
        }
        Ok(())
    }

    /// Writes a status. `false`: the claim is lost and nothing was written.
    pub(super) async fn write_status(&self, status: WorkloadStatus, context: &str) -> Result<bool> {
        let text = context.to_owned();
        self.write_if_ours(move |draft| draft.set_status(status, &text))
            .await
    }

    /// Says that it was heard that the supervisor should end, before anything that may take its time. `false`: the claim
    /// is lost and nothing was written.
    pub(super) async fn write_ending(&self) -> Result<bool> {
        self.write_if_ours(|draft| {
            if let Some(owner) = &mut draft.companion.owner {
                owner.ending = true;
            }
            draft.set_status(WorkloadStatus::Stopping, "");
        })
        .await
    }

    /// The server answered `initialize`.
    pub(super) async fn write_ready(&self, config_hash: String) -> Result<bool> {
        self.write_if_ours(move |draft| {
            draft.companion.ready = Some(config_hash.clone());
            // An update that serves has nothing to go back to.
            draft.companion.previous = None;
            draft.set_status(WorkloadStatus::Running, "");
        })
        .await
    }

    /// Releases the image that an update kept, now that it serves.
    pub(super) async fn release_kept_image(&self) {
        let released = async {
            let snapshot = self.snapshot().await?;
            if kept_image::is_left(&snapshot) && kept_image::let_go(&self.parts, &self.name, &snapshot).await
            {
                let done = self.write(|draft| {
                    // Another update may have begun, which keeps what serves now.
                    if draft.companion.pending.is_none() {
                        draft.companion.image_kept_on = None;
                    }
                });
                done.await?;
            }
            Ok::<_, crate::Error>(())
        };
        if let Err(error) = released.await {
            tracing::warn!(%error, "an old version's image may still be kept");
        }
    }

    pub(super) async fn write_instance(
        &self,
        id: InstanceId,
        engine: EngineIdentity,
        isolated: bool,
        secrets: BTreeMap<String, u64>,
    ) -> Result<bool> {
        let written = self.write(move |draft| {
            draft.companion.instance = Some(id.clone());
            if let Some(runtime) = &mut draft.companion.runtime
                && !engine.id.is_empty()
            {
                runtime.engine_id = Some(engine.id.clone());
                runtime.endpoint = Some(engine.place.clone());
            }
            draft.companion.secret_revisions.clone_from(&secrets);
            draft.companion.isolated = isolated;
        });
        Ok(written.await?.is_some())
    }

    /// Says that the server is dead, before its runtime says how it ended. `false`: the claim is lost and nothing was written.
    pub(super) async fn write_dead(&self) -> Result<bool> {
        match self.standing().await? {
            Standing::Run => {
                self.write_status(WorkloadStatus::Unhealthy, "the server ended")
                    .await
            }
            // Somebody wished it, and says so.
            Standing::Stop => Ok(true),
            Standing::Lost => Ok(false),
        }
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
            .write_if_ours(move |draft| {
                draft.companion.owner = None;
                draft.status.process_id = 0;
                draft.set_status(status, &text);
            })
            .await?;
        if written && let Err(error) = self.parts.status.remove_pid_files(&self.name).await {
            tracing::warn!(%error, "the PID file could not be removed");
        }
        Ok(written)
    }

    /// Writes, unless somebody else has the workload by now (`None`).
    async fn write(&self, change: impl Fn(&mut Draft) + Clone + Send + 'static) -> Result<Option<Companion>> {
        let written = patiently(|| {
            let (parts, name, change) = (self.parts.clone(), self.name.clone(), change.clone());
            let guarded = Box::new(move |draft: &mut Draft| {
                if toolhive::took_over(&parts, &name, draft) {
                    draft.decline();
                } else {
                    change(draft);
                }
            });
            let authority = Authority::Supervisor(&self.claim);
            self.parts.status.update(&self.name, authority, guarded)
        });
        match written.await {
            Ok(companion) => Ok(Some(companion)),
            Err(thv_status::Error::ClaimLost { .. } | thv_status::Error::Declined { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`write`](Self::write): whether it is still ours.
    async fn write_if_ours(&self, change: impl Fn(&mut Draft) + Clone + Send + 'static) -> Result<bool> {
        Ok(self.write(change).await?.is_some())
    }

    /// What the records say that this supervisor is to do.
    pub(super) async fn standing(&self) -> Result<Standing> {
        let snapshot = self.snapshot().await?;
        let claimed = snapshot
            .companion
            .as_ref()
            .is_some_and(|companion| companion.claim == self.claim);
        if !claimed || toolhive::runs(&self.parts, &self.name, &snapshot, None)? {
            return Ok(Standing::Lost);
        }
        Ok(match snapshot.desired() {
            Desired::Running => Standing::Run,
            Desired::Stopped => Standing::Stop,
        })
    }

    pub(super) async fn snapshot(&self) -> Result<Snapshot> {
        Ok(patiently(|| self.parts.status.read(&self.name)).await?)
    }

    /// How the instance is to be stopped: as the `stop` that asked for it said.
    pub(super) async fn stop_options(&self) -> Result<StopOptions> {
        Ok(options_in(self.snapshot().await?))
    }

    /// The same of records that can be read at once; the usual time otherwise.
    pub(super) async fn grace_now(&self) -> Duration {
        let snapshot = self.parts.status.read(&self.name).await;
        snapshot.map(options_in).unwrap_or_default().grace
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

/// How a record says that the instance is to be stopped.
fn options_in(snapshot: Snapshot) -> StopOptions {
    let grace = snapshot.companion.and_then(|companion| companion.stop_grace_ms);
    grace.map_or_else(StopOptions::default, |grace| StopOptions {
        grace: Duration::from_millis(grace),
    })
}

/// Tries again while the disk or the lock of a record is not to be had.
async fn patiently<T, F>(mut call: impl FnMut() -> F) -> thv_status::Result<T>
where
    F: Future<Output = thv_status::Result<T>>,
{
    use thv_status::Error as E;
    let give_up = tokio::time::Instant::now() + RECORD_PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        match call().await {
            Err(error)
                if matches!(error, E::Io { .. } | E::Full { .. } | E::Conflict { .. })
                    && tokio::time::Instant::now() < give_up =>
            {
                tracing::warn!(%error, "trying again");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            other => return other,
        }
    }
}
