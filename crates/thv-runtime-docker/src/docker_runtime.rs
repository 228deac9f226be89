//! The runtime.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use thv_core::WorkloadName;
use thv_runtime::{
    About, Capabilities, DeploySpec, Deployment, EngineIdentity, Error, EventFilter, Images, Instance,
    InstanceRef, LogLine, LogOptions, Result, Runtime, RuntimeEvent, RuntimeKind, Stdio, StopOptions,
};

use crate::connection::Route;
use crate::engine::Engine;
use crate::images::EngineImages;
use crate::turns::Turns;
use crate::{DockerConfig, Flavour, isolation, lookup, quirks};

/// Instances that are containers of Docker, Podman or a compatible engine.
///
/// Making one touches nothing: the engine is looked for at the first call, and again after it was out of reach. The
/// socket that answered once is kept; another engine would hold other workloads.
///
/// # Cancel-safety
///
/// A dropped `deploy` goes on in the background and takes back what it did; a dropped `stop` or `remove` is finished. The
/// next `deploy`, `stop` or `remove` of the same workload waits for that; a `remove`, or a `stop` with less time to give,
/// cuts short the grace of a stop that it waits for. Dropped streams close their connection.
#[derive(Debug, Clone)]
pub struct DockerRuntime {
    engine: Engine,
    turns: Turns,
}

/// What an engine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineInfo {
    /// Where it is: the path of its socket, or `tcp://host:port`.
    pub place: String,
    pub(crate) route: Route,
    /// What it is.
    pub flavour: Flavour,
    /// A Podman of a user other than root. Others are not asked.
    pub(crate) rootless: bool,
    /// Why it is looked for there: a variable, a context of Docker, the usual places.
    pub chosen_by: String,
    /// Its version.
    pub version: String,
    /// The version of the API that is spoken with it.
    pub api_version: String,
}

impl EngineInfo {
    /// Whether the API that is spoken is at least this one.
    pub(crate) fn speaks(&self, major: u32, minor: u32) -> bool {
        crate::engine::parse_api(&self.api_version).is_some_and(|spoken| spoken >= (major, minor))
    }
}

#[cfg(test)]
impl EngineInfo {
    /// A Docker of today at this address.
    pub(crate) fn docker(address: crate::address::Address) -> Self {
        Self {
            place: address.to_string(),
            route: Route::without_certificates(address),
            flavour: Flavour::Docker,
            rootless: false,
            chosen_by: "DOCKER_HOST".to_owned(),
            version: "26.1".to_owned(),
            api_version: "1.45".to_owned(),
        }
    }
}

impl DockerRuntime {
    /// A runtime that connects when it is first used; the engine need not be up.
    pub fn new(config: DockerConfig) -> Self {
        Self {
            engine: Engine::new(config),
            turns: Turns::default(),
        }
    }

    /// A runtime whose engine answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with every place that was tried and why; [`Error::Denied`] if one refused access.
    pub async fn connect(config: DockerConfig) -> Result<Self> {
        let runtime = Self::new(config);
        runtime.engine_info().await?;
        Ok(runtime)
    }

    /// Which engine this is.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn engine_info(&self) -> Result<EngineInfo> {
        let info = self
            .engine
            .info()
            .await
            .map_err(|e| self.engine.error(e, "find the engine"))?;
        Ok((*info).clone())
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    fn kind(&self) -> &RuntimeKind {
        self.engine.kind()
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = Capabilities::default();
        // Ports and folders of an engine elsewhere are not those here.
        let here = !self.engine.is_elsewhere();
        can.attach = true;
        can.http = here;
        can.isolation_lacks = isolation::lacks(&self.engine);
        can.network_isolation = can.isolation_lacks.is_none();
        can.memory_limit = true;
        can.cpu_limit = true;
        can.pids_limit = true;
        can.mounts = here;
        can.volumes = true;
        can.hidden_paths = here;
        can.read_only = true;
        can.networks = true;
        can.publish = here;
        can.privileged = true;
        can.events = true;
        can.logs = true;
        can.private_output = true;
        can.images = true;
        // Standard input ends with its attachment, and the server with it.
        can
    }

    fn check_name(&self, name: &WorkloadName) -> Result<()> {
        check_container_name(name.as_str()).map_err(|rule| self.invalid_name(name, rule))
    }

    fn images(&self) -> Option<Arc<dyn Images>> {
        Some(Arc::new(EngineImages(self.engine.clone())))
    }

    /// Its socket appears where one may be; one that is there is asked again soon.
    async fn may_answer(&self) {
        const MOMENT: Duration = Duration::from_secs(1);
        // Where no event tells, as of a socket that is not listened at yet.
        const AT_LAST: Duration = Duration::from_secs(10);
        let places = crate::discovery::places(self.engine.config());
        if places.is_empty() || places.iter().any(|place| place.exists()) {
            return tokio::time::sleep(MOMENT).await;
        }
        let appeared = tokio::time::timeout(AT_LAST, thv_runtime::appearance(&places)).await;
        if let Ok(Err(error)) = appeared {
            tracing::debug!(%error, "sockets of engines cannot be waited for");
            tokio::time::sleep(MOMENT).await;
        }
    }

    async fn ping(&self) -> Result<()> {
        let pinged = async {
            let answer = self.engine.call(|| Ok(crate::http::Call::get("/_ping"))).await?;
            answer.bytes().await
        };
        pinged
            .await
            .map(drop)
            .map_err(|e| self.engine.error(e, "ask whether it is there"))
    }

