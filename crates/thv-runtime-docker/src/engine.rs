//! One engine: found lazily, remembered, asked for its version.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde::de::DeserializeOwned;
use thv_runtime::{Error, Result, RuntimeKind};
use tokio::sync::{Mutex, MutexGuard};

use crate::address::Address;
use crate::attach::Attachments;
use crate::connection::Route;
use crate::discovery::{Candidate, Disk, discover};
use crate::entries::Entries;
use crate::error::{EngineError, NoEngine};
use crate::first_process::FirstProcesses;
use crate::helper_program::HelperProgram;
use crate::http::{Answer, Call, send};
use crate::wire::{Info, Version};
use crate::{DockerConfig, EngineInfo, Flavour, quirks};

/// The versions of the API that this crate was tried with.
const OLDEST: (u32, u32) = (1, 40);
const NEWEST: (u32, u32) = (1, 47);

/// The way to one engine. Cheap to clone; clones share what was found.
#[derive(Debug, Clone)]
pub(crate) struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: DockerConfig,
    known: RwLock<Option<Arc<EngineInfo>>>,
    /// What the known engine says it can do.
    abilities: RwLock<Option<(Arc<EngineInfo>, Arc<Info>)>>,
    /// The address that answered once: from then on no other engine is looked for, it would hold other workloads.
    pinned: RwLock<Option<Candidate>>,
    /// Held while the engine is looked for, so that callers look once: why the last search failed.
    search: Mutex<Option<NoEngine>>,
    /// How many searches ended.
    searches: AtomicU64,
    /// Held while the shared network is looked for and made.
    network: Mutex<()>,
    helper: HelperProgram,
    attachments: Attachments,
    first_processes: FirstProcesses,
}

