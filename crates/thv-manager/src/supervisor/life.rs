//! One life of a server: deploy, connect, wait for `initialize`, and watch until it ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use thv_core::{RunConfig, TransportType, WorkloadStatus};
use thv_proxy::Suspended;
use thv_runtime::{Deployment, Endpoint, EventFilter, Expect, InstanceRef, Runtime, StopOptions};
use thv_status::ResolvedImage;
use tokio::sync::watch;
use tokio::time::Instant;

use super::door::Door;
use super::fate::{Events, Fate, Told, gone};
use super::health::Health;
use super::last_lines::{self, Mark};
use super::ownership::Standing;
use super::{Left, Supervisor, reason_of};
use crate::deploy_spec::{Surroundings, deploy_spec};
use crate::image;
use crate::launcher::{LaunchState, cut_line};
use crate::proxy::{self, Backend};
use crate::{Error, Result};

/// How long the end of a server may take to be told after its streams ended.
const LAST_WORD: Duration = Duration::from_secs(2);
/// The same where it is still connected, and more likely lives.
const WORD: Duration = Duration::from_millis(500);

/// How long a server may take to answer `initialize`.
pub(super) const READINESS: Duration = Duration::from_secs(300);

pub(super) enum LifeEnd {
    /// The supervisor was told to end.
    Told { instance: Left },
    /// Another claim is recorded.
    ClaimLost,
    /// The server ended or never answered.
    Over {
        reason: String,
        last_lines: Vec<String>,
        instance: Left,
        may_retry: bool,
        /// How long it answered clients.
        served: Duration,
    },
}

/// What is known of a life when it begins.
struct Beginning {
    /// The configuration, by its hash.
    hash: String,
    /// Whether an earlier life of that configuration was ready.
    was_ready: bool,
    /// Where its log begins.
    log: Mark,
}

/// What became of a server that was to begin.
enum Begun {
    Ready,
    Over(String),
    ClaimLost,
}

/// A server that somebody has paused.
struct Paused {
    /// How it is resumed.
    how: String,
    /// Calls fail at once.
    _suspended: Suspended,
}

impl Paused {
    fn of(backend: &Backend, how: String) -> Self {
        Self {
            _suspended: backend.suspend(&how),
            how,
        }
    }
}

impl Supervisor {
    pub(super) async fn live(&self, config: &RunConfig, door: &Door) -> Result<LifeEnd> {
        let hash = thv_status::config_hash(config);
        match self.standing().await? {
            Standing::Run => {}
            Standing::Stop => return Ok(LifeEnd::Told { instance: None }),
            Standing::Lost => return Ok(LifeEnd::ClaimLost),
        }
        let Some(companion) = self.snapshot().await?.companion else {
            return Ok(LifeEnd::ClaimLost);
        };
        let was_ready = companion.ready.as_deref() == Some(hash.as_str());
        if config.is_remote() {
            return self.live_remote(config, door, hash, was_ready).await;
        }
        let kind = companion.runtime.as_ref().map(|runtime| runtime.kind.clone());
        let resolved = companion.resolved.clone();
        let runtime = match self
            .parts
            .runtime_of(&self.name, kind.as_ref(), Some(config))
            .await
        {
            Ok(Some(runtime)) => runtime,
            Ok(None) => {
                return Err(Error::NotFound {
                    name: self.name.to_string(),
                });
            }
            Err(error) => return Ok(over(&error, None, was_ready)),
        };
        let log = self.server_log_path();
        let beginning = Beginning {
            hash,
            was_ready,
            log: Mark::take(&*runtime, &self.name, log).await,
        };
        self.live_instance(config, door, runtime, resolved.as_ref(), beginning)
            .await
    }

