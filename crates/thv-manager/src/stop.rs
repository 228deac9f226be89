//! `stop`: proxy, then instance, then state.

use std::time::Duration;

use thv_core::{RunConfig, WorkloadName, WorkloadStatus};
use thv_runtime::{InstanceRef, InstanceState, StopOptions as RuntimeStop};
use thv_state::StateStoreExt;
use thv_status::{
    Authority, Desired, Draft, ForeignMeaning, OpGuard, Operation, OwnerState, Pending, Reading, Snapshot,
};

use crate::owner::{ProxyEnd, end_proxy};
use crate::parts::Parts;
use crate::{Error, Manager, Result, StopOptions, StopOutcome, journal, owner, ports};

/// How long a verb waits for another one on the same workload.
pub(crate) const OP_WAIT: Duration = Duration::from_secs(60);
/// How long a supervisor may live on after its server is gone.
const AFTER_INSTANCE: Duration = Duration::from_secs(5);
/// How long the port of a proxy that ended may still be taken.
const PORT_WAIT: Duration = Duration::from_secs(5);

impl Manager {
    /// Stops `name`: its proxy is drained and ends, its instance is down, its port can be bound; its configuration is
    /// kept. What is stopped already is fine.
    ///
    /// Dropping the future releases what it holds; a later `stop` goes on from there.
    ///
    /// # Errors
    /// `NotFound`; `StillRunning` when something lives although it was killed, and when an application that owns the
    /// workload does not react (its instance is stopped then all the same).
    #[tracing::instrument(skip_all, fields(workload = %name))]
    pub async fn stop(&self, name: &WorkloadName, options: StopOptions) -> Result<StopOutcome> {
        let parts = &self.parts;
        self.known(name).await?;
        self.request_stop(name, options.grace).await?;
        let op = parts.status.lock_op(name, Operation::Stop, OP_WAIT).await?;
        if journal::settle(parts, name, &op).await? == journal::Settled::Removed {
            parts.status.remove(name, op).await?;
            return Err(Error::NotFound {
                name: name.to_string(),
            });
        }
        let config = parts.state.read_run_config(name).await?;
        begin(parts, name, &op, Operation::Stop, config.as_ref()).await?;
        let ended = Box::pin(self.end(name, &op, config.as_ref(), options)).await?;
        parts
            .status
            .update(
                name,
                Authority::Verb(&op),
                Box::new(|draft: &mut Draft| stopped(draft)),
            )
            .await?;
        parts.status.remove_pid_files(name).await?;
        Ok(if ended {
            StopOutcome::Stopped
        } else {
            StopOutcome::NotRunning
        })
    }

    /// `NotFound` when nothing at all is known of `name`: no record, no configuration, no instance.
    pub(crate) async fn known(&self, name: &WorkloadName) -> Result<Snapshot> {
        let parts = &self.parts;
        let snapshot = parts.status.read(name).await?;
        let recorded = snapshot.companion.is_some() && !was_removed(&snapshot);
        if recorded || snapshot.status.is_some() || snapshot.damage.is_some() {
            return Ok(snapshot);
        }
        if parts.state.read_run_config(name).await?.is_some() {
            return Ok(snapshot);
        }
        for kind in parts.runtimes.kinds() {
            // A runtime that is down cannot say that it knows the name.
            if let Ok(Some(_)) = parts.runtimes.get(kind)?.inspect(name).await {
                return Ok(snapshot);
            }
        }
        Err(Error::NotFound {
            name: name.to_string(),
        })
    }

