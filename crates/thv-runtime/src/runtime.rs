//! The trait that every runtime implements.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use thv_core::WorkloadName;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    About, Capabilities, DeploySpec, Deployment, EngineIdentity, EventFilter, Images, Instance, InstanceRef,
    LogLine, LogOptions, Result, RuntimeEvent,
};

/// The kind of a runtime: an open string, so that embedders bring their own (`docker`, `podman`, `local`, …).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuntimeKind(String);

impl RuntimeKind {
    /// A kind by its name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RuntimeKind {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The three streams of an attached instance. Dropping `stdin` closes the server's standard input.
pub struct Stdio {
    /// The server's standard input.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// The server's standard output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// The server's standard error, where the runtime does not keep it elsewhere.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
}

impl fmt::Debug for Stdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdio")
            .field("stderr", &self.stderr.is_some())
            .finish_non_exhaustive()
    }
}

/// How an instance is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopOptions {
    /// How long the server may take after it was asked to end, before it is killed. An engine that counts whole seconds gets
    /// the next one.
    pub grace: Duration,
}

impl Default for StopOptions {
    /// 30 seconds, as ToolHive gives.
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
        }
    }
}

/// Something that runs instances of MCP servers.
///
/// # Contract
///
/// - A workload has at most one instance in a runtime; `inspect` finds it by the workload's name, whoever made it. Of calls of
///   `deploy` at once that expect none, one makes it, and the others are a `Conflict`.
/// - Every method is safe to repeat. A method that was dropped half-way leaves a state that a second call of the
///   same method, or `remove`, heals: what a cut-off `deploy` made and never started counts as absent.
/// - A dropped call does nothing any more once a later `deploy`, `stop` or `remove` of the workload has returned.
/// - `deploy` honours [`DeploySpec::expect`](DeploySpec): anything else under that name is a `Conflict`, and nothing was done.
/// - An [`InstanceRef`] with an id that is not the one there is a `Conflict`, and nothing was done.
/// - `stop` of something stopped, and `stop` and `remove` of something absent, are `Ok`.
/// - Nothing falls back in silence: what a runtime cannot enforce it refuses with `Unsupported`.
/// - An engine that does not answer is `Unavailable`, one that refuses access `Denied`, and one that fails for a reason that no
///   other variant describes `Failed`, from any method that asks it.
/// - To wait for the next item of a stream is cancel-safe. Dropping the stream ends it.
///
/// It is implemented under [`async_trait`](crate::async_trait). A wrapper passes every method on, those with a default too: `#[deny(clippy::missing_trait_methods)]` finds what is
/// forgotten.
#[async_trait]
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Which kind this is; the key under which records name it.
    fn kind(&self) -> &RuntimeKind;

    /// What this runtime can do, so that callers ask instead of discovering.
    fn capabilities(&self) -> Capabilities;

    /// Whether the runtime can take this name, asked before anything is touched.
    ///
    /// # Errors
    /// `InvalidName` with the rule.
    fn check_name(&self, name: &WorkloadName) -> Result<()>;

    /// Its images; `None` where instances are not made of images.
    fn images(&self) -> Option<Arc<dyn Images>>;

    /// Whether the engine answers.
    ///
    /// # Errors
    /// `Unavailable` or `Denied` where it does not.
    async fn ping(&self) -> Result<()>;

    /// What it is and where, asked anew.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    async fn about(&self) -> Result<About> {
        self.ping().await?;
        Ok(About::default())
    }

    /// Which engine this is, so that records can name it. Asked once as long as it stays in reach.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    async fn identity(&self) -> Result<EngineIdentity> {
        Ok(EngineIdentity::default())
    }

    /// Waits for a sign that an engine which did not answer may answer by now, such as its socket appearing; where there
    /// is nothing to wait for, a moment. Cancel-safe.
    async fn may_answer(&self) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// Brings an instance of `spec` up: creates it, replaces what differs, or reuses what is identical.
    /// On return it runs. A failure leaves nothing of what this call made.
    ///
    /// # Errors
    /// `InvalidName`, `Invalid` and `Unsupported` before anything is touched where that can be known; `Conflict`; `ImageNotFound`;
    /// `PortTaken`; `StartFailed` of a server that ended at once, with its last lines.
    async fn deploy(&self, spec: &DeploySpec) -> Result<Deployment>;

    /// Ends the instance: asks, waits `opts.grace`, kills. Returns when it is down.
    ///
    /// # Errors
    /// `Conflict` with an id that is not the one there.
    async fn stop(&self, which: &InstanceRef, opts: StopOptions) -> Result<()>;

    /// Removes the instance and its helpers by force. Returns when they are gone.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    async fn remove(&self, which: &InstanceRef) -> Result<()>;

    /// Connects to the streams of a running stdio instance. One attachment at a time: a second one through values of one
    /// runtime that share their state (clones) is `AlreadyAttached`. Engines do not tell who is attached, so processes
    /// that could meet hold a lock of their own, as a supervisor does; the attachment that ends first ends the server.
    /// Where a deployment with [`DeploySpec::private_output`] was this value's, standard error comes from its first byte on,
    /// also when the server has ended meanwhile: its other streams have ended then.
    ///
    /// # Errors
    /// `NotFound`; `Conflict`; `NotRunning`; `AlreadyAttached`; `Invalid` for an instance without standard input.
    async fn attach(&self, which: &InstanceRef) -> Result<Stdio>;

    /// The instance of a workload, or `None`.
    async fn inspect(&self, name: &WorkloadName) -> Result<Option<Instance>>;

    /// All instances of workloads, running or not, helpers left out.
    async fn list(&self) -> Result<Vec<Instance>>;

    /// What the server wrote: a bounded tail, then, with `follow`, what comes until it is removed or the stream is dropped.
    ///
    /// # Errors
    /// `NotFound`; `Conflict`; `NotLogged` where [`DeploySpec::private_output`] asked for no log. An error in the stream is its last
    /// item.
    async fn logs(
        &self,
        which: &InstanceRef,
        opts: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogLine>>>;

    /// What happens to instances: first [`EventKind::Synced`](crate::EventKind::Synced) once the subscription
    /// stands, then events; [`EventKind::Gap`](crate::EventKind::Gap) after a reconnect, when some may be missed. It goes on as
    /// long as the runtime is there: an engine that goes away is waited for.
    ///
    /// # Errors
    /// `Unsupported` without [`Capabilities::events`]; `Unavailable` when the engine is away at the first attempt.
    async fn events(&self, filter: EventFilter) -> Result<BoxStream<'static, Result<RuntimeEvent>>>;
}
