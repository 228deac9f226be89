//! Engines that go away: that is no failure of the server's.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use thv_core::{WorkloadName, WorkloadStatus};
use thv_runtime::{EventFilter, EventKind, Runtime};

use super::{Supervisor, with_causes};
use crate::proxy::Backend;
use crate::{Error, Result};

/// The least time between two questions to an engine, and before a server is started on one that came back.
const PAUSE: Duration = Duration::from_millis(200);

/// How long an engine may take to say that it is there, while a call waits for its answer.
const WORD: Duration = Duration::from_secs(5);

/// Why a pause between two attempts is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    Slept,
    /// The engine was away in between, and answers. What ended with it did not fail.
    EngineWasAway,
}

impl Supervisor {
    /// Sleeps before the next attempt. As long as the engine is away nothing is attempted; when it answers again, at once.
    /// Cancel-safe.
    pub(super) async fn pause(&self, wait: Duration) -> Pause {
        let Some(runtime) = self.engine().await else {
            tokio::time::sleep(wait).await;
            return Pause::Slept;
        };
        tokio::select! {
            biased;
            () = came_back(&*runtime, &self.name) => {}
            () = tokio::time::sleep(wait) => match runtime.ping().await {
                Err(error) if error.is_retryable() => {
                    let reason = with_causes(&Error::from(error));
                    tracing::warn!(%reason, "waiting for the engine");
                    let context = format!("waiting for the engine: {reason}");
                    // The next life looks at the record anyhow.
                    if let Err(error) = self.write_status(WorkloadStatus::Starting, &context).await {
                        tracing::warn!(error = %with_causes(&error), "the status could not be written");
                    }
                    answers(&*runtime).await;
                }
                _ => return Pause::Slept,
            },
        }
        tokio::time::sleep(PAUSE).await;
        Pause::EngineWasAway
    }

    /// Asks the engine that carries the streams of a server whether it is there, each time that a call has waited for a while:
    /// one that hangs breaks no connection. As long as it does not answer calls fail at once, and `written` is the status, with
    /// the reason. `back` writes what it is afterwards (`false`: the claim is lost). Returns when the claim is lost.
    pub(super) async fn look_after_engine<F>(
        &self,
        runtime: &dyn Runtime,
        backend: &Backend,
        written: WorkloadStatus,
        back: impl Fn() -> F,
    ) -> Result<()>
    where
        F: Future<Output = Result<bool>>,
    {
        loop {
            backend.doubted().await;
            let Some(reason) = hangs(runtime).await else {
                continue;
            };
            tracing::warn!(%reason, "waiting for the engine");
            let suspended = backend.suspend(&reason);
            if !self.write_status(written, &reason).await? {
                return Ok(());
            }
            answers(runtime).await;
            drop(suspended);
            tracing::info!("the engine answers again");
            if !back().await? {
                return Ok(());
            }
        }
    }

    /// Where the workload's instances are; none for a remote one.
    async fn engine(&self) -> Option<Arc<dyn Runtime>> {
        let companion = self.snapshot().await.ok()?.companion?;
        self.parts.runtimes.get(&companion.runtime.as_ref()?.kind).ok()
    }
}

/// Resolves when the engine was away and answers again. Never, where it stays.
async fn came_back(runtime: &dyn Runtime, name: &WorkloadName) {
    if !runtime.capabilities().events {
        return std::future::pending().await;
    }
    match runtime.events(EventFilter::of(name.clone())).await {
        Ok(mut events) => {
            while let Some(event) = events.next().await {
                if matches!(event, Ok(event) if event.kind == EventKind::Gap) {
                    return;
                }
            }
            std::future::pending::<()>().await;
        }
        Err(error) if error.is_retryable() => answers(runtime).await,
        Err(_) => std::future::pending().await,
    }
}

/// Why an engine is of no use now, if it is not.
async fn hangs(runtime: &dyn Runtime) -> Option<String> {
    match tokio::time::timeout(WORD, runtime.ping()).await {
        Ok(Err(error)) if error.is_retryable() => Some(with_causes(&Error::from(error))),
        Ok(_) => None,
        Err(_) => Some(format!(
            "the engine of runtime {} does not answer: look whether it is stopped, or hangs",
            runtime.kind()
        )),
    }
}

async fn answers(runtime: &dyn Runtime) {
    while runtime.ping().await.is_err() {
        tokio::join!(runtime.may_answer(), tokio::time::sleep(PAUSE));
    }
}
