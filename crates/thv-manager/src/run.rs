//! `run`: everything that can fail without a trace comes first; then record, configuration, status, launch.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use thv_core::gojson::GoTime;
use thv_core::{ProvenanceRecord, RunConfig, SecretReference, WorkloadName, WorkloadStatus};
use thv_image::Policy;
use thv_runtime::{Runtime, RuntimeKind};
use thv_state::{DocumentKind, StateStoreExt};
use thv_status::{
    Authority, ClaimId, Companion, Described, Desired, Draft, OpGuard, Operation, OwnerGuard, OwnerState,
    Pending, Previous, Reading, ResolvedImage,
};

use crate::launch::{Launch, Launchable};
use crate::middleware;
use crate::owner::remove_instance;
use crate::parts::{Parts, Saved, keep};
use crate::request::{self, RuntimeChoice};
use crate::stop::{OP_WAIT, milliseconds};
use crate::{
    Error, ImageTerms, Manager, Result, RollbackPolicy, RunOptions, RunOutcome, RunRequest, StopOptions,
    deploy_spec, image, journal, kept_image, ports, toolhive,
};

/// The group that always exists.
const DEFAULT_GROUP: &str = "default";

/// A workload that is checked and ready to be saved.
pub(crate) struct Prepared {
    pub(crate) name: WorkloadName,
    pub(crate) config: RunConfig,
    pub(crate) runtime: Option<Arc<dyn Runtime>>,
    pub(crate) resolved: Option<ResolvedImage>,
    /// What was found out about who made the image.
    pub(crate) provenance: Option<ProvenanceRecord>,
    /// None: the port is held by the workload that is replaced.
    pub(crate) listener: Option<TcpListener>,
    pub(crate) notices: Vec<String>,
    pub(crate) replaces: Replaces,
    /// The hash of the configuration that it is to replace; none: whatever is there.
    pub(crate) expects: Option<String>,
}

/// Whether something may be there already, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaces {
    /// Nothing may be there but what failed before it was ever ready.
    Nothing,
    /// Whatever is there.
    Anything,
    /// The configuration before, as an update.
    Updated(RollbackPolicy),
}

impl Replaces {
    fn anything(replace: bool) -> Self {
        if replace { Self::Anything } else { Self::Nothing }
    }

    fn operation(self) -> Operation {
        match self {
            Self::Nothing | Self::Anything => Operation::Run,
            Self::Updated(_) => Operation::Update,
        }
    }
}

impl Manager {
    /// Runs what `request` asks for under this manager's launcher, and returns when it is ready, has failed, or the
    /// launch window is over.
    ///
    /// What fails before the configuration is saved leaves nothing. What fails after it leaves configuration, status
    /// `error` with the reason, and logs. Dropping the future between the two leaves a journal entry that the next verb
    /// finishes.
    ///
    /// # Errors
    /// `AlreadyExists`; `Invalid`, `InvalidName`, `GroupNotFound` and `Unsupported` for what cannot be done as it is asked;
    /// `PortTaken`; `Secret`; `Image` and `Runtime` for an image that cannot be had; `StartFailed` with the last lines of the
    /// server; `NotReady` where [`WaitFor::Ready`](crate::WaitFor::Ready) was asked for.
    pub async fn run(&self, request: RunRequest, options: RunOptions) -> Result<RunOutcome> {
        self.launcher.check(&self.parts.env)?;
        let prepared = Box::pin(self.prepare(&request, options.replace, &options.image)).await?;
        let notices = prepared.notices.clone();
        let launch = Box::pin(self.save(prepared)).await?;
        Box::pin(self.launch(launch, options.wait, notices)).await
    }

