//! What a manager is made of, shared by its verbs and its supervisors.

use std::num::NonZeroUsize;
use std::sync::Arc;

use thv_core::{Clock, Dirs, Env, RunConfig, WorkloadName};
use thv_files::Parsed;
use thv_image::ImageGate;
use thv_process::Processes;
use thv_proxy::MiddlewareFactory;
use thv_runtime::{Runtime, RuntimeKind, Runtimes};
use thv_secrets::SecretProvider;
use thv_state::{Keep, StateStore, StateStoreExt};
use thv_status::{OpGuard, Snapshot, StatusManager};

use crate::tuning::Tuning;
use crate::{Error, Files, Ports, PullWatcher, Remotes, Result};

/// The name that the command line gives itself as a launcher.
pub(crate) const COMMAND_LINE: &str = "thv";

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) runtimes: Runtimes,
    pub(crate) state: Arc<dyn StateStore>,
    /// The run configurations that were listed last.
    pub(crate) known_configs: Arc<Parsed<RunConfig>>,
    pub(crate) status: Arc<dyn StatusManager>,
    pub(crate) processes: Arc<dyn Processes>,
    /// What the environment of a server may have: never the system's own secrets.
    pub(crate) secrets: Arc<dyn SecretProvider>,
    /// None: images run as the engine gives them.
    pub(crate) images: Option<Arc<dyn ImageGate>>,
    /// Who is told of pulls.
    pub(crate) pulls: Option<Arc<dyn PullWatcher>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) ports: Arc<dyn Ports>,
    pub(crate) remotes: Arc<dyn Remotes>,
    pub(crate) dirs: Dirs,
    pub(crate) env: Env,
    pub(crate) tuning: Tuning,
    pub(crate) launcher_id: String,
    /// Layers of an application's own.
    pub(crate) middleware: MiddlewareFactory,
    /// Of a proxy before a server that speaks HTTP.
    pub(crate) proxy_threads: NonZeroUsize,
}

impl Parts {
    /// The run configuration of `name` with ToolHive's load-time repairs, or `NotFound`.
    pub(crate) async fn config(&self, name: &WorkloadName) -> Result<RunConfig> {
        self.find_config(name).await?.ok_or_else(|| Error::NotFound {
            name: name.to_string(),
        })
    }

    /// The run configuration of `name` with ToolHive's load-time repairs, if there is one.
    pub(crate) async fn find_config(&self, name: &WorkloadName) -> Result<Option<RunConfig>> {
        Ok(self.state.read_run_config(name).await?.map(RunConfig::normalized))
    }

    /// What is saved of `name`. A configuration that cannot be used is no reason not to stop or remove its workload.
    pub(crate) async fn saved(&self, name: &WorkloadName) -> Result<Saved> {
        match self.find_config(name).await {
            Ok(Some(config)) => Ok(Saved::Config(Box::new(config))),
            Ok(None) => Ok(Saved::Nothing),
            Err(Error::State(error @ thv_state::Error::Invalid { .. })) => Ok(Saved::Damaged(error)),
            Err(error) => Err(error),
        }
    }

    /// The runtime of a workload: the one that its record names; without a record, the one that has its instance;
    /// otherwise the one that its configuration asks for. `None` for remote workloads.
    pub(crate) async fn runtime_of(
        &self,
        name: &WorkloadName,
        recorded: Option<&RuntimeKind>,
        config: Option<&RunConfig>,
    ) -> Result<Option<Arc<dyn Runtime>>> {
        if config.is_some_and(RunConfig::is_remote) {
            return Ok(None);
        }
        if let Some(kind) = recorded {
            return Ok(Some(self.runtimes.get(kind)?));
        }
        let mut unavailable = None;
        for kind in self.runtimes.kinds() {
            let runtime = self.runtimes.get(kind)?;
            match runtime.inspect(name).await {
                Ok(Some(_)) => return Ok(Some(runtime)),
                Ok(None) => {}
                Err(error) => unavailable = Some(error),
            }
        }
        let Some(config) = config else {
            // Nobody can say whether an instance is left where a runtime did not answer.
            return unavailable.map_or(Ok(None), |error| Err(error.into()));
        };
        self.runtime_for_image(&config.image).map(Some)
    }

    /// As [`runtime_of`](Self::runtime_of), by the record of `snapshot`.
    pub(crate) async fn runtime_in(
        &self,
        name: &WorkloadName,
        snapshot: &Snapshot,
        config: Option<&RunConfig>,
    ) -> Result<Option<Arc<dyn Runtime>>> {
        let companion = snapshot.companion.as_ref();
        let recorded = companion.and_then(|companion| companion.runtime.as_ref());
        self.runtime_of(name, recorded.map(|runtime| &runtime.kind), config)
            .await
    }

    /// The runtime for something that no record speaks of.
    pub(crate) fn runtime_for_image(&self, image: &str) -> Result<Arc<dyn Runtime>> {
        const LOCAL: [&str; 3] = ["exec://", "uvx://", "npx://"];
        if LOCAL.iter().any(|scheme| image.starts_with(scheme)) {
            return Ok(self.runtimes.get(&"local".into())?);
        }
        let kind = self.runtimes.default_kind().ok_or_else(|| Error::Invalid {
            what: "runtime".into(),
            detail: "no runtime is configured; only remote workloads can run".into(),
        })?;
        Ok(self.runtimes.get(kind)?)
    }
}

/// What a write of documents keeps: the lock that it is made under.
pub(crate) fn keep(op: &OpGuard) -> Keep {
    Keep::until_done(op.held())
}

/// What is saved of a workload.
#[derive(Debug)]
pub(crate) enum Saved {
    /// There is no configuration.
    Nothing,
    /// There is one that cannot be used.
    Damaged(thv_state::Error),
    /// There is one, with ToolHive's load-time repairs.
    Config(Box<RunConfig>),
}

impl Saved {
    pub(crate) fn config(&self) -> Option<&RunConfig> {
        match self {
            Self::Config(config) => Some(config),
            Self::Nothing | Self::Damaged(_) => None,
        }
    }
}
