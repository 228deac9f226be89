//! One workload's supervisor: deploys its server, serves its proxy, restarts what ends, and stops both.
//!
//! A supervisor writes only while the companion record names its claim; it re-reads the claim before each effect.

mod backoff;
mod door;
mod fate;
mod health;
mod kept_log;
mod last_lines;
mod life;
mod outage;
mod ownership;
mod remote;
mod secrets;
mod server_log;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use thv_core::{RunConfig, TransportType, WorkloadName, WorkloadStatus};
use thv_runtime::{InstanceId, InstanceRef, Runtime};
use thv_status::{ClaimId, OwnerGuard, OwnerKind};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::launcher::{LaunchOrder, LaunchState};
use crate::parts::Parts;
use crate::{Error, Result};
use backoff::{Backoff, MAX_ATTEMPTS};
pub(crate) use door::DRAIN;
use door::Door;
pub(crate) use health::Health;
use life::LifeEnd;
use outage::Pause;
use ownership::Standing;
use server_log::ServerLog;

/// How a supervisor is told to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopSignal {
    /// End: drain the proxy, stop the instance, write `stopped`.
    pub(crate) stop: CancellationToken,
    /// With it: only close the proxy and leave the instance and the status.
    pub(crate) leave: CancellationToken,
    /// Somebody asked, maybe once more and with less patience.
    pub(crate) asked: Arc<Notify>,
}

impl StopSignal {
    /// Tells it to end, or that what it was told may have changed.
    pub(crate) fn ask(&self) {
        self.stop.cancel();
        self.asked.notify_one();
    }
}

/// One workload's supervisor.
pub(crate) struct Supervisor {
    parts: Arc<Parts>,
    name: WorkloadName,
    claim: ClaimId,
    kind: OwnerKind,
    owner: OwnerGuard,
    launch: watch::Sender<LaunchState>,
    signal: StopSignal,
    server_log: ServerLog,
}

/// Why a supervisor ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It was told to.
    Stopped,
    /// Another claim, or none, is recorded: somebody else goes on.
    ClaimLost,
    /// The server failed for good; the status says so.
    Failed { reason: String, last_lines: Vec<String> },
}

impl Supervisor {
    /// A supervisor that begins when its future is awaited, and how far its launch has come.
    pub(crate) fn begin(
        parts: Arc<Parts>,
        order: LaunchOrder,
        kind: OwnerKind,
        signal: StopSignal,
    ) -> (
        impl Future<Output = Result<End>> + Send + 'static,
        watch::Receiver<LaunchState>,
    ) {
        let (launch, states) = watch::channel(LaunchState::Launching);
        let supervisor = Self {
            parts,
            name: order.name,
            claim: order.claim,
            kind,
            owner: order.owner,
            launch,
            signal,
            server_log: ServerLog::default(),
        };
        (supervisor.run(order.listener), states)
    }

    /// Supervises until the end. On return the proxy's port is free, `.owner` is released, and the status is written.
    #[tracing::instrument(name = "supervise", skip_all, fields(workload = %self.name))]
    async fn run(self, listener: TcpListener) -> Result<End> {
        let result = self.supervise(listener).await;
        if let Err(error) = &result
            && let Err(error) = self.write_failed(&reason_of(error)).await
        {
            tracing::error!(error = %with_causes(&error), "the status could not be written either");
        }
        let state = match &result {
            Ok(End::Failed { reason, last_lines }) => LaunchState::Failed {
                reason: reason.clone(),
                last_lines: last_lines.clone(),
            },
            Ok(End::Stopped | End::ClaimLost) => LaunchState::Ended,
            Err(error) => LaunchState::Failed {
                reason: reason_of(error),
                last_lines: Vec::new(),
            },
        };
        // Released before anybody hears of the end: who hears it may start again at once.
        drop(self.owner);
        self.launch.send_if_modified(|current| {
            let open = matches!(current, LaunchState::Launching | LaunchState::Owned);
            if open {
                *current = state;
            }
            open
        });
        result
    }

    async fn supervise(&self, listener: TcpListener) -> Result<End> {
        if !self.take_ownership().await? {
            return Ok(End::ClaimLost);
        }
        thv_process::crash_point!(ProxyOwned);
        self.launch.send_replace(LaunchState::Owned);
        let config = match self.parts.config(&self.name).await {
            Ok(config) => config,
            Err(error) => return self.fail(reason_of(&error), Vec::new()).await,
        };
        for warning in &self.parts.tuning.warnings {
            tracing::warn!("{warning}");
        }
        let listener = thv_proxy::listener(listener).map_err(|error| Error::Proxy {
            name: self.name.to_string(),
            detail: error.to_string(),
            source: None,
        })?;
        let front = crate::proxy::front(&self.parts.middleware, &config);
        let door = match front {
            Ok(front) => Door::new(front),
            Err(error) => return self.fail(reason_of(&error), Vec::new()).await,
        };
        let lives = async {
            let end = self.lives_until_told(&config, &door).await;
            door.close().await;
            end
        };
        // One pipe is shared by all clients: threads would wait for each other.
        let threads = match config.transport {
            TransportType::Stdio => 1,
            _ => self.parts.proxy_threads.get(),
        };
        let ((), end) = tokio::join!(door.serve(listener, threads), lives);
        self.finish(end).await
    }

