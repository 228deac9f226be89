//! A runtime without processes.

mod faults;
mod images;
mod server;
mod state;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use thv_core::{Clock, SystemClock, TransportType, WorkloadName};
use tokio::sync::broadcast::error::RecvError;

pub use faults::Call;
pub use images::MemoryImages;
pub use server::MemoryServer;

use crate::{
    Capabilities, DeploySpec, Deployment, Endpoint, EngineIdentity, Error, EventFilter, EventKind, Images,
    Instance, InstanceRef, LogLine, LogOptions, Result, Runtime, RuntimeEvent, RuntimeKind, Stdio,
    StopOptions,
};
use server::Script;
use state::Shared;

/// A runtime whose instances live in memory, for tests and simulations.
///
/// A clone is another value over the same instances, as another process over the same engine would be. What the
/// server does is a script ([`with_server`](Self::with_server)); without one it sends each line back, as
/// `cat` does. Nothing here reads a clock for waiting but tokio's, so it runs in paused time.
///
/// Tests play the outside world: [`exit`](Self::exit) ends a server, [`pause`](Self::pause) lets it stand still,
/// [`vanish`](Self::vanish) removes an instance, [`set_down`](Self::set_down) cuts the engine off, [`fail_next`](Self::fail_next),
/// [`lose_answer`](Self::lose_answer) and [`delay`](Self::delay) disturb single calls.
///
/// ```
/// use thv_runtime::{DeploySpec, InstanceRef, MemoryRuntime, Runtime};
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = MemoryRuntime::new().with_server(|mut server| async move {
///     server.log("ready");
///     while let Some(line) = server.next_line().await {
///         server.write_line(&line.to_uppercase()).await;
///     }
///     0
/// });
/// let spec = DeploySpec::new("fetch".parse()?, "example.test/fetch:1");
/// runtime.deploy(&spec).await?;
/// let mut stdio = runtime.attach(&InstanceRef::named(spec.name.clone())).await?;
/// stdio.stdin.write_all(b"hello\n").await?;
/// let answer = BufReader::new(stdio.stdout).lines().next_line().await?;
/// assert_eq!(answer.as_deref(), Some("HELLO"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryRuntime {
    kind: RuntimeKind,
    identity: EngineIdentity,
    capabilities: Capabilities,
    script: Script,
    clock: Arc<dyn Clock>,
    images: Arc<MemoryImages>,
    shared: Arc<Shared>,
}

impl Default for MemoryRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRuntime")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl MemoryRuntime {
    /// A runtime of kind `memory` without instances, that can do everything but attach again.
    pub fn new() -> Self {
        Self {
            kind: RuntimeKind::new("memory"),
            identity: EngineIdentity::default(),
            capabilities: Capabilities {
                attach: true,
                http: true,
                network_isolation: true,
                isolation_lacks: None,
                memory_limit: true,
                cpu_limit: true,
                pids_limit: true,
                mounts: true,
                volumes: true,
                hidden_paths: true,
                read_only: true,
                networks: true,
                publish: true,
                privileged: true,
                events: true,
                logs: true,
                private_output: false,
                images: true,
            },
            script: Script::echo(),
            clock: Arc::new(SystemClock),
            images: Arc::new(MemoryImages::default()),
            shared: Arc::new(Shared::default()),
        }
    }

    /// Takes the place of another kind of runtime.
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = RuntimeKind::new(kind);
        self
    }

    /// Is one engine of several: what it calls itself.
    #[must_use]
    pub fn with_identity(mut self, id: impl Into<String>) -> Self {
        let id = id.into();
        self.identity = EngineIdentity {
            place: format!("the place of {id}"),
            id,
        };
        self
    }

    /// Changes what it can do; what it cannot do it refuses.
    #[must_use]
    pub fn with_capabilities(mut self, change: impl FnOnce(&mut Capabilities)) -> Self {
        change(&mut self.capabilities);
        self
    }

    /// What each server does from its start; the number is its exit code. The future is dropped when the server
    /// is killed.
    #[must_use]
    pub fn with_server<F, Fut>(mut self, server: F) -> Self
    where
        F: Fn(MemoryServer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = i64> + Send + 'static,
    {
        self.script = Script::new(server);
        self
    }

    /// What instances and lines of logs have as their times; by default the machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Only these images are there; any other is `ImageNotFound` until it is pulled or loaded. Without this
    /// call every image is there.
    #[must_use]
    pub fn with_images<S: Into<String>>(self, references: impl IntoIterator<Item = S>) -> Self {
        self.images.only(references.into_iter().map(Into::into));
        self
    }

    /// Its images, to change what is there and what can be pulled.
    pub fn memory_images(&self) -> &Arc<MemoryImages> {
        &self.images
    }

    /// Ends the server of a workload from outside, as a crash would. `false` when none runs.
    pub fn exit(&self, name: &WorkloadName, code: i64) -> bool {
        self.shared.crash(name, code)
    }

    /// Says [`EventKind::Ending`] of the instance of a workload and nothing else, as an engine's adapter does that sees its
    /// process dead before the engine says how it ended. `false` when none runs.
    pub fn tell_ending(&self, name: &WorkloadName) -> bool {
        self.shared.tell_ending(name)
    }

    /// Lets the server of a workload stand still, or go on: meanwhile its script is not polled. `false` when none runs, or it
    /// is so already.
    pub fn pause(&self, name: &WorkloadName, paused: bool) -> bool {
        self.shared.pause(name, paused)
    }

    /// Removes the instance of a workload from outside, as another client of the engine would.
    pub fn vanish(&self, name: &WorkloadName) {
        self.shared.remove(name);
    }

    /// Cuts the engine off, or brings it back. While it is down every call is `Unavailable`; servers go on.
    /// When it comes back, subscriptions get [`EventKind::Gap`].
    pub fn set_down(&self, down: bool) {
        if self.shared.faults.set_down(down) && !down {
            self.shared.send(RuntimeEvent::of_stream(EventKind::Gap));
        }
    }

    /// The next call of this kind fails before it does anything. Several are used up in order.
    pub fn fail_next(&self, call: Call, error: Error) {
        self.shared.faults.before(call, error);
    }

    /// The next call of this kind does its work, but its answer is lost: the caller gets `error`.
    pub fn lose_answer(&self, call: Call, error: Error) {
        self.shared.faults.after(call, error);
    }

    /// Each call of this kind takes so long before it does anything; zero takes that back.
    pub fn delay(&self, call: Call, time: Duration) {
        self.shared.faults.delay(call, time);
    }

    /// How often this kind of call was made.
    pub fn calls(&self, call: Call) -> u64 {
        self.shared.faults.count(call)
    }

    async fn enter(&self, call: Call) -> Result<()> {
        self.shared.faults.enter(call, &self.kind).await
    }

    fn leave<T>(&self, call: Call, answer: T) -> Result<T> {
        self.shared.faults.leave(call).map_or(Ok(answer), Err)
    }

    fn endpoint(spec: &DeploySpec) -> Result<Endpoint> {
        match (&spec.transport, &spec.target) {
            (TransportType::Stdio, _) => Ok(Endpoint::Stdio),
            (_, Some(target)) => {
                let port = if target.host_port == 0 {
                    target.container_port
                } else {
                    target.host_port
                };
                let ip = target.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
                Ok(Endpoint::Http(SocketAddr::new(ip, port)))
            }
            (transport, None) => Err(Error::Invalid {
                what: "target".to_owned(),
                detail: format!("a {} server needs a target port", transport.as_str()),
            }),
        }
    }
}