    async fn live_instance(
        &self,
        config: &RunConfig,
        door: &Door,
        runtime: Arc<dyn Runtime>,
        resolved: Option<&ResolvedImage>,
        beginning: Beginning,
    ) -> Result<LifeEnd> {
        let was_ready = beginning.was_ready;
        // Subscribed before the deployment, so that no end of it is missed.
        let events = match self.subscribe(&*runtime).await {
            Ok(events) => events,
            Err(error) => return Ok(over(&error, None, was_ready)),
        };
        // Before the secrets are read: what changes from here on is told.
        let revisions = self.secret_revisions(config).await;
        let deployment = match Box::pin(self.deploy(config, &*runtime, resolved)).await {
            Ok(Some(deployment)) => deployment,
            Ok(None) => return Ok(LifeEnd::ClaimLost),
            Err(error) => {
                let left = self.left_by(runtime, &error).await;
                return Ok(over(&error, left, was_ready));
            }
        };
        let id = deployment.instance.id.clone();
        let left: Left = Some((runtime.clone(), id.clone()));
        let isolated = deployment.instance.network_isolated;
        thv_process::crash_point!(ProxyDeployed);
        // From here on an error has an instance to take along.
        let engine = runtime.identity().await.unwrap_or_default();
        let standing = match self.write_instance(id.clone(), engine, isolated, revisions).await {
            Ok(true) => self.standing().await,
            Ok(false) => Ok(Standing::Lost),
            Err(error) => Err(error),
        };
        thv_process::crash_point!(ProxyInstanceRecorded);
        match standing {
            Ok(Standing::Run) => {}
            Ok(Standing::Stop) => return Ok(LifeEnd::Told { instance: left }),
            Ok(Standing::Lost) => {
                self.undo(&*runtime, &deployment).await?;
                return Ok(LifeEnd::ClaimLost);
            }
            Err(error) => return Ok(over(&error, left, was_ready)),
        }
        let which = InstanceRef::exact(self.name.clone(), id.clone());
        let backend = match self.connect(config, &*runtime, &which, deployment.endpoint).await {
            Ok(backend) => backend,
            Err(error) => {
                self.server_log.heard().await;
                let last_lines = last_lines::read(&*runtime, &which, &beginning.log).await;
                // A server that ended explains itself better than the connection that could not be made.
                let reason = match &left {
                    Some((_, id)) => gone(&*runtime, &self.name, id).await,
                    None => None,
                };
                let reason = reason.unwrap_or_else(|| reason_of(&error));
                return Ok(LifeEnd::Over {
                    reason,
                    last_lines,
                    instance: left,
                    may_retry: was_ready,
                    served: Duration::ZERO,
                });
            }
        };
        door.open(backend.service());
        thv_process::crash_point!(ProxyConnected);
        let fate = Fate::of(runtime.clone(), self.name.clone(), id, events);
        self.watch(&*runtime, door, &backend, fate, left, beginning).await
    }

    /// Waits for `initialize`, then until the server ends or the supervisor is told to.
    async fn watch(
        &self,
        runtime: &dyn Runtime,
        door: &Door,
        backend: &Backend,
        mut fate: Fate,
        left: Left,
        beginning: Beginning,
    ) -> Result<LifeEnd> {
        let Beginning { hash, was_ready, log } = beginning;
        let mut paused = None;
        let begun = tokio::select! {
            biased;
            () = self.signal.stop.cancelled() => return Ok(self.told(door, backend, left).await),
            begun = Box::pin(self.until_ready(runtime, backend, &mut fate, &mut paused)) => begun,
        };
        match begun {
            Ok(Begun::Ready) => {}
            Ok(Begun::Over(reason)) => {
                return Ok(self.over(reason, left, &log, was_ready, Duration::ZERO).await);
            }
            Ok(Begun::ClaimLost) => return Ok(LifeEnd::ClaimLost),
            Err(error) => return Ok(over(&error, left, was_ready)),
        }
        let mut written = self.write_ready(hash.clone()).await;
        if let (Ok(true), Some(Paused { how, .. })) = (&written, &paused) {
            written = self.write_status(WorkloadStatus::Unhealthy, how).await;
        }
        match written {
            Ok(true) => {}
            Ok(false) => return Ok(LifeEnd::ClaimLost),
            Err(error) => return Ok(over(&error, left, was_ready)),
        }
        thv_process::crash_point!(ProxyReady);
        let ready = Instant::now();
        self.launch.send_replace(LaunchState::Ready);
        tracing::info!("the workload is ready");
        self.rest();
        let mut looking = Box::pin(async {
            Box::pin(self.release_kept_image()).await;
            self.look_after(runtime, backend, hash.clone()).await
        });
        let how = loop {
            let told = tokio::select! {
                biased;
                () = self.signal.stop.cancelled() => return Ok(self.told(door, backend, left).await),
                told = async {
                    tokio::select! {
                        biased;
                        told = fate.next() => told,
                        // A server that ended explains itself better than the streams that ended with it.
                        how = backend.closed() => {
                            Told::Over(tokio::time::timeout(LAST_WORD, fate.over()).await.unwrap_or(how))
                        }
                    }
                } => told,
                lost = &mut looking => match lost {
                    Ok(()) => return Ok(LifeEnd::ClaimLost),
                    Err(error) => return Ok(over(&error, left, true)),
                },
            };
            let written = match told {
                Told::Over(how) => break how,
                Told::Ending => self.write_dead().await,
                Told::Paused(how) => {
                    drop(paused.replace(Paused::of(backend, how.clone())));
                    self.write_status(WorkloadStatus::Unhealthy, &how).await
                }
                Told::Runs => {
                    drop(paused.take());
                    self.write_back(backend, &hash).await
                }
            };
            match written {
                Ok(true) => {}
                Ok(false) => return Ok(LifeEnd::ClaimLost),
                Err(error) => return Ok(over(&error, left, true)),
            }
        };
        Ok(self.over(how, left, &log, true, ready.elapsed()).await)
    }

