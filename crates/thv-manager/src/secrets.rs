//! Secrets, and who uses them.

use std::sync::Arc;

use thv_core::{RunConfig, SecretReference, WorkloadName, WorkloadStatus};
use thv_secrets::{Revisions, SecretProvider, SecretString, Stale};
use thv_state::DocumentKind;
use thv_status::{OwnerState, Snapshot};

use crate::{Manager, Result};

impl Manager {
    /// The secrets that people and run configurations see: never the system's own.
    pub fn secrets(&self) -> &Arc<dyn SecretProvider> {
        &self.parts.secrets
    }

    /// Sets or replaces a secret. Servers that run keep the value that they were started with; a restart of each of
    /// [`workloads_using_secret`](Self::workloads_using_secret) gives them the new one, and until then
    /// [`list`](Self::list) says so of each.
    ///
    /// # Errors
    /// What the provider says.
    pub async fn set_secret(&self, name: &str, value: SecretString) -> thv_secrets::Result<()> {
        self.parts.secrets.set(name, value).await
    }

    /// Deletes a secret, whoever uses it.
    ///
    /// # Errors
    /// What the provider says; `NotFound` when there is none.
    pub async fn delete_secret(&self, name: &str) -> thv_secrets::Result<()> {
        self.parts.secrets.delete(name).await
    }

    /// The workloads whose run configuration names the secret, in the order of their names. A configuration that cannot
    /// be read names nothing. Nothing is written.
    ///
    /// # Errors
    /// `State` when the run configurations cannot be read at all.
    pub async fn workloads_using_secret(&self, secret: &str) -> Result<Vec<WorkloadName>> {
        let mut using = Vec::new();
        for document in self.parts.state.list(DocumentKind::RunConfig).await? {
            let Ok(name) = WorkloadName::new(document.as_str()) else {
                continue;
            };
            let saved = self.parts.saved(&name).await?;
            let uses = |text: &String| SecretReference::parse(text).is_ok_and(|one| one.name() == secret);
            if saved
                .config()
                .is_some_and(|config| config.secrets.iter().any(uses))
            {
                using.push(name);
            }
        }
        using.sort();
        Ok(using)
    }
}

/// Whether its supervisor lives, and with it a server that may have been given secrets.
pub(crate) fn may_have(snapshot: &Snapshot, config: Option<&RunConfig>) -> bool {
    let kept = snapshot.companion.as_ref();
    snapshot.owner == OwnerState::Alive
        && (config.is_some_and(|config| !config.secrets.is_empty())
            || kept.is_some_and(|companion| !companion.secret_revisions.is_empty()))
}

/// Which secrets of a server that runs are no longer what it was started with. One that is on its way up gets those that
/// are there.
pub(crate) fn stale(
    revisions: &Revisions,
    snapshot: &Snapshot,
    config: Option<&RunConfig>,
    status: WorkloadStatus,
) -> Stale {
    match &snapshot.companion {
        Some(companion) if may_have(snapshot, config) && status != WorkloadStatus::Starting => {
            revisions.since(&companion.secret_revisions)
        }
        _ => Stale::default(),
    }
}
