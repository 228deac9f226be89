//! What a list has seen: records, configurations and instances.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thv_core::{RunConfig, WorkloadStatus};
use thv_runtime::{EngineIdentity, Instance, Listing, RuntimeKind, Runtimes};
use thv_secrets::Revisions;
use thv_status::{OwnerState, Snapshot};

use crate::parts::Parts;
use crate::stop::was_removed;
use crate::supervisor::with_causes;
use crate::{Result, engine};

/// Everything that was looked at.
#[derive(Default)]
pub(crate) struct Seen {
    /// Which engines answered, where a record names one and its instance is not there.
    pub(crate) engines: BTreeMap<RuntimeKind, EngineIdentity>,
    pub(crate) snapshots: BTreeMap<String, Snapshot>,
    pub(crate) configs: BTreeMap<String, Result<Arc<RunConfig>>>,
    pub(crate) instances: BTreeMap<String, Instance>,
    pub(crate) down: BTreeMap<RuntimeKind, String>,
    pub(crate) revisions: Option<Revisions>,
    pub(crate) warnings: Vec<String>,
}

impl Seen {
    pub(crate) fn config(&self, name: &str) -> Option<&RunConfig> {
        self.configs.get(name)?.as_deref().ok()
    }

    /// In order, each once.
    #[expect(
        clippy::stable_sort_primitive,
        reason = "it merges three that are in order; the other one sorts them anew"
    )]
    pub(crate) fn names(&self) -> Vec<&str> {
        // A record alone is what another program left when it removed the workload.
        let known = self
            .snapshots
            .iter()
            .filter(|(_, snapshot)| !was_removed(snapshot));
        let mut names: Vec<_> = known
            .map(|(name, _)| name)
            .chain(self.configs.keys())
            .chain(self.instances.keys())
            .map(String::as_str)
            .collect();
        names.sort();
        names.dedup();
        names
    }

    pub(crate) fn put_snapshots(&mut self, snapshots: Vec<Snapshot>) {
        let named = snapshots
            .into_iter()
            .map(|snapshot| (snapshot.raw_name.clone(), snapshot));
        self.snapshots = named.collect();
    }

    /// Takes what runtimes said in place of what they said before.
    pub(crate) fn put_instances(&mut self, listings: Vec<Listing>) {
        for listing in listings {
            let kind = listing.runtime;
            self.down.remove(&kind);
            self.instances.retain(|_, instance| instance.runtime != kind);
            match listing.instances {
                Ok(instances) => {
                    let named = instances
                        .into_iter()
                        .map(|instance| (instance.workload.clone(), instance));
                    self.instances.extend(named);
                }
                Err(error) => {
                    self.down.insert(kind, error.to_string());
                }
            }
        }
    }

    /// The runtimes whose instances are not as the records would have them: one runs that should be down, or the other way
    /// round. What has no record here is another user's of the same engine.
    pub(crate) fn unsettled(&self, runtimes: &Runtimes) -> BTreeSet<RuntimeKind> {
        let mut kinds = BTreeSet::new();
        for (name, snapshot) in &self.snapshots {
            let running = self.instances.get(name).filter(|it| it.state.is_up());
            if claims_to_run(snapshot) == running.is_some()
                || self.config(name).is_some_and(RunConfig::is_remote)
            {
                continue;
            }
            let record = snapshot.companion.as_ref().and_then(|it| it.runtime.as_ref());
            match running.map(|it| &it.runtime).or(record.map(|it| &it.kind)) {
                Some(kind) => _ = kinds.insert(kind.clone()),
                None => kinds.extend(runtimes.kinds().cloned()),
            }
        }
        kinds.retain(|kind| !self.down.contains_key(kind));
        kinds
    }

    /// All labels of a workload: what selectors match.
    pub(crate) fn labels(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        labels_of(self.config(name), self.instances.get(name))
    }

    /// Says what cannot be read or asked. A runtime that is down concerns somebody only when a workload belongs to it.
    pub(crate) fn warn(&mut self) {
        for (name, snapshot) in &self.snapshots {
            if let Some(damage) = &snapshot.damage {
                self.warnings
                    .push(format!("what is recorded of \"{name}\" is damaged: {damage}"));
            }
        }
        let failed = self.configs.values().filter_map(|config| config.as_ref().err());
        self.warnings.extend(failed.map(with_causes));
        let kind = |snapshot: &Snapshot| Some(snapshot.companion.as_ref()?.runtime.as_ref()?.kind.clone());
        let concerned: BTreeSet<_> = self.snapshots.values().filter_map(kind).collect();
        let down = self.down.iter().filter(|(kind, _)| concerned.contains(kind));
        self.warnings.extend(down.map(|(_, reason)| reason.clone()));
    }

    /// Why an instance that was not found is not missing: another engine has it.
    pub(crate) fn elsewhere(&self, snapshot: Option<&Snapshot>) -> Option<String> {
        let record = snapshot?.companion.as_ref()?.runtime.as_ref()?;
        engine::elsewhere(record, self.engines.get(&record.kind)?)
    }

    /// Why nothing can be said about an instance that was not found.
    pub(crate) fn reason_for(
        &self,
        kind: Option<&RuntimeKind>,
        config: Option<&RunConfig>,
        parts: &Parts,
    ) -> Option<String> {
        if let Some(kind) = kind {
            return self
                .down
                .get(kind)
                .cloned()
                .or_else(|| parts.runtimes.get(kind).err().map(|error| error.to_string()));
        }
        let runtime = parts.runtime_for_image(&config?.image).ok()?;
        self.down.get(runtime.kind()).cloned()
    }
}

/// The labels that a configuration says, or the instance where there is none.
pub(crate) fn labels_of<'a>(
    config: Option<&'a RunConfig>,
    instance: Option<&'a Instance>,
) -> Option<&'a BTreeMap<String, String>> {
    match config {
        Some(config) => Some(&config.container_labels),
        None => instance.map(|instance| &instance.labels),
    }
}

/// Whether a record says that its workload is up, or on its way.
pub(crate) fn claims_to_run(snapshot: &Snapshot) -> bool {
    use WorkloadStatus as S;
    snapshot.owner == OwnerState::Alive
        || snapshot
            .status
            .as_ref()
            .is_some_and(|file| !matches!(file.status, S::Stopped | S::Error | S::PolicyStopped))
}
