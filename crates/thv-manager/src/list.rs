//! `list` and `get`: what is, put together from records, configurations and runtimes. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thv_core::{RunConfig, Workload, WorkloadName, WorkloadStatus};
use thv_files::Parsed;
use thv_state::{DocumentKind, DocumentName, StateStore, StateStoreExt};
use thv_status::{InstanceView, OwnerState, ProxyState, Snapshot, observe};

use crate::parts::Parts;
use crate::seen::{Seen, claims_to_run, labels_of};
use crate::view::{View, from_runtime};
use crate::{Error, ListOptions, ListOutcome, Manager, Result, secrets, toolhive};

impl Manager {
    /// Lists workloads in the order of their names: those of all runtimes, remote ones, and what only files know of.
    ///
    /// A runtime that is down is a reason on its workloads and a warning, not a failure. Nothing is written. What other
    /// installations have on the same engine is listed too, as far as it is labelled as a workload.
    ///
    /// # Errors
    /// `GroupNotFound`; `State` or `Status` when a folder cannot be read.
    pub async fn list(&self, options: ListOptions) -> Result<ListOutcome> {
        if let Some(group) = &options.group {
            self.check_group(group).await?;
        }
        let seen = self.look().await?;
        let mut outcome = ListOutcome {
            warnings: seen.warnings.clone(),
            ..ListOutcome::default()
        };
        let none = BTreeMap::new();
        for name in seen.names() {
            let mut view = self.view(&seen, name);
            if WorkloadName::new(name).is_err() {
                mark_misnamed(&mut view.workload.status_context);
            }
            if view.should_run && !options.all {
                outcome.warnings.extend(trouble(&view.workload));
            }
            let wanted = (options.all || view.workload.status.is_listed_by_default())
                && options
                    .group
                    .as_ref()
                    .is_none_or(|group| view.workload.group == *group)
                && options
                    .selector
                    .as_ref()
                    .is_none_or(|selector| selector.matches(seen.labels(name).unwrap_or(&none)));
            if wanted {
                outcome.workloads.push(view.workload);
            }
        }
        Ok(outcome)
    }