    async fn about(&self) -> Result<About> {
        self.ping().await?;
        let info = self.engine_info().await?;
        let mut about = About::default();
        about.product = format!("{:?}", info.flavour);
        about.version = info.version;
        about.api_version = info.api_version;
        about.place = info.place;
        about.chosen_by = info.chosen_by;
        Ok(about)
    }

    async fn identity(&self) -> Result<EngineIdentity> {
        let asked = async { Ok((self.engine.info().await?, self.engine.abilities().await?)) };
        let (info, abilities) = asked
            .await
            .map_err(|e| self.engine.error(e, "ask the engine what it is called"))?;
        let place = info.place.clone();
        let id = match quirks::own_name(&info, &abilities) {
            Some(name) => name.to_owned(),
            // Where it is, whatever that is called.
            None => {
                std::fs::canonicalize(&place).map_or_else(|_| place.clone(), |at| at.display().to_string())
            }
        };
        Ok(EngineIdentity { id, place })
    }

    async fn deploy(&self, spec: &DeploySpec) -> Result<Deployment> {
        self.check_name(&spec.name)?;
        check_container_name(&spec.instance_name).map_err(|rule| self.invalid_name(&spec.name, rule))?;
        self.capabilities().check(self.kind(), spec)?;
        crate::deploy::deploy(&self.engine, &self.turns, spec).await
    }

    async fn stop(&self, which: &InstanceRef, opts: StopOptions) -> Result<()> {
        crate::stop::stop(&self.engine, &self.turns, which, opts).await
    }

    async fn remove(&self, which: &InstanceRef) -> Result<()> {
        crate::remove::remove(&self.engine, &self.turns, which).await
    }

    async fn attach(&self, which: &InstanceRef) -> Result<Stdio> {
        crate::attach::attach(&self.engine, which).await
    }

    async fn inspect(&self, name: &WorkloadName) -> Result<Option<Instance>> {
        let found = async {
            let Some(row) = lookup::of_workload(&self.engine, name).await? else {
                return Ok(None);
            };
            let Some(found) = lookup::details(&self.engine, &row.id).await? else {
                return Ok(None);
            };
            let impaired = isolation::impaired(&self.engine, &found).await?;
            let mut instance = found.into_instance(&self.engine);
            instance.impaired = impaired;
            Ok(Some(instance))
        };
        found
            .await
            .map_err(|e| self.engine.error(e, format!("inspect workload \"{name}\"")))
    }

    async fn list(&self) -> Result<Vec<Instance>> {
        let rows = lookup::all(&self.engine)
            .await
            .map_err(|e| self.engine.error(e, "list containers"))?;
        let workloads = rows
            .into_iter()
            .filter(|row| !thv_labels::is_auxiliary(&row.labels));
        Ok(workloads.map(|row| row.into_instance(&self.engine)).collect())
    }

    async fn logs(
        &self,
        which: &InstanceRef,
        opts: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        crate::logs::logs(&self.engine, which, opts).await
    }

    async fn events(&self, filter: EventFilter) -> Result<BoxStream<'static, Result<RuntimeEvent>>> {
        crate::events::events(&self.engine, filter).await
    }
}

impl DockerRuntime {
    fn invalid_name(&self, name: &WorkloadName, rule: &str) -> Error {
        Error::InvalidName {
            name: name.clone(),
            runtime: self.kind().clone(),
            rule: rule.to_owned(),
        }
    }
}

/// Docker's rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
fn check_container_name(name: &str) -> Result<(), &'static str> {
    if name.len() < 2 {
        Err("a container's name has at least two characters")
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Err("a container's name starts with a letter or a digit")
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    {
        Err("a container's name has only letters, digits, '_', '.' and '-'")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use thv_core::{Env, TransportType};
    use thv_runtime::MountBind;

    use super::*;
    use crate::address::Address;
    use crate::tls::Material;

    #[test]
    fn an_engine_on_another_machine_gets_no_ports_and_no_folders_of_this_one() {
        let material = Material::in_context("/c".as_ref());
        let runtime_at = |host: &str| {
            let info = EngineInfo::docker(Address::tcp(host, Some(material.clone())).unwrap());
            let mut config = DockerConfig::at("/nowhere");
            config.env = Env::default();
            let engine = Engine::knowing(config, info);
            DockerRuntime {
                engine,
                turns: Turns::default(),
            }
        };
        let stdio = DeploySpec::new("fetch".parse().unwrap(), "fetch");
        let mut http = stdio.clone();
        http.transport = TransportType::StreamableHttp;
        let mut mounts = stdio.clone();
        mounts.mounts.push(MountBind {
            source: "/tmp".into(),
            target: "/tmp".to_owned(),
            read_only: true,
        });
        let refused = |runtime: &DockerRuntime, spec: &DeploySpec| {
            let refused = crate::deploy::check_reach(&runtime.engine, spec).is_err();
            assert_eq!(
                runtime.capabilities().check(runtime.kind(), spec).is_err(),
                refused
            );
            refused
        };
        let far = runtime_at("far.test");
        assert!(!refused(&far, &stdio) && refused(&far, &http) && refused(&far, &mounts));
        let near = runtime_at("127.0.0.1");
        assert!(!refused(&near, &stdio) && !refused(&near, &http) && !refused(&near, &mounts));
    }

    #[test]
    fn names_follow_dockers_rule() {
        for (name, good) in [
            ("ab", true),
            ("a", false),
            ("_ab", false),
            ("a_b.c-1", true),
            ("a/b", false),
        ] {
            assert_eq!(check_container_name(name).is_ok(), good, "{name}");
        }
    }
}
