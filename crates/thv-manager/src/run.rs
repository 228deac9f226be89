//! `run`: everything that can fail without a trace comes first; then record, configuration, status, launch.

use std::net::TcpListener;
use std::sync::Arc;

use thv_core::{RunConfig, SecretReference, WorkloadName, WorkloadStatus};
use thv_runtime::{Runtime, RuntimeKind};
use thv_state::{DocumentKind, StateStoreExt};
use thv_status::{
    Authority, ClaimId, Companion, Desired, Draft, OpGuard, Operation, OwnerState, Pending, ResolvedImage,
};

use crate::launch::Launch;
use crate::parts::keep;
use crate::request::{self, RuntimeChoice};
use crate::stop::OP_WAIT;
use crate::{Error, Manager, Result, RunOptions, RunOutcome, RunRequest, deploy_spec, journal, ports};

/// The group that always exists.
const DEFAULT_GROUP: &str = "default";

/// A workload that is checked and ready to be saved.
pub(crate) struct Prepared {
    pub(crate) name: WorkloadName,
    pub(crate) config: RunConfig,
    pub(crate) runtime: Option<Arc<dyn Runtime>>,
    pub(crate) resolved: Option<ResolvedImage>,
    pub(crate) listener: TcpListener,
    pub(crate) notices: Vec<String>,
    replace: bool,
}

impl Manager {
    /// Runs what `request` asks for under this manager's launcher, and returns when it is ready, has failed, or the
    /// launch window is over.
    ///
    /// What fails before the configuration is saved leaves nothing. What fails after it leaves configuration, status
    /// `error` with the reason, and logs. Dropping the future between the two leaves a journal entry that the next verb
    /// finishes.
    pub async fn run(&self, request: RunRequest, options: RunOptions) -> Result<RunOutcome> {
        self.launcher.check(&self.parts.env)?;
        let prepared = Box::pin(self.prepare(&request, options.replace)).await?;
        let notices = prepared.notices.clone();
        let launch = Box::pin(self.save(prepared)).await?;
        Box::pin(self.launch(launch, options.wait, notices)).await
    }

    /// Runs a workload from a complete configuration, such as an exported one.
    pub async fn run_config(
        &self,
        config: RunConfig,
        runtime: Option<RuntimeKind>,
        options: RunOptions,
    ) -> Result<RunOutcome> {
        self.launcher.check(&self.parts.env)?;
        let choice = runtime.map(RuntimeChoice::Named);
        let prepared =
            Box::pin(self.prepare_config(config.normalized(), choice, Vec::new(), options.replace)).await?;
        let notices = prepared.notices.clone();
        let launch = Box::pin(self.save(prepared)).await?;
        Box::pin(self.launch(launch, options.wait, notices)).await
    }

    pub(crate) async fn prepare(&self, request: &RunRequest, replace: bool) -> Result<Prepared> {
        let built = request::build_from(&self.parts, request).await?;
        self.prepare_config(built.config, Some(built.runtime), built.notices, replace)
            .await
    }

