//! Waiting for engines that are not up yet, as after a boot.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use thv_core::RunConfig;
use thv_runtime::RuntimeKind;
use thv_status::{Desired, OwnerState};
use tokio::time::{Instant, timeout_at};

use crate::{Manager, Result};

/// The least time between two questions to an engine.
const PAUSE: Duration = Duration::from_millis(200);

impl Manager {
    /// Waits until the runtimes answer of all workloads that should run and do not, but no longer than `limit`. Those
    /// that do not answer by then, and why. Nothing is changed. Cancel-safe.
    ///
    /// # Errors
    /// `Status` when the records cannot be read.
    pub async fn wait_for_runtimes(&self, limit: Duration) -> Result<BTreeMap<RuntimeKind, String>> {
        let deadline = Instant::now() + limit;
        let waits = self.needed_runtimes().await?.into_iter().map(|kind| async move {
            let reason = self.wait_for_runtime(&kind, deadline).await?;
            Some((kind, reason))
        });
        Ok(join_all(waits).await.into_iter().flatten().collect())
    }

    /// The runtimes that are needed to start what should run.
    async fn needed_runtimes(&self) -> Result<BTreeSet<RuntimeKind>> {
        let mut kinds = BTreeSet::new();
        for snapshot in self.parts.status.list().await? {
            let Some(name) = &snapshot.name else { continue };
            if snapshot.desired() != Desired::Running || snapshot.owner == OwnerState::Alive {
                continue;
            }
            let recorded = snapshot
                .companion
                .as_ref()
                .and_then(|companion| companion.runtime.as_ref());
            if let Some(runtime) = recorded {
                kinds.insert(runtime.kind.clone());
                continue;
            }
            // One that cannot be read is a failure of its own start.
            let config = self.parts.find_config(name).await.ok().flatten();
            if let Some(config) = config.filter(|config| !RunConfig::is_remote(config))
                && let Ok(runtime) = self.parts.runtime_for_image(&config.image)
            {
                kinds.insert(runtime.kind().clone());
            }
        }
        Ok(kinds)
    }

    /// `None` once it answers; else why it does not.
    async fn wait_for_runtime(&self, kind: &RuntimeKind, deadline: Instant) -> Option<String> {
        let runtime = match self.parts.runtimes.get(kind) {
            Ok(runtime) => runtime,
            Err(error) => return Some(error.to_string()),
        };
        let mut reason = "it did not answer in time".to_owned();
        loop {
            match timeout_at(deadline, runtime.ping()).await {
                Ok(Ok(())) => return None,
                Ok(Err(error)) => reason = error.to_string(),
                Err(_) => return Some(reason),
            }
            let sign = async {
                tokio::join!(runtime.may_answer(), tokio::time::sleep(PAUSE));
            };
            if timeout_at(deadline, sign).await.is_err() {
                return Some(reason);
            }
        }
    }
}