    /// One workload as [`list`](Self::list) shows it. Nothing is written.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get(&self, name: &WorkloadName) -> Result<Workload> {
        Ok(self.observe_one(name).await?.workload)
    }

    /// Looks at one workload only.
    pub(crate) async fn observe_one(&self, name: &WorkloadName) -> Result<View> {
        let parts = &self.parts;
        let snapshot = self.known(name).await?;
        let mut seen = Seen::default();
        if let Some(config) = parts.find_config(name).await? {
            seen.configs.insert(name.to_string(), Ok(Arc::new(config)));
        }
        let kinds: Vec<_> = match snapshot.companion.as_ref().and_then(|c| c.runtime.as_ref()) {
            Some(runtime) => vec![runtime.kind.clone()],
            None => parts.runtimes.kinds().cloned().collect(),
        };
        let is_remote = matches!(seen.configs.get(name.as_str()), Some(Ok(config)) if config.is_remote());
        for kind in kinds.into_iter().filter(|_| !is_remote) {
            let found = match parts.runtimes.get(&kind) {
                Ok(runtime) => runtime.inspect(name).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(Some(instance)) => {
                    seen.instances.insert(name.to_string(), instance);
                }
                Ok(None) => {}
                Err(error) => {
                    seen.down.insert(kind, error.to_string());
                }
            }
        }
        seen.snapshots.insert(name.to_string(), snapshot);
        self.look_at_engines(&mut seen).await;
        self.look_at_secrets(&mut seen).await;
        Ok(self.view(&seen, name.as_str()))
    }

    /// The names of all workloads that there are, but for those that only a runtime knows which does not answer.
    pub(crate) async fn all_names(&self) -> Result<BTreeSet<String>> {
        let seen = self.look().await?;
        Ok(seen.names().into_iter().map(str::to_owned).collect())
    }

    /// Looks at everything at the same time. Where an instance is not as its record would have it, one of them may have
    /// changed in between: then the records are read again, and if that was not it, the runtimes are asked again.
    async fn look(&self) -> Result<Seen> {
        let parts = &self.parts;
        let mut seen = Seen::default();
        let snapshots = || async { parts.status.list().await.map_err(Error::from) };
        let instances = async { Ok(parts.runtimes.list().await) };
        let (known, configs, instances) = tokio::try_join!(snapshots(), self.configs(), instances)?;
        seen.put_snapshots(known);
        seen.put_instances(instances);
        seen.configs = configs.into_iter().collect();
        if !seen.unsettled(&parts.runtimes).is_empty() {
            seen.put_snapshots(snapshots().await?);
            let kinds = seen.unsettled(&parts.runtimes);
            seen.put_instances(parts.runtimes.list_of(&kinds).await);
        }
        seen.warn();
        self.look_at_engines(&mut seen).await;
        self.look_at_secrets(&mut seen).await;
        Ok(seen)
    }

    /// Which engines answered, where a record names one that does not seem to be there.
    async fn look_at_engines(&self, seen: &mut Seen) {
        let missing = seen
            .snapshots
            .iter()
            .filter(|(name, _)| !seen.instances.contains_key(*name));
        let records = missing.filter_map(|(_, snapshot)| snapshot.companion.as_ref()?.runtime.as_ref());
        let named = records.filter(|record| record.engine_id.is_some());
        let kinds: BTreeSet<_> = named.map(|record| record.kind.clone()).collect();
        for kind in kinds.into_iter().filter(|kind| !seen.down.contains_key(kind)) {
            if let Ok(runtime) = self.parts.runtimes.get(&kind)
                && let Ok(identity) = runtime.identity().await
            {
                seen.engines.insert(kind, identity);
            }
        }
    }

    /// Which secrets have changed, if that matters to anybody.
    async fn look_at_secrets(&self, seen: &mut Seen) {
        let matters = seen.snapshots.iter().any(|(name, snapshot)| {
            let config = seen.config(name);
            secrets::may_have(snapshot, config)
        });
        if !matters {
            return;
        }
        match self.parts.secrets.revisions().await {
            Ok(revisions) => seen.revisions = revisions,
            Err(error) => seen.warnings.push(format!(
                "which workloads have old values of secrets cannot be told: {error}"
            )),
        }
    }

    /// All run configurations. Each is parsed as it is read, off the async threads, beside the reading of records.
    pub(crate) async fn configs(&self) -> Result<Vec<(String, Result<Arc<RunConfig>>)>> {
        let known = Arc::clone(&self.parts.known_configs);
        let state = Arc::clone(&self.parts.state);
        let read = move |name: &DocumentName, document: thv_state::Result<Arc<[u8]>>| {
            parse(&known, &*state, name, document)
        };
        let configs = self.parts.state.read_each(DocumentKind::RunConfig, read).await?;
        let configs: Vec<_> = configs
            .into_iter()
            .map(|(name, config)| (name.into_string(), config))
            .collect();
        let names: Vec<_> = configs.iter().map(|(name, _)| name).collect();
        self.parts.known_configs.retain(&names);
        Ok(configs)
    }

    fn view(&self, seen: &Seen, name: &str) -> View {
        let config = seen.config(name);
        let instance = seen.instances.get(name);
        let snapshot = seen.snapshots.get(name);
        let remote = config.is_some_and(RunConfig::is_remote);
        let kind = snapshot
            .and_then(|snapshot| {
                snapshot
                    .companion
                    .as_ref()?
                    .runtime
                    .as_ref()
                    .map(|runtime| runtime.kind.clone())
            })
            .or_else(|| instance.map(|instance| instance.runtime.clone()));
        let seen_instance = if remote {
            InstanceView::NotApplicable
        } else if let Some(instance) = instance {
            InstanceView::Present(instance)
        } else {
            let elsewhere = seen.elsewhere(snapshot);
            match elsewhere.or_else(|| seen.reason_for(kind.as_ref(), config, &self.parts)) {
                Some(reason) => InstanceView::Unknown(reason),
                None => InstanceView::Absent,
            }
        };
        let proxy = snapshot.map_or(ProxyState::NotHere, |snapshot| {
            proxy_state(&self.parts, snapshot, config)
        });
        let boot_id = self.parts.processes.boot_id();
        let observation = match snapshot {
            Some(snapshot) => observe(snapshot, &seen_instance, proxy, &boot_id),
            None => from_runtime(&seen_instance),
        };
        let mut view = View::new(
            name,
            observation,
            snapshot,
            config,
            instance,
            kind,
            labels_of(config, instance),
        );
        if !remote
            && instance.is_none()
            && let Some(reason) = seen.elsewhere(snapshot)
            && !view.workload.status_context.contains(&reason)
        {
            let context = &mut view.workload.status_context;
            let between = if context.is_empty() { "" } else { "; " };
            *context = format!("{context}{between}{reason}");
        }
        if let (Some(revisions), Some(snapshot)) = (&seen.revisions, snapshot) {
            let stale = secrets::stale(revisions, snapshot, config, view.workload.status);
            view.workload.thv.old_secrets = stale.changed.into_iter().collect();
            view.workload.thv.secrets_may_be_old = stale.perhaps;
        }
        // Started by ToolHive after it was stopped here.
        view.should_run |= snapshot.is_some_and(|snapshot| self.is_run_by_toolhive(snapshot, config));
        view
    }

    fn is_run_by_toolhive(&self, snapshot: &Snapshot, config: Option<&RunConfig>) -> bool {
        let Some(name) = &snapshot.name else {
            return false;
        };
        let runs = toolhive::runs(&self.parts, name, snapshot, config);
        let started = runs.and_then(|runs| Ok(runs || toolhive::was_started(&self.parts, snapshot)?));
        started.unwrap_or_else(|error| {
            tracing::warn!(workload = %name, %error, "whether ToolHive runs it cannot be found out");
            false
        })
    }
}

