//! `Checker`: asks a registry about workloads.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, stream};
use thv_core::RunConfig;
use thv_registry::{Entry, Registry};

use crate::compare::{about, unknown};
use crate::{CheckResult, UpgradeStatus, compare};

/// How many questions a registry is asked at once.
const AT_ONCE: usize = 8;

/// Tells whether a registry has newer versions of workloads. Nothing is pulled and nothing is written; what cannot be
/// found out is the status [`Unknown`](UpgradeStatus::Unknown), never an error.
#[derive(Debug, Clone)]
pub struct Checker {
    registry: Arc<dyn Registry>,
}

impl Checker {
    /// A checker that asks `registry`.
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry }
    }

    /// Checks the workload of `config`. Dropping the future has no effect that stays.
    pub async fn check(&self, config: &RunConfig) -> CheckResult {
        self.look(config).await.0
    }

    /// Checks each workload; the results come in the order of `configs`, one for each. One that cannot be checked does
    /// not keep the others from being checked, and neither does a registry that panics. Dropping the future has no effect
    /// that stays.
    pub async fn check_all<'a>(&self, configs: impl IntoIterator<Item = &'a RunConfig>) -> Vec<CheckResult> {
        let checks: Vec<_> = configs
            .into_iter()
            .map(|config| async move {
                // A registry of the embedding program may panic: that is a result as well.
                AssertUnwindSafe(self.check(config))
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| unknown(config, "check failed"))
            })
            .collect();
        stream::iter(checks).buffered(AT_ONCE).collect().await
    }

    /// The result, with the entry that it is about.
    pub(crate) async fn look(&self, config: &RunConfig) -> (CheckResult, Option<Arc<Entry>>) {
        let server = config.registry_server_name.as_str();
        if server.is_empty() {
            return (about(config, UpgradeStatus::NotRegistrySourced), None);
        }
        match self.registry.get(server).await {
            Ok(entry) => (compare(config, &entry), Some(entry)),
            Err(error) if error.is_not_found() => (about(config, UpgradeStatus::ServerNotFound), None),
            Err(error) => {
                tracing::debug!(workload = config.name, server, %error, "the registry lookup failed");
                (unknown(config, "registry lookup failed"), None)
            }
        }
    }
}