    async fn prepare_config(
        &self,
        mut config: RunConfig,
        choice: Option<RuntimeChoice>,
        mut notices: Vec<String>,
        replace: bool,
    ) -> Result<Prepared> {
        let parts = &self.parts;
        let name = config.workload_name()?;
        config = request::complete(parts, config).await?;
        check_honoured(&config)?;
        request::check_ignore_files(parts, &config).await?;
        let runtime = self.choose(&config, choice)?;
        if let Some(runtime) = &runtime {
            runtime.check_name(&name)?;
            notices.extend(isolation(&name, &config, &**runtime)?);
            deploy_spec::check(&name, &config, &**runtime)?;
        }
        self.check_group(&config.group).await?;
        self.check_secrets(&name, &config).await?;
        self.check_free(&name, replace).await?;
        let resolved = match runtime.as_ref().and_then(|runtime| runtime.images()) {
            Some(images) => Some(crate::image::obtain(&*images, &config.image).await?),
            None => None,
        };
        let listener = ports::bind(&config.host, config.port, &*parts.ports, &*parts.processes)?;
        let port = listener
            .local_addr()
            .map_err(|source| Error::Io {
                action: "read the proxy's address".into(),
                source,
            })?
            .port();
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
            listener,
            notices,
            replace,
        })
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
        let unknown = || Error::Invalid {
            what: "group".into(),
            detail: format!("there is no group \"{group}\""),
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
                    source: source.into(),
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
        let failed = snapshot
            .status
            .as_ref()
            .is_some_and(|status| status.status == WorkloadStatus::Error);
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
        let hint = if failed {
            "; use --replace to replace it"
        } else {
            ""
        };
        Err(Error::AlreadyExists {
            name: name.to_string(),
            hint: hint.into(),
        })
    }

    /// Saves what was prepared: record, configuration, status, in this order.
    pub(crate) async fn save(&self, prepared: Prepared) -> Result<Launch> {
        let parts = &self.parts;
        let name = prepared.name.clone();
        let mut op = parts.status.lock_op(&name, Operation::Run, OP_WAIT).await?;
        if journal::settle(parts, &name, &op).await? == journal::Settled::Removed {
            parts.status.remove(&name, op).await?;
            op = parts.status.lock_op(&name, Operation::Run, OP_WAIT).await?;
        }
        self.check_free(&name, prepared.replace).await?;
        let claim = ClaimId::random();
        let there = parts.status.read(&name).await?;
        let is_new = there.companion.is_none()
            && there.status.is_none()
            && parts.state.read_run_config(&name).await?.is_none();
        if is_new {
            if let Err(error) = self.save_new(&prepared, &claim, &op).await {
                // What fails before it is saved leaves nothing; should this fail too, the journal knows.
                if parts
                    .state
                    .read_run_config(&name)
                    .await
                    .is_ok_and(|config| config.is_none())
                {
                    parts.status.remove(&name, op).await?;
                }
                return Err(error);
            }
        } else {
            self.save_over(&prepared, &claim, &op).await?;
        }
        let owner = parts.status.acquire_owner(&name).await?;
        Ok(Launch {
            name,
            claim,
            config: prepared.config,
            listener: prepared.listener,
            owner,
            op,
        })
    }

    async fn save_new(&self, prepared: &Prepared, claim: &ClaimId, op: &OpGuard) -> Result<()> {
        let parts = &self.parts;
        let name = &prepared.name;
        let mut companion = Companion::new(claim.clone(), &parts.launcher_id);
        describe(prepared, &mut companion);
        companion.pending = Some(self.pending(Operation::Run, Some(&prepared.config)));
        parts.status.create(name, op, companion).await?;
        parts
            .state
            .create_run_config_under(name, &prepared.config, keep(op))
            .await?;
        self.committed(prepared, op).await
    }

    /// Over a workload that failed, or that is replaced: what ran of it is gone before its configuration changes.
    async fn save_over(&self, prepared: &Prepared, claim: &ClaimId, op: &OpGuard) -> Result<()> {
        let parts = &self.parts;
        let name = &prepared.name;
        let old = parts.state.read_run_config(name).await?;
        self.end(name, op, old.as_ref(), crate::StopOptions::default())
            .await?;
        let snapshot = parts.status.read(name).await?;
        let recorded = snapshot.companion.and_then(|companion| companion.runtime);
        journal::remove_instance(
            parts,
            name,
            recorded.as_ref().map(|runtime| &runtime.kind),
            old.as_ref(),
        )
        .await?;
        let mut companion = Companion::new(claim.clone(), &parts.launcher_id);
        describe(prepared, &mut companion);
        companion.pending = Some(self.pending(Operation::Run, Some(&prepared.config)));
        let change = Box::new(move |draft: &mut Draft| {
            companion.revision = draft.companion.revision;
            draft.companion = companion;
        });
        parts.status.update(name, Authority::Verb(op), change).await?;
        parts
            .state
            .write_run_config_under(name, &prepared.config, keep(op))
            .await?;
        self.committed(prepared, op).await
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
        pending.config_hash = config.map(journal::config_hash);
        pending
    }

    async fn committed(&self, prepared: &Prepared, op: &OpGuard) -> Result<()> {
        let change = Box::new(|draft: &mut Draft| {
            draft.status.process_id = 0;
            draft.set_status(WorkloadStatus::Starting, "");
        });
        self.parts
            .status
            .update(&prepared.name, Authority::Verb(op), change)
            .await?;
        Ok(())
    }
}

/// What the user must know about isolation, or a refusal where it was required and cannot be had.
pub(crate) fn isolation(
    name: &WorkloadName,
    config: &RunConfig,
    runtime: &dyn Runtime,
) -> Result<Option<String>> {
    if runtime.capabilities().network_isolation {
        return Ok(None);
    }
    if config.requires_isolation() {
        return Err(Error::Unsupported {
            what: "network isolation".into(),
            detail: format!(
                "runtime {} cannot enforce what --isolate-network or the permission profile asks for",
                runtime.kind()
            ),
        });
    }
    Ok(config.isolate_network.then(|| {
        format!(
            "the network of \"{name}\" is not isolated: runtime {} cannot do that yet",
            runtime.kind()
        )
    }))
}

/// Refuses configurations that ask for what is not built, and those that say what means nothing.
pub(crate) fn check_honoured(config: &RunConfig) -> Result<()> {
    thv_core::enforcement::check(config).map_err(|refusal| {
        let what = refusal.keys().collect::<Vec<_>>().join(", ");
        let detail = refusal.to_string();
        if refusal.is_invalid() {
            Error::Invalid { what, detail }
        } else {
            Error::Unsupported { what, detail }
        }
    })
}

fn describe(prepared: &Prepared, companion: &mut Companion) {
    companion.desired = Desired::Running;
    companion.runtime = prepared
        .runtime
        .as_ref()
        .map(|runtime| runtime.kind().clone().into());
    companion.resolved.clone_from(&prepared.resolved);
    companion.set_thv_section(&prepared.config);
}
