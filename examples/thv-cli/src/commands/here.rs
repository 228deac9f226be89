//! A workload from a configuration file, in the foreground.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use thv::core::{RunConfig, WorkloadName, WorkloadStatus};
use thv::manager::{
    Error, ForegroundEnd, ForegroundOptions, LaunchOrder, LaunchState, Launcher, Manager, RunOptions,
    RunOutcome, ShutdownMode, StopOptions, SupervisorHost, WaitFor,
};
use thv::runtime::RuntimeKind;
use thv::status::OwnerKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Failure, manager_with};

/// Longer than a server may take to be ready: what is too slow has failed before.
const READY: WaitFor = WaitFor::Ready(std::time::Duration::from_mins(10));

/// The supervisor is a task of this process, which lives for it alone.
#[derive(Debug, Default)]
struct Here(Mutex<Option<watch::Receiver<LaunchState>>>);

#[async_trait]
impl Launcher for Here {
    async fn launch(
        &self,
        order: LaunchOrder,
        host: &dyn SupervisorHost,
    ) -> thv::manager::Result<watch::Receiver<LaunchState>> {
        let states = host.spawn(order, OwnerKind::Foreground);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(states.clone());
        Ok(states)
    }
}

impl Here {
    fn has_launched(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Resolves when the supervisor has ended, by itself or by somebody's wish.
    async fn ended(&self) {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(mut states) = states {
            while states.changed().await.is_ok() {}
        }
    }
}

/// What is run, and how.
pub(super) struct Run {
    pub(super) config: RunConfig,
    pub(super) runtime: Option<RuntimeKind>,
    pub(super) options: ForegroundOptions,
    pub(super) ca_certificates: Option<Vec<u8>>,
}

/// Runs it until `cancel` or until somebody stops it. Ended by `cancel` it is deleted, unless `options.keep`.
pub(super) async fn run_config(
    run: Run,
    cancel: CancellationToken,
    told: impl FnOnce(&RunOutcome),
) -> Result<ForegroundEnd, Failure> {
    let Run {
        config,
        runtime,
        options,
        ca_certificates,
    } = run;
    let name = config.workload_name().map_err(Error::from)?;
    let here = Arc::new(Here::default());
    let manager = manager_with(here.clone(), ca_certificates)?;
    let run = RunOptions {
        wait: READY,
        replace: options.replace,
        image: options.image.clone(),
    };
    let up = tokio::select! {
        up = Box::pin(manager.run_config(config, runtime, run)) => up?,
        () = cancel.cancelled() => {
            // What is there under this name is not ours to delete before that.
            if !here.has_launched() {
                return Err(Failure::new("interrupted before it was launched"));
            }
            return cancelled(&manager, &name, &options).await;
        }
    };
    told(&up);
    tokio::select! {
        () = here.ended() => ended(&manager, &name).await,
        () = cancel.cancelled() => cancelled(&manager, &name, &options).await,
    }
}

async fn cancelled(
    manager: &Manager,
    name: &WorkloadName,
    options: &ForegroundOptions,
) -> Result<ForegroundEnd, Failure> {
    manager.shutdown(ShutdownMode::Stop).await?;
    let details = match manager.status(name).await {
        Err(Error::NotFound { .. }) => return Ok(ForegroundEnd::Deleted),
        other => other?,
    };
    match details.workload.status {
        WorkloadStatus::Running | WorkloadStatus::Starting => return Ok(ForegroundEnd::TakenOver),
        // A stop by somebody else is also told by a signal, and deletes nothing.
        _ if options.keep || !details.desired_running => return Ok(ForegroundEnd::Stopped),
        _ => {}
    }
    manager.delete(name, StopOptions::default()).await?;
    Ok(ForegroundEnd::Deleted)
}

async fn ended(manager: &Manager, name: &WorkloadName) -> Result<ForegroundEnd, Failure> {
    let workload = match manager.get(name).await {
        Err(Error::NotFound { .. }) => return Ok(ForegroundEnd::Deleted),
        other => other?,
    };
    match workload.status {
        WorkloadStatus::Error => Err(Failure::new(format!(
            "workload \"{name}\" failed: {}",
            workload.status_context
        ))),
        WorkloadStatus::Running | WorkloadStatus::Starting => Ok(ForegroundEnd::TakenOver),
        _ => Ok(ForegroundEnd::Stopped),
    }
}