    /// As [`lives`](Self::lives). That it was told to end is written at once: whoever told it takes a supervisor that does
    /// not say so for one that hangs.
    async fn lives_until_told(&self, config: &RunConfig, door: &Door) -> Result<LivesEnd> {
        let heard = async {
            self.signal.stop.cancelled().await;
            if !self.signal.leave.is_cancelled()
                && let Err(error) = self.write_ending().await
            {
                tracing::warn!(error = %with_causes(&error), "nobody is told that the end has begun");
            }
            std::future::pending::<Result<LivesEnd>>().await
        };
        tokio::select! {
            biased;
            end = Box::pin(self.lives(config, door)) => end,
            never = Box::pin(heard) => never,
        }
    }

    /// Life after life, with back-off between them, until one ends for good. An outage of the engine is waited for and no
    /// attempt.
    async fn lives(&self, config: &RunConfig, door: &Door) -> Result<LivesEnd> {
        let mut backoff = Backoff::new();
        loop {
            let life = self.live(config, door).await?;
            door.shut();
            let (reason, last_lines, instance, may_retry, served) = match life {
                LifeEnd::Told { instance } => return Ok(LivesEnd::Told { instance }),
                LifeEnd::ClaimLost => return Ok(LivesEnd::ClaimLost),
                LifeEnd::Over {
                    reason,
                    last_lines,
                    instance,
                    may_retry,
                    served,
                } => (reason, last_lines, instance, may_retry, served),
            };
            let before = backoff.clone();
            let wait = match self.after_life(&reason, may_retry, &mut backoff, served).await {
                Ok(Next::Wait(wait)) => wait,
                Ok(Next::Stop) => return Ok(LivesEnd::Told { instance }),
                Ok(Next::Lost) => return Ok(LivesEnd::ClaimLost),
                Ok(Next::Fail(reason)) => {
                    return Ok(LivesEnd::Failed {
                        reason,
                        last_lines,
                        instance,
                    });
                }
                Err(error) => {
                    return Ok(LivesEnd::Failed {
                        reason: format!("{reason}; {}", with_causes(&error)),
                        last_lines,
                        instance,
                    });
                }
            };
            tokio::select! {
                biased;
                () = self.signal.stop.cancelled() => return Ok(LivesEnd::Told { instance }),
                pause = self.pause(wait) => if pause == Pause::EngineWasAway {
                    backoff = before;
                },
            }
        }
    }

    /// What comes after a life that is over. Its end may be somebody's wish, of which nobody else told.
    async fn after_life(
        &self,
        reason: &str,
        may_retry: bool,
        backoff: &mut Backoff,
        served: Duration,
    ) -> Result<Next> {
        match self.standing().await? {
            Standing::Run => {}
            Standing::Stop => return Ok(Next::Stop),
            Standing::Lost => return Ok(Next::Lost),
        }
        if !may_retry {
            return Ok(Next::Fail(reason.to_owned()));
        }
        let Some(wait) = backoff.after(served) else {
            return Ok(Next::Fail(format!(
                "Failed to restart after container exit: {MAX_ATTEMPTS} attempts; {reason}"
            )));
        };
        tracing::warn!(%reason, ?wait, attempt = backoff.attempt(), "the server ended, restarting");
        let context = format!("Container exited, restarting: {reason}");
        let written = self.write_status(WorkloadStatus::Starting, &context).await?;
        thv_process::crash_point!(ProxyRestarting);
        Ok(if written { Next::Wait(wait) } else { Next::Lost })
    }

    /// After the proxy is closed: instance, then status.
    async fn finish(&self, end: Result<LivesEnd>) -> Result<End> {
        match end {
            Ok(LivesEnd::Told { instance }) => self.finish_told(instance).await,
            Ok(LivesEnd::ClaimLost) => Ok(End::ClaimLost),
            Ok(LivesEnd::Failed {
                reason,
                last_lines,
                instance,
            }) => self.finish_failed(reason, last_lines, instance).await,
            Err(error) => {
                let instance = self.recorded_instance().await?;
                self.finish_failed(reason_of(&error), Vec::new(), instance).await
            }
        }
    }