    /// Runs a workload from a complete configuration, such as an exported one.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_config(
        &self,
        config: RunConfig,
        runtime: Option<RuntimeKind>,
        options: RunOptions,
    ) -> Result<RunOutcome> {
        self.launcher.check(&self.parts.env)?;
        let choice = runtime.map(RuntimeChoice::Named);
        let replaces = Replaces::anything(options.replace);
        let config = config.normalized();
        let prepared =
            Box::pin(self.prepare_config(config, choice, Vec::new(), replaces, &options.image)).await?;
        let notices = prepared.notices.clone();
        let launch = Box::pin(self.save(prepared)).await?;
        Box::pin(self.launch(launch, options.wait, notices)).await
    }

    pub(crate) async fn prepare(
        &self,
        request: &RunRequest,
        replace: bool,
        terms: &ImageTerms,
    ) -> Result<Prepared> {
        let built = request::build_from(&self.parts, request).await?;
        let replaces = Replaces::anything(replace);
        #[cfg(feature = "registry")]
        let terms = &ImageTerms {
            expected: terms
                .expected
                .clone()
                .or_else(|| request.origin.as_ref()?.expected_identity().map(Box::new)),
            ..terms.clone()
        };
        self.prepare_config(built.config, Some(built.runtime), built.notices, replaces, terms)
            .await
    }

    pub(crate) async fn prepare_config(
        &self,
        mut config: RunConfig,
        choice: Option<RuntimeChoice>,
        mut notices: Vec<String>,
        replaces: Replaces,
        terms: &ImageTerms,
    ) -> Result<Prepared> {
        let parts = &self.parts;
        let replace = replaces != Replaces::Nothing;
        let name = config.workload_name()?;
        notices.extend(parts.tuning.warnings.iter().cloned());
        config = request::complete(parts, config).await?;
        check_honoured(parts, &config)?;
        request::check_ca_bundle(parts, &config).await?;
        let hidden = request::hidden_paths(parts, &config).await?;
        if config
            .ignore_config
            .as_ref()
            .is_some_and(|ignore| ignore.print_overlays)
        {
            notices.extend(
                hidden
                    .iter()
                    .map(|path| format!("hidden from the server: {}", path.target)),
            );
        }
        let runtime = self.choose(&config, choice)?;
        if let Some(runtime) = &runtime {
            runtime.check_name(&name)?;
            notices.extend(isolation(&name, &config, &**runtime).await?);
            deploy_spec::check(&name, &config, &hidden, &**runtime)?;
        }
        self.check_group(&config.group).await?;
        self.check_secrets(&name, &config).await?;
        self.check_free(&name, replace).await?;
        let mut provenance = None;
        let resolved = match runtime.as_ref().and_then(|runtime| runtime.images()) {
            Some(images) => {
                let gate = parts.images.as_deref();
                let obtained =
                    image::obtain(&*images, gate, &config.image, terms, parts.pulls.as_deref()).await?;
                notices.extend(obtained.warning);
                let now = GoTime::from(&parts.clock.now());
                provenance = obtained.verdict.map(|verdict| image::provenance(verdict, now));
                Some(obtained.image)
            }
            None if terms.admitted.is_some() || terms.policy == Policy::Enabled => {
                return Err(Error::Unsupported {
                    what: "image verification".into(),
                    detail: "there is no image".into(),
                });
            }
            None => None,
        };
        let asked_for = config.port;
        if asked_for == 0 && replace {
            // Clients know the one that it has.
            config.port = parts.saved(&name).await?.config().map_or(0, |old| old.port);
        }
        let listener = match self.listen(&name, &config, replace).await {
            Err(error @ Error::PortTaken { .. }) if asked_for == 0 => {
                notices.push(format!("{error}: \"{name}\" gets another one"));
                Some(ports::bind(&config.host, 0, &*parts.ports, &*parts.processes)?)
            }
            other => other?,
        };
        let port = match &listener {
            Some(listener) => ports::port_of(listener)?,
            None => config.port,
        };
        let target = match (config.target_port, config.transport) {
            (0, thv_core::TransportType::Stdio) => None,
            (0, _) => Some(ports::free_port(&*parts.ports, &*parts.processes)?),
            (port, _) => Some(port),
        };
        request::set_ports(&mut config, port, target);
        Ok(Prepared {
            name,
            config,
            runtime,
            resolved,
            provenance,
            listener,
            notices,
            replaces,
            expects: None,
        })
    }

    /// Listens on the port of `config`; `None` where that is what the workload that is replaced does.
    async fn listen(
        &self,
        name: &WorkloadName,
        config: &RunConfig,
        replace: bool,
    ) -> Result<Option<TcpListener>> {
        let parts = &self.parts;
        match ports::bind(&config.host, config.port, &*parts.ports, &*parts.processes) {
            Err(Error::PortTaken { .. }) if replace && self.holds_port(name, config.port).await? => Ok(None),
            other => other.map(Some),
        }
    }

    /// Whether it is the workload's own proxy that listens on `port`.
    async fn holds_port(&self, name: &WorkloadName, port: u16) -> Result<bool> {
        let snapshot = self.parts.status.read(name).await?;
        let saved = self.parts.saved(name).await?;
        let on_port = saved.config().filter(|config| config.port == port);
        Ok(on_port.is_some()
            && (snapshot.owner == OwnerState::Alive
                || toolhive::find_proxy(&self.parts, name, &snapshot, on_port)?.is_some()))
    }

    fn choose(&self, config: &RunConfig, choice: Option<RuntimeChoice>) -> Result<Option<Arc<dyn Runtime>>> {
        if config.is_remote() {
            return Ok(None);
        }
        let runtimes = &self.parts.runtimes;
        Ok(Some(match choice {
            Some(RuntimeChoice::Named(kind)) => runtimes.get(&kind)?,
            Some(RuntimeChoice::Local) => runtimes.get(&"local".into())?,
            _ => self.parts.runtime_for_image(&config.image)?,
        }))
    }

    pub(crate) async fn check_group(&self, group: &str) -> Result<()> {
        if group.is_empty() || group == DEFAULT_GROUP {
            return Ok(());
        }
        let unknown = || Error::GroupNotFound {
            group: group.to_owned(),
        };
        let document = thv_state::DocumentName::new(group).map_err(|_| unknown())?;
        match self.parts.state.read(DocumentKind::Group, &document).await? {
            Some(_) => Ok(()),
            None => Err(unknown()),
        }
    }

    /// Finds out now, and not in a detached process, whether every secret can be read.
    pub(crate) async fn check_secrets(&self, name: &WorkloadName, config: &RunConfig) -> Result<()> {
        for text in &config.secrets {
            let reference = SecretReference::parse(text).map_err(|e| Error::Invalid {
                what: "secrets".into(),
                detail: e.to_string(),
            })?;
            self.parts
                .secrets
                .get(reference.name())
                .await
                .map_err(|source| Error::Secret {
                    name: name.to_string(),
                    secret: reference.name().to_owned(),
                    source,
                })?;
        }
        Ok(())
    }

    /// A name is free, or its workload failed before it was ever ready, or the caller wants it replaced.
    async fn check_free(&self, name: &WorkloadName, replace: bool) -> Result<()> {
        let snapshot = match self.known(name).await {
            Err(Error::NotFound { .. }) => return Ok(()),
            other => other?,
        };
        let failed = snapshot.status.as_ref().is_some_and(|file| match file.status {
            WorkloadStatus::Error => true,
            // Its supervisor was killed before it could write so. What another program starts is not ours to judge.
            WorkloadStatus::Starting => {
                snapshot.companion.is_some()
                    && snapshot.owner == OwnerState::Dead
                    && !matches!(snapshot.reading, Reading::Foreign(_))
            }
            _ => false,
        });
        let was_ready = snapshot
            .companion
            .as_ref()
            .is_some_and(|companion| companion.ready.is_some());
        // Whether it was cut off is decided under `.op`, when its journal is settled.
        let perhaps_cut_off = snapshot.owner == OwnerState::Dead
            && snapshot
                .companion
                .as_ref()
                .is_some_and(|companion| companion.pending.is_some());
        if replace || (failed && !was_ready) || perhaps_cut_off {
            return Ok(());
        }
        Err(Error::AlreadyExists {
            name: name.to_string(),
            failed,
        })
    }

    /// Saves what was prepared: record, configuration, status, in this order.
    pub(crate) async fn save(&self, mut prepared: Prepared) -> Result<Launch> {
        let parts = &self.parts;
        let name = prepared.name.clone();
        self.check_expected(&prepared).await?;
        let replace = prepared.replaces != Replaces::Nothing;
        let operation = prepared.replaces.operation();
        let mut op = self.lock_to_save(&mut prepared).await?;
        if journal::settle(parts, &name, &op).await? == journal::Settled::Removed {
            parts.status.remove(&name, op).await?;
            op = parts.status.lock_op(&name, operation, OP_WAIT).await?;
        }
        thv_process::crash_point!(RunLocked);
        self.check_free(&name, replace).await?;
        let there = parts.status.read(&name).await?;
        let is_new = there.companion.is_none()
            && there.status.is_none()
            && there.damage.is_none()
            && matches!(parts.saved(&name).await?, Saved::Nothing);
        if !is_new {
            return match Box::pin(self.save_over(prepared, there.desired(), &op)).await {
                Ok(what) => Ok(self.in_a_group(what, &op).await.under(op)),
                Err(error) => {
                    // As if it had been cut off there; should this fail too, the next verb does it.
                    if let Err(error) = journal::take_back(parts, &name, &op).await {
                        tracing::error!(workload = %name, %error, "a replacement could not be taken back");
                    }
                    Err(error)
                }
            };
        }
        let ours = thv_status::config_hash(&prepared.config);
        match self.save_new(prepared, &op).await {
            Ok(what) => Ok(self.in_a_group(what, &op).await.under(op)),
            Err(error) => {
                // Should this fail too, the journal knows.
                if let Err(error) = self.leave_nothing(&name, &ours, &error, op).await {
                    tracing::error!(workload = %name, %error, "a run that failed could not be taken back");
                }
                Err(error)
            }
        }
    }

    /// Takes back what [`save_new`](Self::save_new) did before it failed with `error`: who is told that a run failed does not
    /// expect it to be started later. A configuration that is not `ours` was brought by somebody else meanwhile.
    async fn leave_nothing(&self, name: &WorkloadName, ours: &str, error: &Error, op: OpGuard) -> Result<()> {
        let parts = &self.parts;
        let taken = matches!(error, Error::State(thv_state::Error::Exists { .. }));
        match parts.saved(name).await? {
            Saved::Nothing => {}
            Saved::Config(config) if !taken && thv_status::config_hash(&config) == ours => {
                parts.state.delete_run_config_under(name, keep(&op)).await?;
            }
            _ => return Ok(()),
        }
        Ok(parts.status.remove(name, op).await?)
    }

    /// The lock of the verb that saves what was prepared.
    async fn lock_to_save(&self, prepared: &mut Prepared) -> Result<OpGuard> {
        let (name, stop) = (prepared.name.clone(), StopOptions::default());
        let replace = prepared.replaces != Replaces::Nothing;
        let operation = prepared.replaces.operation();
        if replace {
            match self.check_stop(&name, stop).await {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let status = &self.parts.status;
        match status.lock_op(&name, operation, Duration::ZERO).await {
            Err(thv_status::Error::Conflict { .. }) => {}
            other => return Ok(other?),
        }
        // Who works on it may need the port, or promises that it is free.
        let listened = prepared.listener.take().is_some();
        let op = if replace {
            self.lock_to_replace(&name, operation, stop).await?
        } else {
            status.lock_op(&name, operation, OP_WAIT).await?
        };
        if listened {
            prepared.listener = self.listen(&name, &prepared.config, replace).await?;
        }
        Ok(op)
    }

    async fn save_new(&self, prepared: Prepared, op: &OpGuard) -> Result<Launchable> {
        let parts = &self.parts;
        let name = &prepared.name;
        let owner = parts.status.acquire_owner(name).await?;
        let claim = ClaimId::random();
        let mut companion = Companion::new(claim.clone(), &parts.launcher_id);
        companion.describe(self.described(&prepared));
        companion.pending = Some(self.pending(Operation::Run, Some(&prepared.config)));
        parts.status.create(name, op, companion).await?;
        thv_process::crash_point!(RunRecorded);
        parts
            .state
            .create_run_config_under(name, &prepared.config, keep(op))
            .await?;
        thv_process::crash_point!(RunSaved);
        let committed = Box::new(|draft: &mut Draft| {
            draft.status.process_id = 0;
            draft.force_status(WorkloadStatus::Starting, "");
        });
        parts.status.update(name, Authority::Verb(op), committed).await?;
        thv_process::crash_point!(RunStarting);
        prepared.launchable(claim, owner, parts)
    }

    /// Over a workload that failed, or that is replaced: what ran of it is gone before its configuration changes, and
    /// until then its record is that of the old one.
    async fn save_over(
        &self,
        prepared: Prepared,
        desired_before: Desired,
        op: &OpGuard,
    ) -> Result<Launchable> {
        let parts = &self.parts;
        let (name, stop) = (&prepared.name.clone(), StopOptions::default());
        self.check_expected(&prepared).await?;
        let old = parts.saved(name).await?;
        let mut pending = self.pending(prepared.replaces.operation(), Some(&prepared.config));
        if prepared.replaces == Replaces::Updated(RollbackPolicy::OnFailure) {
            pending.previous = self.previous(name).await?.map(Box::new);
        }
        let there = parts.status.read(name).await?;
        let keeper = match &pending.previous {
            Some(_) => kept_image::keeper(parts, name, &there, old.config()).await,
            None => None,
        };
        let kept_on = keeper.as_ref().map(|runtime| runtime.kind().clone());
        pending.replaces = old.config().map(thv_status::config_hash);
        pending.desired_before = Some(desired_before);
        pending.next = Some(self.described(&prepared));
        let begun = Box::new(move |draft: &mut Draft| {
            draft.companion.pending = Some(pending);
            if kept_on.is_some() {
                draft.companion.image_kept_on = kept_on;
            }
            draft.companion.desired = Desired::Stopped;
            draft.companion.stop_grace_ms = milliseconds(stop.grace);
        });
        parts.status.update(name, Authority::Verb(op), begun).await?;
        thv_process::crash_point!(ReplaceBegun);
        if let (Some(keeper), Some(old)) = (keeper, old.config()) {
            kept_image::keep(&*keeper, name, &there, old).await;
        }
        let port = old.config().map(|old| old.port);
        if prepared.listener.is_some() && port == Some(prepared.config.port) {
            self.end_but_port(name, op, old.config(), stop).await?;
        } else {
            self.end(name, op, old.config(), stop).await?;
        }
        thv_process::crash_point!(ReplaceEnded);
        let snapshot = parts.status.read(name).await?;
        remove_instance(parts, name, &snapshot, old.config(), false).await?;
        thv_process::crash_point!(ReplaceRemoved);
        let owner = parts.status.acquire_owner(name).await?;
        let claim = ClaimId::random();
        let launchable = prepared.launchable(claim.clone(), owner, parts)?;
        parts
            .state
            .write_run_config_under(name, &launchable.config, keep(op))
            .await?;
        thv_process::crash_point!(ReplaceSaved);
        let committed = Box::new(move |draft: &mut Draft| {
            draft.companion.carry_out();
            draft.companion.claim = claim;
            draft.companion.desired = Desired::Running;
            draft.companion.stop_grace_ms = None;
            draft.companion.owner = None;
            draft.status.process_id = 0;
            draft.force_status(WorkloadStatus::Starting, "");
        });
        parts.status.update(name, Authority::Verb(op), committed).await?;
        thv_process::crash_point!(ReplaceCommitted);
        Ok(launchable)
    }

    /// Refuses to replace another configuration than the one that the new one was made from.
    pub(crate) async fn check_expected(&self, prepared: &Prepared) -> Result<()> {
        let Some(expected) = &prepared.expects else {
            return Ok(());
        };
        let saved = self.parts.saved(&prepared.name).await?;
        if saved.config().map(thv_status::config_hash).as_ref() == Some(expected) {
            return Ok(());
        }
        Err(Error::Conflict {
            name: prepared.name.to_string(),
            detail: "its configuration was changed meanwhile; try again".into(),
        })
    }

    /// What is there, to be brought back.
    async fn previous(&self, name: &WorkloadName) -> Result<Option<Previous>> {
        let companion = self.parts.status.read(name).await?.companion;
        let bytes = self
            .parts
            .state
            .read(DocumentKind::RunConfig, &name.into())
            .await?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(companion.zip(text).map(|(companion, config)| Previous {
            config,
            described: companion.described(),
            ready: companion.ready.clone(),
            waiter: Some(self.parts.processes.current()),
        }))
    }

    fn described(&self, prepared: &Prepared) -> Described {
        let kind = prepared.runtime.as_ref().map(|runtime| runtime.kind().clone());
        let described = Described {
            launcher: self.parts.launcher_id.clone(),
            runtime: kind.map(Into::into),
            resolved: prepared.resolved.clone(),
            provenance: prepared.provenance.clone(),
            ..Described::default()
        };
        described.with_thv_section(&prepared.config)
    }

    /// A journal entry for a verb whose effects are for `config`: while another one is there, it is not begun, or
    /// somebody else went on.
    pub(crate) fn pending(&self, operation: Operation, config: Option<&RunConfig>) -> Pending {
        let parts = &self.parts;
        let mut pending = Pending::new(
            operation,
            parts.processes.current().pid,
            &parts.clock.now().to_string(),
        );
        pending.config_hash = config.map(thv_status::config_hash);
        pending
    }
}

impl Prepared {
    /// With its port bound at last.
    fn launchable(self, claim: ClaimId, owner: OwnerGuard, parts: &Parts) -> Result<Launchable> {
        let Self {
            name,
            config,
            listener,
            ..
        } = self;
        let listener = match listener {
            Some(listener) => listener,
            None => ports::bind(&config.host, config.port, &*parts.ports, &*parts.processes)?,
        };
        Ok(Launchable {
            name,
            claim,
            config,
            listener,
            owner,
        })
    }
}

/// What the user must know about isolation, or a refusal where it was required and cannot be had.
pub(crate) async fn isolation(
    name: &WorkloadName,
    config: &RunConfig,
    runtime: &dyn Runtime,
) -> Result<Option<String>> {
    if config.isolate_network && runtime.capabilities().network_isolation {
        // A runtime may know what it can do only once it was asked something. Whether it answers, others say.
        let _ = runtime.ping().await;
    }
    let can = runtime.capabilities();
    let lacks = || match &can.isolation_lacks {
        Some(why) => format!(": {why}"),
        None => " yet".to_owned(),
    };
    if config.requires_isolation() && !can.network_isolation {
        return Err(Error::Unsupported {
            what: "network isolation".into(),
            detail: format!(
                "runtime {} cannot enforce what isolate_network or the permission profile asks for{}",
                runtime.kind(),
                lacks()
            ),
        });
    }
    if config.requires_isolation() && deploy_spec::is_privileged(config) {
        return Err(Error::Unsupported {
            what: "network isolation".into(),
            detail: "a privileged server would get around it: leave one of them out".into(),
        });
    }
    if !config.isolate_network || deploy_spec::isolates(config, &can) {
        return Ok(None);
    }
    Ok(Some(if can.network_isolation {
        format!("the network of \"{name}\" is not isolated: a privileged server would get around it")
    } else {
        format!(
            "the network of \"{name}\" is not isolated: runtime {} cannot do that{}",
            runtime.kind(),
            lacks()
        )
    }))
}

/// Refuses configurations that ask for what is not built, and those that say what means nothing.
pub(crate) fn check_honoured(parts: &Parts, config: &RunConfig) -> Result<()> {
    let own = |kind: &str| middleware::is_own(&parts.middleware, kind);
    thv_core::enforcement::check_with(config, own).map_err(|refusal| {
        let what = refusal.keys().collect::<Vec<_>>().join(", ");
        let detail = refusal.to_string();
        if refusal.is_invalid() {
            Error::Invalid { what, detail }
        } else {
            Error::Unsupported { what, detail }
        }
    })
}
