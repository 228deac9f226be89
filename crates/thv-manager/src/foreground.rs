//! Supervising in the caller's own process: in the foreground of a terminal, and as a detached child.

use futures_util::future::BoxFuture;
use thv_core::WorkloadName;
use thv_status::OwnerKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::launch::Launch;
use crate::launcher::{LaunchOrder, LaunchState, Parent};
use crate::start::Start;
use crate::supervisor::{End, StopSignal, Supervisor};
use crate::{Error, ImageTerms, Manager, Result, RunOutcome, RunRequest, StartOptions};

/// How `run` behaves in the foreground.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForegroundOptions {
    /// Keep the workload, stopped, instead of deleting it at the end.
    pub keep: bool,
    /// Replace a workload of that name even if it was ready once.
    pub replace: bool,
    /// Which image may run.
    pub image: ImageTerms,
}

/// How a workload in the foreground ended, when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForegroundEnd {
    /// It was ended here, and deleted.
    Deleted,
    /// It was stopped and its configuration is kept.
    Stopped,
    /// It ran already, elsewhere, and nothing was done.
    AlreadyRunning,
    /// Somebody else owns it by now.
    TakenOver,
}

impl Manager {
    /// Runs a workload in this task until `cancel` or until somebody stops it. `told` hears once when it is ready.
    ///
    /// Ended by `cancel` while it should run, it is deleted, as ToolHive does, unless `options.keep`.
    ///
    /// Dropping the future is as if the process were killed: what it leaves, [`reconcile`](Self::reconcile) finishes. To end
    /// it in order is what `cancel` is for.
    ///
    /// # Errors
    /// As [`run`](Self::run), and what ends its server for good.
    pub async fn run_foreground(
        &self,
        request: RunRequest,
        options: ForegroundOptions,
        cancel: CancellationToken,
        told: impl FnOnce(RunOutcome) + Send,
    ) -> Result<ForegroundEnd> {
        let prepared = Box::pin(self.prepare(&request, options.replace, &options.image)).await?;
        let notices = prepared.notices.clone();
        let launch = Box::pin(self.save(prepared)).await?;
        let (name, claim) = (launch.what.name.clone(), launch.what.claim.clone());
        let end = Box::pin(self.supervise_here(launch, notices, cancel, told)).await?;
        if end != ForegroundEnd::Stopped || options.keep {
            return Ok(end);
        }
        // Stopped by somebody, or started anew elsewhere by now: then it is not this one's to delete.
        let deleted = Box::pin(self.delete_claimed(&name, &claim)).await?;
        Ok(if deleted {
            ForegroundEnd::Deleted
        } else {
            ForegroundEnd::Stopped
        })
    }

    /// Starts a workload in this task until `cancel` or until somebody stops it; it is never deleted.
    ///
    /// Dropping the future is as if the process were killed.
    ///
    /// # Errors
    /// As [`start`](Self::start), and what ends its server for good.
    pub async fn start_foreground(
        &self,
        name: &WorkloadName,
        options: StartOptions,
        cancel: CancellationToken,
        told: impl FnOnce(RunOutcome) + Send,
    ) -> Result<ForegroundEnd> {
        match Box::pin(self.prepare_start(name, &options)).await? {
            Start::AlreadyRunning(outcome) => {
                told(outcome);
                Ok(ForegroundEnd::AlreadyRunning)
            }
            Start::Launch(launch, notices) => {
                Box::pin(self.supervise_here(*launch, notices, cancel, told)).await
            }
        }
    }

    /// What a process does that [`Detached`](crate::Detached) launched: takes the order from its standard input (which is
    /// `/dev/null` from then on), tells the parent how it goes, and supervises until `cancel` (SIGTERM) or until it is
    /// stopped.
    ///
    /// Dropping the future is as if the process were killed.
    ///
    /// # Errors
    /// `Process` and `Invalid` where standard input has no order of this version; else as [`supervise`](Self::supervise).
    pub async fn run_detached_child(
        &self,
        name: &WorkloadName,
        cancel: CancellationToken,
    ) -> Result<ForegroundEnd> {
        let Some((parent, mut order)) = Parent::receive(name)? else {
            return Ok(ForegroundEnd::TakenOver);
        };
        if let Some(key) = order.secrets_key.take() {
            self.parts.secrets.accept_key(key);
        }
        thv_process::crash_point!(ProxyOrdered);
        let mut parent = Some(parent);
        self.supervise(order, OwnerKind::Detached, cancel, |state| {
            if let Some(to) = &parent {
                to.report(state);
            }
            if !matches!(state, LaunchState::Launching | LaunchState::Owned) {
                parent = None;
            }
        })
        .await
    }

    /// What a process does that a [`Launcher`](crate::Launcher) launched for `order`, however that came here: supervises in
    /// this task until `cancel` or until it is stopped. `told` hears how the launch goes, and its end last. Of a process
    /// that may be signalled, `cancel` is its SIGTERM.
    ///
    /// Dropping the future is as if the process were killed.
    ///
    /// # Errors
    /// `StartFailed` when the server failed for good.
    pub async fn supervise(
        &self,
        order: LaunchOrder,
        kind: OwnerKind,
        cancel: CancellationToken,
        mut told: impl FnMut(&LaunchState) + Send,
    ) -> Result<ForegroundEnd> {
        let name = order.name.clone();
        let (end, mut states) = self.supervisor(order, kind, cancel);
        let telling = async {
            while states.changed().await.is_ok() {
                told(&states.borrow_and_update().clone());
            }
        };
        let (end, ()) = tokio::join!(end, telling);
        foreground_end(&name, end?)
    }

    async fn supervise_here(
        &self,
        launch: Launch,
        notices: Vec<String>,
        cancel: CancellationToken,
        told: impl FnOnce(RunOutcome) + Send,
    ) -> Result<ForegroundEnd> {
        let name = launch.what.name.clone();
        let (order, op, config) = launch.into_order();
        let (end, mut states) = self.supervisor(order, OwnerKind::Foreground, cancel);
        let follow = async {
            let _ = states.wait_for(|state| *state != LaunchState::Launching).await;
            drop(op);
            let ready = states
                .wait_for(|state| *state == LaunchState::Ready)
                .await
                .is_ok();
            if ready {
                told(RunOutcome {
                    name: name.clone(),
                    url: config.client_url("127.0.0.1").unwrap_or_default(),
                    ready,
                    context: String::new(),
                    already_running: false,
                    notices,
                });
            }
        };
        let (end, ()) = tokio::join!(end, follow);
        foreground_end(&name, end?)
    }

    fn supervisor(
        &self,
        order: LaunchOrder,
        kind: OwnerKind,
        cancel: CancellationToken,
    ) -> (BoxFuture<'static, Result<End>>, watch::Receiver<LaunchState>) {
        let signal = StopSignal {
            stop: cancel,
            ..StopSignal::default()
        };
        let (supervisor, states) = Supervisor::begin(self.parts.clone(), order, kind, signal);
        (Box::pin(supervisor), states)
    }
}

fn foreground_end(name: &WorkloadName, end: End) -> Result<ForegroundEnd> {
    match end {
        End::Stopped => Ok(ForegroundEnd::Stopped),
        End::ClaimLost => Ok(ForegroundEnd::TakenOver),
        End::Failed { reason, last_lines } => Err(Error::StartFailed {
            name: name.to_string(),
            reason,
            last_lines,
        }),
    }
}
