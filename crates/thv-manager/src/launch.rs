//! From a saved workload to a supervisor, and waiting for what comes of it.

use std::net::TcpListener;
use std::time::Duration;

use thv_core::{RunConfig, SecretReference, WorkloadName, WorkloadStatus};
use thv_status::{Authority, ClaimId, Desired, Draft, OpGuard, OwnerGuard};
use tokio::sync::watch;

use crate::launcher::{LaunchOrder, LaunchState};
use crate::owner::remove_instance;
use crate::supervisor::{reason_of, with_causes};
use crate::{Error, Manager, Result, RunOutcome, StopOptions, WaitFor};

const STARTING: &str = "it is still starting, and goes on";

/// Everything that a launch needs but the workload's `.op`.
pub(crate) struct Launchable {
    pub(crate) name: WorkloadName,
    pub(crate) claim: ClaimId,
    pub(crate) config: RunConfig,
    pub(crate) listener: TcpListener,
    pub(crate) owner: OwnerGuard,
}

impl Launchable {
    pub(crate) fn under(self, op: OpGuard) -> Launch {
        Launch { what: self, op }
    }
}

/// A launch that is ready to happen, under the workload's `.op`.
pub(crate) struct Launch {
    pub(crate) what: Launchable,
    pub(crate) op: OpGuard,
}

impl Launch {
    pub(crate) fn into_order(self) -> (LaunchOrder, OpGuard, RunConfig) {
        let Launchable {
            name,
            claim,
            config,
            listener,
            owner,
        } = self.what;
        let secrets = config
            .secrets
            .iter()
            .filter_map(|text| SecretReference::parse(text).ok())
            .map(|reference| reference.name().to_owned())
            .collect();
        let order = LaunchOrder {
            name,
            claim,
            listener,
            owner,
            secrets,
            secrets_key: None,
            debug: config.debug,
        };
        (order, self.op, config)
    }
}

impl Manager {
    pub(crate) async fn launch(
        &self,
        launch: Launch,
        wait: WaitFor,
        notices: Vec<String>,
    ) -> Result<RunOutcome> {
        let name = launch.what.name.clone();
        let (mut order, op, config) = launch.into_order();
        if !order.secrets.is_empty() {
            order.secrets_key = self.parts.secrets.key();
        }
        let mut states = match self.launcher.launch(order, &self.host()).await {
            Ok(states) => states,
            Err(error) => {
                self.undo_launch(&name, &op, &config).await;
                thv_process::crash_point!(LaunchUndone);
                self.launch_failed(&name, &op, &error).await?;
                return Err(error);
            }
        };
        // Whoever supervises has cleared the journal entry by then: a `stop` need not wait out the launch.
        let _ = states.wait_for(|state| *state != LaunchState::Launching).await;
        thv_process::crash_point!(LaunchOwned);
        drop(op);
        let ready = match outcome(&name, &mut states, wait).await {
            Err(Error::NotReady { waited, .. }) => return Err(self.not_ready(&name, waited).await?),
            other => other?,
        };
        let context = if ready {
            String::new()
        } else {
            self.starting_context(&name).await?
        };
        Ok(RunOutcome {
            url: config.client_url("127.0.0.1").unwrap_or_default(),
            name,
            ready,
            context,
            already_running: false,
            notices,
        })
    }

    /// A child that was ended because it said nothing in time may have come as far as its server.
    async fn undo_launch(&self, name: &WorkloadName, op: &OpGuard, config: &RunConfig) {
        let undo = async {
            Box::pin(self.end(name, op, Some(config), StopOptions::default())).await?;
            let snapshot = self.parts.status.read(name).await?;
            remove_instance(&self.parts, name, &snapshot, Some(config), false).await
        };
        if let Err(error) = undo.await {
            tracing::error!(workload = %name, error = %with_causes(&error), "what a failed launch left");
        }
    }

    /// What those get who have `waited` for a workload that is still starting, with what came in between.
    pub(crate) async fn not_ready(&self, name: &WorkloadName, waited: Duration) -> Result<Error> {
        let mut detail = STARTING.to_owned();
        let context = self.starting_context(name).await?;
        if !context.is_empty() {
            detail = format!("{detail}: {context}");
        }
        Ok(Error::NotReady {
            name: name.to_string(),
            waited,
            detail,
        })
    }

    /// What is known of a workload that is still starting.
    pub(crate) async fn starting_context(&self, name: &WorkloadName) -> Result<String> {
        let status = self.parts.status.read(name).await?.status;
        // A remote server that was ready once is `unhealthy` while it cannot be reached.
        let waits = |status| matches!(status, WorkloadStatus::Starting | WorkloadStatus::Unhealthy);
        let starting = status.filter(|file| waits(file.status));
        Ok(starting.map(|file| file.status_context).unwrap_or_default())
    }

    pub(crate) async fn launch_failed(&self, name: &WorkloadName, op: &OpGuard, error: &Error) -> Result<()> {
        let reason = reason_of(error);
        let change = Box::new(move |draft: &mut Draft| {
            draft.companion.pending = None;
            draft.companion.owner = None;
            draft.companion.desired = Desired::Running;
            draft.status.process_id = 0;
            draft.force_status(WorkloadStatus::Error, &reason);
        });
        self.parts
            .status
            .update(name, Authority::Verb(op), change)
            .await?;
        Ok(())
    }
}

/// What those get who wait for a start that somebody else stops.
pub(crate) fn stopped_meanwhile(name: &WorkloadName) -> Error {
    Error::Conflict {
        name: name.to_string(),
        detail: "it was stopped while it was starting".into(),
    }
}

/// Waits as long as the caller wants. `true`: ready; `false`: still starting.
async fn outcome(
    name: &WorkloadName,
    states: &mut watch::Receiver<LaunchState>,
    wait: WaitFor,
) -> Result<bool> {
    let limit = match wait {
        WaitFor::Owned => Duration::ZERO,
        WaitFor::Launch(limit) | WaitFor::Ready(limit) => limit,
    };
    let is_final = |state: &LaunchState| !matches!(state, LaunchState::Launching | LaunchState::Owned);
    // The supervisor may be gone without a word, or the window over: what it said last counts.
    let _ = tokio::time::timeout(limit, states.wait_for(is_final)).await;
    let state = states.borrow().clone();
    match state {
        LaunchState::Ready => Ok(true),
        LaunchState::Failed { reason, last_lines } => Err(Error::StartFailed {
            name: name.to_string(),
            reason,
            last_lines,
        }),
        LaunchState::Ended => Err(stopped_meanwhile(name)),
        LaunchState::Launching | LaunchState::Owned => match wait {
            WaitFor::Ready(waited) => Err(Error::NotReady {
                name: name.to_string(),
                waited,
                detail: STARTING.into(),
            }),
            _ => Ok(false),
        },
    }
}
