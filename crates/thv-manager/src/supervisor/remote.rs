//! The life of a remote server's proxy: it ends only when it is told to, or when the server was never there.

use std::time::Duration;

use thv_core::{RunConfig, WorkloadStatus};
use thv_proxy::ProxyError;
use tokio::time::Instant;

use super::Supervisor;
use super::door::Door;
use super::health::Health;
use super::life::{LifeEnd, READINESS};
use crate::Result;
use crate::launcher::LaunchState;
use crate::proxy::{self, Backend};

/// How soon a server that was never ready is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Supervisor {
    /// Until it was ready once it is `starting`, with what is wrong; afterwards it is `running` or `unhealthy`, and looked
    /// at without end.
    pub(super) async fn live_remote(
        &self,
        config: &RunConfig,
        door: &Door,
        hash: String,
        mut was_ready: bool,
    ) -> Result<LifeEnd> {
        let health = &self.parts.tuning.health;
        let backend = proxy::remote(
            &self.parts.middleware,
            config,
            &self.parts.tuning,
            &self.parts.remotes,
        )?;
        door.open(backend.service());
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut said = String::new();
        loop {
            let answer = tokio::select! {
                biased;
                () = self.signal.stop.cancelled() => return Ok(self.told(door, &backend, None).await),
                answer = backend.ready_once() => answer,
            };
            let problem = match answer {
                Ok(_) => {
                    if !self.write_ready(hash.clone()).await? {
                        return Ok(LifeEnd::ClaimLost);
                    }
                    self.launch.send_replace(LaunchState::Ready);
                    self.rest();
                    was_ready = true;
                    said.clear();
                    let healthy = async {
                        Box::pin(self.release_kept_image()).await;
                        self.healthy(&backend, health).await
                    };
                    match healthy.await {
                        None => return Ok(self.told(door, &backend, None).await),
                        Some(error) => error,
                    }
                }
                Err(error) => error,
            };
            let problem_text = crate::supervisor::causes(&problem);
            if !was_ready && (!problem.is_retryable() || began.elapsed() >= READINESS) {
                return Ok(LifeEnd::Over {
                    reason: problem_text,
                    last_lines: Vec::new(),
                    instance: None,
                    may_retry: false,
                    served: Duration::ZERO,
                });
            }
            if said != problem_text {
                let (status, context) = if was_ready {
                    (
                        WorkloadStatus::Unhealthy,
                        format!("Health check failed: {problem_text}"),
                    )
                } else {
                    (WorkloadStatus::Starting, problem_text.clone())
                };
                if !self.write_status(status, &context).await? {
                    return Ok(LifeEnd::ClaimLost);
                }
                said = problem_text;
            }
            let wait = if was_ready { health.interval } else { pause };
            pause = (pause * 2).min(LONGEST_PAUSE);
            tokio::select! {
                biased;
                () = self.signal.stop.cancelled() => return Ok(self.told(door, &backend, None).await),
                () = self.parts.processes.sleep(wait) => {}
            }
        }
    }

    /// Looks at a server that is there until it is not (what is wrong), or until the supervisor is told to end (`None`).
    pub(super) async fn healthy(&self, backend: &Backend, health: &Health) -> Option<ProxyError> {
        if !health.enabled {
            self.signal.stop.cancelled().await;
            return None;
        }
        let watching = health.watch(&*self.parts.processes, || backend.reachable(health.timeout));
        self.signal.stop.run_until_cancelled(watching).await
    }
}