    async fn finish_told(&self, instance: Left) -> Result<End> {
        if self.signal.leave.is_cancelled() {
            return Ok(End::Stopped);
        }
        // Records that cannot be read or written are no reason to leave the server running.
        let before = self.standing().await;
        if matches!(before, Ok(Standing::Lost)) {
            return Ok(End::ClaimLost);
        }
        match self.write_ending().await {
            Ok(true) => {}
            Ok(false) => return Ok(End::ClaimLost),
            Err(error) => tracing::error!(error = %with_causes(&error), "the status could not be written"),
        }
        thv_process::crash_point!(ProxyStopping);
        if let Some((runtime, id)) = instance {
            let which = InstanceRef::exact(self.name.clone(), id);
            if let Err(error) = self.stop_instance(&*runtime, &which).await {
                tracing::error!(error = %with_causes(&error.into()), "the instance could not be stopped");
                return Ok(End::Stopped);
            }
            self.server_log.heard().await;
        }
        thv_process::crash_point!(ProxyInstanceStopped);
        let context = match before {
            Ok(Standing::Run) => "the proxy was asked to end",
            _ => "",
        };
        let stopped = self.write_stopped(context).await?;
        thv_process::crash_point!(ProxyStopped);
        Ok(if stopped { End::Stopped } else { End::ClaimLost })
    }

    /// As the `stop` that asked for it said, until another one asks that has less patience.
    async fn stop_instance(&self, runtime: &dyn Runtime, which: &InstanceRef) -> thv_runtime::Result<()> {
        let mut options = self.stop_options().await.unwrap_or_default();
        loop {
            let less = async {
                loop {
                    self.signal.asked.notified().await;
                    match self.stop_options().await {
                        Ok(asked) if asked.grace < options.grace => return asked,
                        _ => {}
                    }
                }
            };
            tokio::select! {
                biased;
                stopped = runtime.stop(which, options) => return stopped,
                asked = less => options = asked,
            }
        }
    }

    async fn finish_failed(&self, reason: String, last_lines: Vec<String>, instance: Left) -> Result<End> {
        // Nobody else supervises while this one holds `.owner`: what it deployed is its to remove, also when no record
        // can be read.
        if matches!(self.standing().await, Ok(Standing::Lost)) {
            return Ok(End::ClaimLost);
        }
        if let Some((runtime, id)) = instance {
            self.remove_failed(&*runtime, id).await;
        }
        thv_process::crash_point!(ProxyFailedRemoved);
        self.fail(reason, last_lines).await
    }

    /// The instance that the record names, while it names this claim.
    async fn recorded_instance(&self) -> Result<Left> {
        let companion = self.snapshot().await?.companion;
        let Some(companion) = companion.filter(|companion| companion.claim == self.claim) else {
            return Ok(None);
        };
        let (Some(runtime), Some(id)) = (&companion.runtime, &companion.instance) else {
            return Ok(None);
        };
        Ok(Some((self.parts.runtimes.get(&runtime.kind)?, id.clone())))
    }

    /// Nothing of a server that failed is left but what it wrote: that is kept where `logs` finds it.
    async fn remove_failed(&self, runtime: &dyn Runtime, id: InstanceId) {
        let which = InstanceRef::exact(self.name.clone(), id);
        let log = kept_log::read(runtime, &which).await;
        if let Err(error) = runtime.remove(&which).await {
            tracing::error!(error = %with_causes(&error.into()), "a failed instance could not be removed");
        }
        if let Err(error) = kept_log::write(self.server_log_path(), log).await {
            tracing::warn!(%error, "the log of a failed server could not be kept");
        }
    }

    /// Where what the server wrote is, when no engine keeps it.
    fn server_log_path(&self) -> std::path::PathBuf {
        self.parts.dirs.server_log(self.name.as_str())
    }

    async fn fail(&self, reason: String, last_lines: Vec<String>) -> Result<End> {
        tracing::error!(%reason, "the workload failed");
        for line in &last_lines {
            tracing::error!(target: "server", "{line}");
        }
        self.write_failed(&reason).await?;
        Ok(End::Failed { reason, last_lines })
    }
}

/// Something that a life left behind.
pub(crate) type Left = Option<(Arc<dyn Runtime>, InstanceId)>;

enum LivesEnd {
    Told {
        instance: Left,
    },
    ClaimLost,
    Failed {
        reason: String,
        last_lines: Vec<String>,
        instance: Left,
    },
}

/// What a supervisor does after a life of its server.
enum Next {
    Wait(Duration),
    Stop,
    Lost,
    Fail(String),
}

/// An error with its causes on one line.
pub(crate) fn with_causes(error: &Error) -> String {
    causes(error)
}

/// Why a workload did not start, for whoever says that, and which it is.
pub(crate) fn reason_of(error: &Error) -> String {
    match error {
        Error::StartFailed { reason, .. } => reason.clone(),
        Error::Runtime(thv_runtime::Error::StartFailed { detail, .. }) => detail.clone(),
        other => with_causes(other),
    }
}

/// As [`with_causes`], of any error.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