impl Engine {
    pub(crate) fn new(config: DockerConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            known: RwLock::new(None),
            abilities: RwLock::new(None),
            pinned: RwLock::new(None),
            search: Mutex::new(None),
            searches: AtomicU64::new(0),
            network: Mutex::new(()),
            helper: HelperProgram::default(),
            attachments: Attachments::default(),
            first_processes: FirstProcesses::default(),
        }))
    }

    pub(crate) fn config(&self) -> &DockerConfig {
        &self.0.config
    }

    pub(crate) fn kind(&self) -> &RuntimeKind {
        &self.0.config.kind
    }

    /// The program that isolates networks.
    pub(crate) fn egress_helper(&self) -> Option<&std::path::Path> {
        self.0.config.egress_helper.as_deref()
    }

    /// What is known about that program.
    pub(crate) fn helper(&self) -> &HelperProgram {
        &self.0.helper
    }

    /// Which streams are taken, and which wait for who takes them.
    pub(crate) fn attachments(&self) -> &Attachments {
        &self.0.attachments
    }

    /// The processes of containers that are watched.
    pub(crate) fn first_processes(&self) -> &FirstProcesses {
        &self.0.first_processes
    }

    /// An engine's failure as the public error.
    pub(crate) fn error(&self, cause: EngineError, action: impl Into<String>) -> Error {
        cause.during(self.kind(), action).into()
    }

    /// The engine, asking it if nobody did since it was last out of reach.
    pub(crate) async fn info(&self) -> Result<Arc<EngineInfo>, EngineError> {
        if let Some(info) = self.known() {
            return Ok(info);
        }
        let before = self.0.searches.load(Ordering::Acquire);
        let mut last_failure = self.0.search.lock().await;
        if let Some(info) = self.known() {
            return Ok(info);
        }
        // Whoever waited for a search that failed does not wait for one more.
        if self.0.searches.load(Ordering::Acquire) != before
            && let Some(failure) = &*last_failure
        {
            return Err(EngineError::NoEngine(failure.clone()));
        }
        let found = self.search().await;
        *last_failure = match &found {
            Err(EngineError::NoEngine(failure)) => Some(failure.clone()),
            _ => None,
        };
        self.0.searches.fetch_add(1, Ordering::Release);
        let info = Arc::new(found?);
        tracing::debug!(place = %info.place, version = %info.version, api = %info.api_version, "engine found");
        *write(&self.0.known) = Some(Arc::clone(&info));
        Ok(info)
    }

    /// The engine, if it was asked already.
    pub(crate) fn known(&self) -> Option<Arc<EngineInfo>> {
        read(&self.0.known).clone()
    }

    /// Whether it is on another machine: its ports and folders are not those here. One that was not asked yet is taken to
    /// be here.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.known().is_some_and(|info| !info.route.address.is_here())
    }

    #[cfg(test)]
    pub(crate) fn knowing(config: DockerConfig, info: EngineInfo) -> Self {
        let engine = Self::new(config);
        *write(&engine.0.known) = Some(Arc::new(info));
        engine
    }

    fn forget(&self) {
        *write(&self.0.known) = None;
    }

    async fn search(&self) -> Result<EngineInfo, EngineError> {
        let pinned = read(&self.0.pinned).clone();
        if let Some(candidate) = pinned {
            return match self.ask_version(&candidate).await {
                Err(cause) => Err(no_engine(vec![(candidate, cause)], Vec::new())),
                answer => answer,
            };
        }
        let found = discover(&self.0.config, &Disk);
        let mut failed = Vec::new();
        for candidate in found.candidates {
            match self.ask_version(&candidate).await {
                Ok(info) => {
                    *write(&self.0.pinned) = Some(candidate);
                    return Ok(info);
                }
                Err(cause @ EngineError::Version { .. }) => return Err(cause),
                Err(cause) => failed.push((candidate, cause)),
            }
        }
        let refused = found.refused.into_iter().map(|r| (r.place, r.reason)).collect();
        Err(no_engine(failed, refused))
    }

    async fn ask_version(&self, candidate: &Candidate) -> Result<EngineInfo, EngineError> {
        let route = Route::to(&candidate.address)?;
        let told = self.ping(&route).await?;
        let supported = told
            .filter(|told| parse_api(&told.api_version).is_some_and(|api| (OLDEST..=NEWEST).contains(&api)));
        let version = match supported {
            Some(version) => version,
            None => self.ask_patiently(&route, "", "/version").await?,
        };
        let api = parse_api(&version.api_version)
            .ok_or_else(|| EngineError::Nonsense(format!("API version {:?}", version.api_version)))?;
        let least = parse_api(&version.min_api_version).unwrap_or((1, 0));
        let spoken = api.min(NEWEST);
        if api < OLDEST || least > NEWEST {
            return Err(EngineError::Version {
                engine: format!("{} to {}", version.min_api_version, version.api_version),
                needed: "1.40 to 1.47",
            });
        }
        let is_podman = version
            .components
            .iter()
            .flatten()
            .any(|c| c.name.to_lowercase().contains("podman"));
        let api_version = format!("{}.{}", spoken.0, spoken.1);
        // Known before anybody asks what it can do.
        let rootless = if is_podman {
            let prefix = format!("/v{api_version}");
            quirks::is_rootless(&self.ask_patiently(&route, &prefix, "/info").await?)
        } else {
            false
        };
        Ok(EngineInfo {
            place: candidate.address.to_string(),
            route,
            chosen_by: candidate.from.clone(),
            flavour: match candidate.flavour {
                _ if is_podman => Flavour::Podman,
                Flavour::Unknown => Flavour::Docker,
                told => told,
            },
            rootless,
            version: version.version,
            api_version,
        })
    }

    /// Whether the engine is there at all, which it says at once, and what it says of itself by the way.
    async fn ping(&self, route: &Route) -> Result<Option<Version>, EngineError> {
        let limit = self.0.config.connect_timeout;
        match send(route, "", Call::get("/_ping"), limit, Some(limit)).await {
            Ok(answer) => Ok(quirks::version_in_ping(answer.headers())),
            Err(EngineError::Status { .. }) => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// GET, of an engine that is there, of what it may have to look up first: it runs a few programs for each of these, which
    /// takes Docker milliseconds, and Podman seconds on a busy machine.
    async fn ask_patiently<T: DeserializeOwned>(
        &self,
        route: &Route,
        prefix: &str,
        path: &str,
    ) -> Result<T, EngineError> {
        let config = &self.0.config;
        let patience = Some(config.call_timeout);
        let answer = send(route, prefix, Call::get(path), config.connect_timeout, patience).await?;
        answer.json().await
    }

    /// Sends a call; the engine may take the configured time to answer.
    pub(crate) async fn call(
        &self,
        make: impl Fn() -> Result<Call, EngineError>,
    ) -> Result<Answer, EngineError> {
        self.call_within(self.0.config.call_timeout, make).await
    }

    /// One at a time in this process: networks of the same name are trouble on some engines.
    pub(crate) async fn making_network(&self) -> MutexGuard<'_, ()> {
        self.0.network.lock().await
    }

    /// How long an engine may take to answer.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.0.config.call_timeout
    }

    /// Sends a call that the engine answers after `work`.
    pub(crate) async fn long_call(
        &self,
        work: Duration,
        make: impl Fn() -> Result<Call, EngineError>,
    ) -> Result<Answer, EngineError> {
        self.call_within(self.0.config.call_timeout.saturating_add(work), make)
            .await
    }

    /// Sends a call that must be answered within `limit`. A socket that does not accept is looked at once more from the
    /// beginning: nothing was sent yet.
    pub(crate) async fn call_within(
        &self,
        limit: Duration,
        make: impl Fn() -> Result<Call, EngineError>,
    ) -> Result<Answer, EngineError> {
        let mut asked_anew = self.known().is_none();
        loop {
            let info = self.info().await?;
            let prefix = format!("/v{}", info.api_version);
            match send(
                &info.route,
                &prefix,
                make()?,
                self.0.config.connect_timeout,
                Some(limit),
            )
            .await
            {
                // Certificates may have been renewed.
                Err(cause @ (EngineError::Connect { .. } | EngineError::Tls { .. })) => {
                    self.forget();
                    if asked_anew {
                        return Err(cause);
                    }
                    asked_anew = true;
                }
                Err(cause @ EngineError::Broken(_)) => {
                    // It may come back as another version.
                    self.forget();
                    return Err(cause);
                }
                answer => return answer,
            }
        }
    }

    /// What the engine can do; asked once as long as it stays in reach.
    pub(crate) async fn abilities(&self) -> Result<Arc<Info>, EngineError> {
        let engine = self.info().await?;
        if let Some((of, abilities)) = &*read(&self.0.abilities)
            && Arc::ptr_eq(of, &engine)
        {
            return Ok(Arc::clone(abilities));
        }
        let abilities: Arc<Info> = Arc::new(self.get("/info").await?);
        *write(&self.0.abilities) = Some((engine, Arc::clone(&abilities)));
        Ok(abilities)
    }

    /// GET, as JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, EngineError> {
        self.call(|| Ok(Call::get(path))).await?.json().await
    }

    /// GET of a list.
    pub(crate) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Entries<T>, EngineError> {
        self.call(|| Ok(Call::get(path))).await?.list().await
    }

    /// GET, as JSON; `None` where the engine knows no such thing.
    pub(crate) async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, EngineError> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(cause) if cause.is_not_found() => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// POST without a body, for its effect.
    pub(crate) async fn post(&self, path: &str) -> Result<(), EngineError> {
        self.call(|| Ok(Call::post(path))).await?.bytes().await.map(drop)
    }
}