/// Whether the proxy of a workload lives; of ToolHive's by proof, as nothing else would be one.
pub(crate) fn proxy_state(parts: &Parts, snapshot: &Snapshot, config: Option<&RunConfig>) -> ProxyState {
    if snapshot.owner == OwnerState::Alive {
        return ProxyState::Alive;
    }
    let Some(name) = &snapshot.name else {
        return ProxyState::Unknown;
    };
    if !claims_to_run(snapshot) {
        return ProxyState::Dead;
    }
    match toolhive::find_proxy(parts, name, snapshot, config) {
        Ok(Some(_)) => ProxyState::Alive,
        Ok(None) => ProxyState::Dead,
        Err(_) => ProxyState::Unknown,
    }
}

/// Says of a workload that it can be removed and nothing else.
fn mark_misnamed(context: &mut String) {
    const MARK: &str = "invalid name: it can be removed and nothing else";
    *context = match context.as_str() {
        "" => MARK.to_owned(),
        known => format!("{MARK}; {known}"),
    };
}

/// What a plain list, which does not show it, says of a workload that should run. On its way up it is no trouble, unless
/// something came in between.
fn trouble(workload: &Workload) -> Option<String> {
    let Workload {
        name,
        status,
        status_context: context,
        ..
    } = workload;
    match status {
        status if status.is_listed_by_default() => None,
        WorkloadStatus::Starting if context.is_empty() => None,
        WorkloadStatus::Starting => Some(format!("\"{name}\" is still starting: {context}")),
        _ => Some(format!(
            "\"{name}\" should run and does not ({status}): {context}"
        )),
    }
}

fn parse(
    known: &Parsed<RunConfig>,
    state: &dyn StateStore,
    name: &DocumentName,
    document: thv_state::Result<Arc<[u8]>>,
) -> Result<Arc<RunConfig>> {
    let parse = |text: &[u8]| RunConfig::from_json(text).map(RunConfig::normalized);
    known.get(name.as_str(), &document?, parse).map_err(|error| {
        state
            .invalid(DocumentKind::RunConfig, name, error.to_string())
            .into()
    })
}