    /// Waits until a server that runs has answered `initialize`. Time that it is paused does not count.
    async fn until_ready(
        &self,
        runtime: &dyn Runtime,
        backend: &Backend,
        fate: &mut Fate,
        paused: &mut Option<Paused>,
    ) -> Result<Begun> {
        let starting = async |context: &str| self.write_status(WorkloadStatus::Starting, context).await;
        let looking = self.look_after_engine(runtime, backend, WorkloadStatus::Starting, || starting(""));
        let (tell, mut unready) = watch::channel(String::new());
        let (mut ready, mut looking) = (pin!(backend.ready(&tell)), pin!(looking));
        let mut patience = pin!(tokio::time::sleep(READINESS));
        let (failure, patience) = loop {
            let written = tokio::select! {
                biased;
                told = fate.next() => match told {
                    Told::Over(how) => return Ok(Begun::Over(how)),
                    Told::Ending => true,
                    Told::Paused(how) => {
                        *paused = Some(Paused::of(backend, how.clone()));
                        starting(&how).await?
                    }
                    Told::Runs => {
                        *paused = None;
                        patience.as_mut().reset(Instant::now() + READINESS);
                        let why = unready.borrow().clone();
                        starting(&why).await?
                    }
                },
                answer = &mut ready => match answer {
                    Ok(_) => return Ok(Begun::Ready),
                    // Its connection has ended.
                    Err(error) if error.is_retryable() => break (error.to_string(), LAST_WORD),
                    Err(error) => break (error.to_string(), WORD),
                },
                Ok(()) = unready.changed(), if paused.is_none() => {
                    let why = unready.borrow_and_update().clone();
                    starting(&why).await?
                }
                () = &mut patience, if paused.is_none() => {
                    break (format!("it did not answer initialize within {} s", READINESS.as_secs()), WORD);
                }
                lost = &mut looking => return lost.map(|()| Begun::ClaimLost),
            };
            if !written {
                return Ok(Begun::ClaimLost);
            }
        };
        // A server that ended explains itself better than the connection that broke with it.
        let how = tokio::time::timeout(patience, fate.over()).await;
        Ok(Begun::Over(how.unwrap_or(failure)))
    }

    /// Says that the server serves again, unless it still stands still for another reason. `false`: the claim is lost.
    async fn write_back(&self, backend: &Backend, hash: &str) -> Result<bool> {
        if backend.is_suspended() {
            return Ok(true);
        }
        self.write_ready(hash.to_owned()).await
    }

    /// Looks at a server that speaks HTTP as long as it lives: `unhealthy` while it does not answer, `running` when it
    /// does again. Its proxy goes on. Returns when the claim is lost.
    async fn look_after(&self, runtime: &dyn Runtime, backend: &Backend, hash: String) -> Result<()> {
        if !backend.is_http() {
            // Its streams tell, as long as its engine carries them.
            let back = || self.write_back(backend, &hash);
            return self
                .look_after_engine(runtime, backend, WorkloadStatus::Unhealthy, back)
                .await;
        }
        let health = Health {
            enabled: true,
            ..self.parts.tuning.health.clone()
        };
        loop {
            let Some(error) = self.healthy(backend, &health).await else {
                // Told to end: whoever called hears it too.
                return std::future::pending().await;
            };
            let context = format!("Health check failed: {}", super::causes(&error));
            // Of one that stands still the reason is written.
            if !backend.is_suspended() && !self.write_status(WorkloadStatus::Unhealthy, &context).await? {
                return Ok(());
            }
            while backend.reachable(health.timeout).await.is_err() {
                self.parts.processes.sleep(health.interval).await;
            }
            if !self.write_back(backend, &hash).await? {
                return Ok(());
            }
            tracing::info!("the server answers again");
        }
    }

    /// Drains the proxy while the server still answers, then closes the server's input.
    pub(super) async fn told(&self, door: &Door, backend: &Backend, left: Left) -> LifeEnd {
        backend.end_streams();
        // Clients have no longer than the server itself.
        door.close_within(self.grace_now().await).await;
        backend.shutdown().await;
        LifeEnd::Told { instance: left }
    }