fn no_engine(failed: Vec<(Candidate, EngineError)>, refused: Vec<(String, String)>) -> EngineError {
    let is_denial = |cause: &EngineError| matches!(cause, EngineError::Connect { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied);
    let denied: Vec<_> = failed
        .iter()
        .filter(|(_, cause)| is_denial(cause))
        .filter_map(|(candidate, _)| match &candidate.address {
            Address::Socket(path) => Some(path.clone()),
            Address::Tcp { .. } => None,
        })
        .collect();
    let distrusted = failed
        .iter()
        .filter(|(_, cause)| matches!(cause, EngineError::Tls { .. }))
        .count();
    let all_denied = !failed.is_empty() && denied.len() + distrusted == failed.len();
    let mut tried: Vec<_> = failed
        .into_iter()
        .map(|(candidate, cause)| {
            let why = match cause {
                EngineError::Connect { source, .. } => source.to_string(),
                EngineError::Tls { reason, .. } => reason,
                other => other.to_string(),
            };
            (format!("{} from {}", candidate.address, candidate.from), why)
        })
        .collect();
    tried.extend(refused);
    EngineError::NoEngine(NoEngine {
        tried,
        denied,
        all_denied,
    })
}

/// `1.45` as numbers.
pub(crate) fn parse_api(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

// A poisoned lock guards plain values that are replaced whole: they are never half-written.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use thv_runtime::Error;

    use super::*;

    fn failed_with(kinds: &[std::io::ErrorKind]) -> Error {
        let failed = kinds.iter().enumerate().map(|(number, &kind)| {
            let place = Address::Socket(format!("/run/engine{number}.sock").into());
            let candidate = Candidate {
                address: place.clone(),
                flavour: Flavour::Docker,
                from: "DOCKER_HOST".to_owned(),
            };
            let source = kind.into();
            (candidate, EngineError::Connect { place, source })
        });
        let refused = vec![("/elsewhere".to_owned(), "no such file".to_owned())];
        no_engine(failed.collect(), refused)
            .during(&"docker".into(), "ping")
            .into()
    }

    #[test]
    fn each_place_that_was_tried_is_named_with_its_reason() {
        let error = failed_with(&[ErrorKind::ConnectionRefused]);
        assert!(error.is_retryable());
        let text = error.to_string();
        for part in [
            "/run/engine0.sock from DOCKER_HOST (connection refused)",
            "/elsewhere (no such file)",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn access_is_denied_only_if_every_socket_refuses() {
        let error = failed_with(&[ErrorKind::PermissionDenied, ErrorKind::PermissionDenied]);
        assert_eq!(error.code(), "denied");
        let sockets = "access to /run/engine0.sock and /run/engine1.sock";
        for part in [sockets, "usermod -aG docker"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        // The other engine may be starting.
        let error = failed_with(&[ErrorKind::PermissionDenied, ErrorKind::ConnectionRefused]);
        assert!(error.is_retryable(), "{error:?}");
        for part in [
            "engine1.sock from DOCKER_HOST (connection refused)",
            "access to /run/engine0.sock",
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(failed_with(&[]).is_retryable());
    }
}