    /// Says at once that the workload should not run, so that a start under way gives up, and wakes its owner.
    pub(crate) async fn request_stop(&self, name: &WorkloadName, grace: Duration) -> Result<()> {
        let parts = &self.parts;
        let grace = u64::try_from(grace.as_millis()).ok();
        let request = Box::new(move |draft: &mut Draft| {
            draft.companion.desired = Desired::Stopped;
            draft.companion.stop_grace_ms = grace;
        });
        match parts.status.update(name, Authority::StopRequest, request).await {
            Ok(_) | Err(thv_status::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.tasks.stop(name);
        owner::wake(parts, name).await
    }

    /// Ends proxy and instance, in this order, under the workload's `.op`, which `_op` proves. `true` when something of them ran.
    pub(crate) async fn end(
        &self,
        name: &WorkloadName,
        _op: &OpGuard,
        config: Option<&RunConfig>,
        options: StopOptions,
    ) -> Result<bool> {
        let parts = &self.parts;
        self.tasks.stop(name);
        let snapshot = parts.status.read(name).await?;
        let proxy = end_proxy(parts, name, &snapshot, config, options.grace).await?;
        let stopped = stop_instance(parts, name, &snapshot, config, options).await?;
        // A supervisor that waited for its server ends once the server has.
        let proxy = match proxy {
            ProxyEnd::Application { .. } if parts.status.owner_free(name, AFTER_INSTANCE).await? => {
                ProxyEnd::Ended
            }
            other => other,
        };
        match &proxy {
            ProxyEnd::None | ProxyEnd::Ended => {}
            ProxyEnd::Application { launcher } => {
                return Err(Error::StillRunning {
                    name: name.to_string(),
                    detail: format!(
                        "its proxy lives in {launcher}, which did not react; its server is stopped"
                    ),
                });
            }
            ProxyEnd::StillAlive { pid } => {
                return Err(Error::StillRunning {
                    name: name.to_string(),
                    detail: format!("its proxy, process {pid}, lives although it was killed"),
                });
            }
        }
        if proxy == ProxyEnd::Ended
            && let Some(config) = config
            && !ports::wait_free(&config.host, config.port, PORT_WAIT).await
        {
            return Err(Error::StillRunning {
                name: name.to_string(),
                detail: format!("port {} is still taken", config.port),
            });
        }
        Ok(proxy == ProxyEnd::Ended || stopped)
    }
}

/// Whether another program removed the status file of what nobody works on. With the configuration gone too, the
/// workload is removed, and what is left of its record is not one.
pub(crate) fn was_removed(snapshot: &Snapshot) -> bool {
    snapshot.reading == Reading::Foreign(ForeignMeaning::Gone)
        && snapshot.owner == OwnerState::Dead
        && snapshot
            .companion
            .as_ref()
            .is_some_and(|companion| companion.pending.is_none())
}

/// Writes the journal entry of a verb and the status that goes with it.
pub(crate) async fn begin(
    parts: &Parts,
    name: &WorkloadName,
    op: &OpGuard,
    operation: Operation,
    config: Option<&RunConfig>,
) -> Result<()> {
    let mut pending = Pending::new(
        operation,
        parts.processes.current().pid,
        &parts.clock.now().to_string(),
    );
    pending.config_hash = config.map(journal::config_hash);
    let launcher = parts.launcher_id.clone();
    let change = Box::new(move |draft: &mut Draft| {
        if draft.companion.launcher.is_empty() {
            draft.companion.launcher = launcher;
        }
        draft.companion.pending = Some(pending);
        draft.companion.desired = Desired::Stopped;
        match operation {
            Operation::Remove => draft.set_status(WorkloadStatus::Removing, ""),
            _ if draft.status.status == WorkloadStatus::Stopped => {}
            _ => draft.set_status(WorkloadStatus::Stopping, ""),
        }
    });
    parts.status.update(name, Authority::Verb(op), change).await?;
    Ok(())
}

fn stopped(draft: &mut Draft) {
    draft.companion.pending = None;
    draft.companion.owner = None;
    draft.status.process_id = 0;
    draft.set_status(WorkloadStatus::Stopped, "");
}

/// Stops whatever instance the workload has. `true` when it ran.
async fn stop_instance(
    parts: &Parts,
    name: &WorkloadName,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
    options: StopOptions,
) -> Result<bool> {
    let recorded = snapshot
        .companion
        .as_ref()
        .and_then(|companion| companion.runtime.as_ref());
    let Some(runtime) = parts
        .runtime_of(name, recorded.map(|runtime| &runtime.kind), config)
        .await?
    else {
        return Ok(false);
    };
    let Some(instance) = runtime.inspect(name).await? else {
        return Ok(false);
    };
    owner::check(&*parts.status, &instance, options.force).await?;
    let ran = matches!(
        instance.state,
        InstanceState::Running | InstanceState::Starting | InstanceState::Unknown
    );
    // Asked in any state: helpers, and processes that left the instance, end with it.
    let which = InstanceRef::exact(name.clone(), instance.id);
    runtime.stop(&which, RuntimeStop { grace: options.grace }).await?;
    Ok(ran)
}