    async fn over(
        &self,
        reason: String,
        left: Left,
        log: &Mark,
        may_retry: bool,
        served: Duration,
    ) -> LifeEnd {
        let lines = match &left {
            Some((runtime, id)) => {
                let which = InstanceRef::exact(self.name.clone(), id.clone());
                self.server_log.heard().await;
                last_lines::read(&**runtime, &which, log).await
            }
            None => Vec::new(),
        };
        LifeEnd::Over {
            reason,
            last_lines: lines,
            instance: left,
            may_retry,
            served,
        }
    }

    /// What a deployment that failed left all the same, or found and did not replace: its answer may have been lost.
    async fn left_by(&self, runtime: Arc<dyn Runtime>, error: &Error) -> Left {
        if matches!(
            error,
            Error::AnotherInstallation { .. } | Error::Runtime(thv_runtime::Error::Conflict { .. })
        ) {
            // Somebody else's.
            return None;
        }
        let instance = runtime.inspect(&self.name).await.ok()??;
        crate::owner::check(&*self.parts.status, &instance, false)
            .await
            .ok()?;
        Some((runtime, instance.id))
    }

    /// Brings the instance up, or says that the claim was lost (`None`).
    async fn deploy(
        &self,
        config: &RunConfig,
        runtime: &dyn Runtime,
        resolved: Option<&ResolvedImage>,
    ) -> Result<Option<Deployment>> {
        let found = runtime.inspect(&self.name).await?;
        if let Some(instance) = &found {
            crate::owner::check(&*self.parts.status, instance, false).await?;
            if config.transport == TransportType::Stdio && instance.state.is_up() {
                // It outlived its proxy: what it still has to say belongs to sessions that are gone.
                if self.standing().await? == Standing::Lost {
                    return Ok(None);
                }
                let which = InstanceRef::exact(self.name.clone(), instance.id.clone());
                runtime.stop(&which, StopOptions::default()).await?;
                thv_process::crash_point!(ProxyLeftoverStopped);
            }
        }
        let image = match resolved {
            Some(resolved) => Some(
                image::to_deploy(
                    runtime.images(),
                    self.parts.images.as_deref(),
                    resolved,
                    &config.image,
                )
                .await?,
            ),
            None => None,
        };
        let hidden = crate::request::hidden_paths(&self.parts, config).await?;
        for path in &hidden {
            tracing::info!(
                path = path.target,
                folder = path.is_folder,
                "hidden from the server"
            );
        }
        let mut spec = deploy_spec(
            &self.name,
            config,
            Surroundings {
                capabilities: &runtime.capabilities(),
                image: image.as_deref(),
                secrets: self.secrets(config).await?,
                hidden,
                owner: &self.parts.status.owner_id().await?,
                expect: found.map_or(Expect::Absent, |instance| Expect::Instance(instance.id)),
            },
        )?;
        if self.standing().await? == Standing::Lost {
            return Ok(None);
        }
        let deployment = runtime.deploy(&spec).await?;
        let Some(id) = image::moved(resolved, &deployment.instance) else {
            return Ok(Some(deployment));
        };
        // The tag was moved in between: what was resolved is what runs.
        spec.image = id;
        spec.expect = Expect::Instance(deployment.instance.id.clone());
        Ok(Some(runtime.deploy(&spec).await?))
    }

    async fn connect(
        &self,
        config: &RunConfig,
        runtime: &dyn Runtime,
        which: &InstanceRef,
        endpoint: Endpoint,
    ) -> Result<Backend> {
        if let Endpoint::Http(address) = endpoint {
            return proxy::http(&self.parts.middleware, config, &self.parts.tuning, address);
        }
        let mut streams = runtime.attach(which).await?;
        if let Some(stderr) = streams.stderr.take() {
            self.server_log
                .listen(stderr, self.server_log_path(), self.parts.tuning.log_rotation)
                .await;
        }
        proxy::stdio(
            &self.parts.middleware,
            config,
            self.claim.as_str(),
            &self.parts.tuning,
            streams,
        )
    }

    async fn subscribe(&self, runtime: &dyn Runtime) -> Result<Option<Events>> {
        if !runtime.capabilities().events {
            return Ok(None);
        }
        Ok(Some(runtime.events(EventFilter::of(self.name.clone())).await?))
    }
}

fn over(error: &Error, instance: Left, was_ready: bool) -> LifeEnd {
    let last_lines = match error {
        Error::Runtime(thv_runtime::Error::StartFailed { last_lines, .. }) => {
            last_lines.iter().map(|line| cut_line(line)).collect()
        }
        _ => Vec::new(),
    };
    LifeEnd::Over {
        reason: reason_of(error),
        last_lines,
        instance,
        may_retry: was_ready || error.is_retryable(),
        served: Duration::ZERO,
    }
}