#[async_trait]
impl Runtime for MemoryRuntime {
    fn kind(&self) -> &RuntimeKind {
        &self.kind
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn check_name(&self, _name: &WorkloadName) -> Result<()> {
        Ok(())
    }

    fn images(&self) -> Option<Arc<dyn Images>> {
        self.capabilities
            .images
            .then(|| self.images.clone() as Arc<dyn Images>)
    }

    async fn ping(&self) -> Result<()> {
        self.enter(Call::Ping).await
    }

    async fn identity(&self) -> Result<EngineIdentity> {
        Ok(self.identity.clone())
    }

    async fn deploy(&self, spec: &DeploySpec) -> Result<Deployment> {
        self.enter(Call::Deploy).await?;
        self.check_name(&spec.name)?;
        self.capabilities.check(&self.kind, spec)?;
        let endpoint = Self::endpoint(spec)?;
        if !self.images.has(&spec.image) {
            return Err(Error::ImageNotFound {
                image: spec.image.clone(),
                runtime: self.kind.clone(),
                detail: "it is not among the images in memory".to_owned(),
            });
        }
        let (instance, outcome) = Shared::deploy(&self.shared, &self.kind, spec, &self.script, &self.clock)?;
        self.leave(Call::Deploy, Deployment::new(instance, outcome, endpoint))
    }

    async fn stop(&self, which: &InstanceRef, opts: StopOptions) -> Result<()> {
        self.enter(Call::Stop).await?;
        if let Some(mut ending) = self.shared.terminate(&self.kind, which)?
            && tokio::time::timeout(opts.grace, ending.ended()).await.is_err()
        {
            ending.kill();
            ending.ended().await;
        }
        self.leave(Call::Stop, ())
    }

    async fn remove(&self, which: &InstanceRef) -> Result<()> {
        self.enter(Call::Remove).await?;
        if self.shared.check(&self.kind, which)? {
            self.shared.remove(&which.name);
        }
        self.leave(Call::Remove, ())
    }

    async fn attach(&self, which: &InstanceRef) -> Result<Stdio> {
        self.enter(Call::Attach).await?;
        let (stdin, stdout) = self.shared.take_streams(&self.kind, which)?;
        self.leave(
            Call::Attach,
            Stdio {
                stdin: Box::new(stdin),
                stdout: Box::new(stdout),
                stderr: None,
            },
        )
    }

    async fn inspect(&self, name: &WorkloadName) -> Result<Option<Instance>> {
        self.enter(Call::Inspect).await?;
        self.leave(Call::Inspect, self.shared.instance(name))
    }

    async fn list(&self) -> Result<Vec<Instance>> {
        self.enter(Call::List).await?;
        self.leave(Call::List, self.shared.instances())
    }

    async fn logs(
        &self,
        which: &InstanceRef,
        opts: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.enter(Call::Logs).await?;
        let lines = self.shared.logs(&self.kind, which)?.read(opts);
        self.leave(Call::Logs, lines.map(Ok).boxed())
    }

    async fn events(&self, filter: EventFilter) -> Result<BoxStream<'static, Result<RuntimeEvent>>> {
        self.enter(Call::Events).await?;
        if !self.capabilities.events {
            return Err(Error::Unsupported {
                runtime: self.kind.clone(),
                what: "events".to_owned(),
            });
        }
        let receiver = self.shared.subscribe();
        let synced = stream::iter([Ok(RuntimeEvent::of_stream(EventKind::Synced))]);
        let events = stream::unfold((receiver, filter), |(mut receiver, filter)| async move {
            loop {
                let event = match receiver.recv().await {
                    Ok(event) if event.workload.is_empty() || filter.accepts(&event.workload) => event,
                    Ok(_) => continue,
                    Err(RecvError::Lagged(_)) => RuntimeEvent::of_stream(EventKind::Gap),
                    Err(RecvError::Closed) => return None,
                };
                return Some((Ok(event), (receiver, filter)));
            }
        });
        self.leave(Call::Events, synced.chain(events).boxed())
    }
}
