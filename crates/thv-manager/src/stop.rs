//! `stop`: proxy, then instance, then state.

use std::time::Duration;

use thv_core::{RunConfig, WorkloadName, WorkloadStatus};
use thv_runtime::{InstanceRef, InstanceState, StopOptions as RuntimeStop};
use thv_status::{
    Authority, Desired, Draft, ForeignMeaning, OpGuard, Operation, OwnerState, Pending, Reading, Snapshot,
};

use crate::owner::{ProxyEnd, end_proxy};
use crate::parts::{Parts, Saved};
use crate::{Error, Manager, Result, StopOptions, StopOutcome, journal, owner, ports, toolhive};

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
        let ran = self.ask_to_stop(name, options).await?;
        thv_process::crash_point!(StopAsked);
        let op = self.lock(name, Operation::Stop).await?;
        let saved = parts.saved(name).await?;
        let config = saved.config();
        begin(parts, name, &op, Operation::Stop, config, options).await?;
        thv_process::crash_point!(StopBegun);
        let ended = Box::pin(self.end(name, &op, config, options)).await?;
        parts
            .status
            .update(
                name,
                Authority::Verb(&op),
                Box::new(|draft: &mut Draft| stopped(draft)),
            )
            .await?;
        thv_process::crash_point!(StopWritten);
        parts.status.remove_pid_files(name).await?;
        // Its proxy may have ended as soon as it was asked, before this verb's turn.
        Ok(if ended || ran {
            StopOutcome::Stopped
        } else {
            StopOutcome::NotRunning
        })
    }

    /// The lock of changing verbs on a workload that is there, with what was interrupted before finished.
    pub(crate) async fn lock(&self, name: &WorkloadName, operation: Operation) -> Result<OpGuard> {
        let op = self.parts.status.lock_op(name, operation, OP_WAIT).await?;
        self.settled(name, op).await
    }

    /// The same of a lock that is held.
    pub(crate) async fn settled(&self, name: &WorkloadName, op: OpGuard) -> Result<OpGuard> {
        let parts = &self.parts;
        let settled = journal::settle(parts, name, &op).await?;
        // Who had the lock before may have removed it.
        if settled == journal::Settled::Clear {
            match self.known(name).await {
                Err(Error::NotFound { .. }) => {}
                other => return other.map(|_| op),
            }
        }
        parts.status.remove(name, op).await?;
        Err(Error::NotFound {
            name: name.to_string(),
        })
    }

    /// The lock of a verb that puts something that runs in the place of what runs. A start under way is asked to give up.
    /// Where there is none, nothing says that the workload should stop before the journal says why: a verb that is cut
    /// off until then has changed nothing.
    pub(crate) async fn lock_to_replace(
        &self,
        name: &WorkloadName,
        operation: Operation,
        options: StopOptions,
    ) -> Result<OpGuard> {
        let status = &self.parts.status;
        match status.lock_op(name, operation, Duration::ZERO).await {
            Err(thv_status::Error::Conflict { .. }) => {
                self.request(name, options.grace, Asks::ToGiveWay).await?;
                Ok(status.lock_op(name, operation, OP_WAIT).await?)
            }
            other => Ok(other?),
        }
    }

    /// Asks that `name` be stopped, after everything that could refuse it. `true` when it had a proxy of ours.
    pub(crate) async fn ask_to_stop(&self, name: &WorkloadName, options: StopOptions) -> Result<bool> {
        let owner = self.check_stop(name, options).await?;
        self.request(name, options.grace, Asks::ToStop).await?;
        Ok(owner == OwnerState::Alive)
    }

    /// Everything that could refuse that `name` be stopped. Whether somebody supervises it.
    pub(crate) async fn check_stop(&self, name: &WorkloadName, options: StopOptions) -> Result<OwnerState> {
        let snapshot = self.known(name).await?;
        let saved = self.parts.saved(name).await?;
        if let Saved::Damaged(error) = &saved {
            tracing::warn!(workload = %name, %error, "going on without it");
        }
        owner::check_first(&self.parts, name, &snapshot, saved.config(), options.force).await?;
        Ok(snapshot.owner)
    }

    /// `NotFound` when nothing at all is known of `name`: no record, no configuration, no instance.
    pub(crate) async fn known(&self, name: &WorkloadName) -> Result<Snapshot> {
        let parts = &self.parts;
        let snapshot = parts.status.read(name).await?;
        let recorded = snapshot.companion.is_some() && !was_removed(&snapshot);
        if recorded || snapshot.status.is_some() || snapshot.damage.is_some() {
            return Ok(snapshot);
        }
        if !matches!(parts.saved(name).await?, Saved::Nothing) {
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
    async fn request(&self, name: &WorkloadName, grace: Duration, asks: Asks) -> Result<()> {
        let parts = &self.parts;
        let grace = milliseconds(grace);
        let request = Box::new(move |draft: &mut Draft| {
            let runs = draft.companion.desired == Desired::Running || draft.companion.gives_way;
            draft.companion.gives_way = asks == Asks::ToGiveWay && runs;
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

    /// Ends proxy and instance, in this order, under the workload's `.op`, which `op` proves; on return its port can be
    /// bound. `true` when something of them ran.
    pub(crate) async fn end(
        &self,
        name: &WorkloadName,
        op: &OpGuard,
        config: Option<&RunConfig>,
        options: StopOptions,
    ) -> Result<bool> {
        let ended = self.end_but_port(name, op, config, options).await?;
        let parts = &self.parts;
        if ended.proxy
            && let Some(config) = config
            && !ports::wait_free(&config.host, config.port, &*parts.ports, PORT_WAIT).await
            && !self.is_somebody_elses(name, config).await?
        {
            return Err(Error::StillRunning {
                name: name.to_string(),
                detail: format!(
                    "port {} is still taken: {}",
                    config.port,
                    ports::holder(config.port, &*parts.processes)
                ),
            });
        }
        Ok(ended.proxy || ended.instance)
    }

    /// Whether the port of `config` was taken by another program as soon as the workload's proxy gave it up.
    async fn is_somebody_elses(&self, name: &WorkloadName, config: &RunConfig) -> Result<bool> {
        let parts = &self.parts;
        let Some(holder) = parts.processes.port_holder(config.port)? else {
            return Ok(false);
        };
        let snapshot = parts.status.read(name).await?;
        let is_its = toolhive::find_proxy(parts, name, &snapshot, Some(config))?.is_some();
        if !is_its {
            tracing::warn!(port = config.port, %holder, "the port was free and is taken again");
        }
        Ok(!is_its)
    }

    /// As [`end`](Self::end), by somebody who has the port already: the proxy did not listen yet, or not any more.
    pub(crate) async fn end_but_port(
        &self,
        name: &WorkloadName,
        _op: &OpGuard,
        config: Option<&RunConfig>,
        options: StopOptions,
    ) -> Result<Ended> {
        let parts = &self.parts;
        self.tasks.stop(name);
        let snapshot = parts.status.read(name).await?;
        let proxy = end_proxy(parts, name, &snapshot, config, options.grace).await?;
        thv_process::crash_point!(EndProxyEnded);
        let options = match proxy {
            ProxyEnd::Late => StopOptions {
                grace: Duration::ZERO,
                ..options
            },
            _ => options,
        };
        let stopped = self.stop_instance(name, &snapshot, config, options).await?;
        thv_process::crash_point!(EndInstanceStopped);
        // A supervisor that waited for its server ends once the server has.
        let proxy = match proxy {
            ProxyEnd::Application { .. } if parts.status.owner_free(name, AFTER_INSTANCE).await? => {
                ProxyEnd::Ended
            }
            other => other,
        };
        match &proxy {
            ProxyEnd::None | ProxyEnd::Ended | ProxyEnd::Late => {}
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
        Ok(Ended {
            proxy: matches!(proxy, ProxyEnd::Ended | ProxyEnd::Late),
            instance: stopped,
        })
    }

    /// Stops whatever instance the workload has. `true` when it ran.
    async fn stop_instance(
        &self,
        name: &WorkloadName,
        snapshot: &Snapshot,
        config: Option<&RunConfig>,
        options: StopOptions,
    ) -> Result<bool> {
        let parts = &self.parts;
        let runtime = match parts.runtime_in(name, snapshot, config).await {
            Ok(Some(runtime)) => runtime,
            Ok(None) => return Ok(false),
            Err(error) if self.was_stopped_by_its_owner(name).await? => {
                tracing::warn!(error = %error, "its application stopped it, which alone knows its runtime");
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let grace = RuntimeStop { grace: options.grace };
        let Some(instance) = runtime.inspect(name).await? else {
            // Removed by hand, perhaps without the helpers around it. The id: one made meanwhile is not meant.
            if let Some(last) = snapshot.companion.as_ref().and_then(|it| it.instance.clone()) {
                let which = InstanceRef::exact(name.clone(), last);
                runtime.stop(&which, grace).await?;
            }
            return Ok(false);
        };
        owner::check(&*parts.status, &instance, options.force).await?;
        let ran = matches!(
            instance.state,
            InstanceState::Running | InstanceState::Paused | InstanceState::Starting | InstanceState::Unknown
        );
        // Asked in any state: helpers, and processes that left the instance, end with it.
        let which = InstanceRef::exact(name.clone(), instance.id);
        runtime.stop(&which, grace).await?;
        Ok(ran)
    }

    /// Whether its supervisor ended in order: it has stopped the instance and written so.
    async fn was_stopped_by_its_owner(&self, name: &WorkloadName) -> Result<bool> {
        let snapshot = self.parts.status.read(name).await?;
        let companion = snapshot.companion.as_ref();
        Ok(snapshot.owner == OwnerState::Dead
            && companion.is_some_and(|companion| companion.owner.is_none())
            && snapshot
                .status
                .is_some_and(|file| file.status == WorkloadStatus::Stopped))
    }
}

/// What ran and was ended.
pub(crate) struct Ended {
    proxy: bool,
    instance: bool,
}

/// What for a workload is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    ToStop,
    /// To the verb that asks, which starts it anew.
    ToGiveWay,
}

/// As a record has it.
pub(crate) fn milliseconds(grace: Duration) -> Option<u64> {
    u64::try_from(grace.as_millis()).ok()
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
    options: StopOptions,
) -> Result<()> {
    let mut pending = Pending::new(
        operation,
        parts.processes.current().pid,
        &parts.clock.now().to_string(),
    );
    pending.config_hash = config.map(thv_status::config_hash);
    pending.force = options.force;
    let launcher = parts.launcher_id.clone();
    let change = Box::new(move |draft: &mut Draft| {
        if draft.companion.launcher.is_empty() {
            draft.companion.launcher = launcher;
        }
        draft.companion.pending = Some(pending);
        draft.companion.desired = Desired::Stopped;
        draft.companion.stop_grace_ms = milliseconds(options.grace);
        match operation {
            Operation::Remove => draft.force_status(WorkloadStatus::Removing, ""),
            _ if draft.status.status == WorkloadStatus::Stopped => {}
            _ => draft.force_status(WorkloadStatus::Stopping, ""),
        }
    });
    parts.status.update(name, Authority::Verb(op), change).await?;
    Ok(())
}

fn stopped(draft: &mut Draft) {
    draft.companion.pending = None;
    draft.companion.owner = None;
    draft.status.process_id = 0;
    draft.force_status(WorkloadStatus::Stopped, "");
}
