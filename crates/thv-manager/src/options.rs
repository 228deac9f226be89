//! What callers say to verbs, and what verbs answer.

use std::path::PathBuf;
use std::time::Duration;

use thv_core::{Workload, WorkloadName};
use thv_image::{Admitted, ExpectedIdentity, Policy};
use thv_labels::Selector;
use thv_runtime::RuntimeKind;

/// How long `run` and `start` wait before they return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitFor {
    /// Until it is ready, has failed, or the launch window is over; the default is three seconds.
    Launch(Duration),
    /// Until it is ready or has failed; not ready in time is [`Error::NotReady`](crate::Error::NotReady).
    Ready(Duration),
    /// Only until a supervisor owns claim and port.
    Owned,
}

impl Default for WaitFor {
    fn default() -> Self {
        Self::Launch(Duration::from_secs(3))
    }
}

/// How `run` runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// How long to wait.
    pub wait: WaitFor,
    /// Replace a workload of that name even if it was ready once.
    pub replace: bool,
    /// Which image may run.
    pub image: ImageTerms,
}

/// Which image may run, where the workload has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageTerms {
    /// What an image without a verified signature means.
    pub policy: Policy,
    /// Who should have signed it, where somebody declared that.
    pub expected: Option<Box<ExpectedIdentity>>,
    /// What was admitted before: exactly that is pulled and deployed, and no registry is asked again.
    pub admitted: Option<Box<Admitted>>,
}

/// What becomes of an update whose new configuration does not become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RollbackPolicy {
    /// It stands, in status `error`.
    #[default]
    Never,
    /// The old configuration is brought back, byte for byte, and started.
    OnFailure,
}

/// How `update` updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateOptions {
    /// How long the new configuration may take to become ready.
    pub ready_within: Duration,
    /// What happens when it does not.
    pub rollback: RollbackPolicy,
    /// Which image may run.
    pub image: ImageTerms,
}

impl Default for UpdateOptions {
    fn default() -> Self {
        Self {
            ready_within: Duration::from_secs(300),
            rollback: RollbackPolicy::Never,
            image: ImageTerms::default(),
        }
    }
}

/// How `start` starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartOptions {
    /// How long to wait.
    pub wait: WaitFor,
    /// Start a workload that another application launched, and own it from now on; or one that another engine has, here.
    pub take_over: bool,
}

/// What `run` and `start` brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunOutcome {
    /// The workload.
    pub name: WorkloadName,
    /// Where clients reach it.
    pub url: String,
    /// Whether it answered `initialize`; otherwise it is still starting.
    pub ready: bool,
    /// While it is still starting: what came in between, such as why its server ended; may be empty.
    pub context: String,
    /// It ran already and nothing was done.
    pub already_running: bool,
    /// What the user should know, one line each (such as "network is not isolated").
    pub notices: Vec<String>,
}

impl RunOutcome {
    /// A workload that is ready, for those who manage workloads in their own way.
    pub fn ready(name: WorkloadName, url: impl Into<String>) -> Self {
        Self {
            name,
            url: url.into(),
            ready: true,
            context: String::new(),
            already_running: false,
            notices: Vec::new(),
        }
    }
}

/// How `stop` and `delete` end things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopOptions {
    /// How long the proxy and the server may take after they were asked to end, before they are killed.
    pub grace: Duration,
    /// Act although the instance belongs to another installation, or is on another engine, where it stays.
    pub force: bool,
}

impl Default for StopOptions {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            force: false,
        }
    }
}

/// What `stop` found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopOutcome {
    /// It ran and was stopped.
    Stopped,
    /// Nothing ran.
    NotRunning,
}

/// Which workloads are listed.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// Only those whose labels match.
    pub selector: Option<Selector>,
    /// Only those of this group.
    pub group: Option<String>,
}

/// The answer of `list`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ListOutcome {
    /// The workloads in the order of their names.
    pub workloads: Vec<Workload>,
    /// What could not be looked at, and workloads that should run and do not; one line each.
    pub warnings: Vec<String>,
}

/// Everything that `status` shows of one workload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkloadReport {
    /// The view that `list` shows.
    pub workload: Workload,
    /// The runtime that has its instance; none for remote workloads.
    pub runtime: Option<RuntimeKind>,
    /// Whether its traffic is limited to the profile's allow-lists.
    pub network_isolated: bool,
    /// Whether it should run.
    pub desired_running: bool,
    /// Who launched it.
    pub launcher: Option<String>,
    /// The process of its proxy, where it is alive.
    pub proxy_pid: Option<u32>,
    /// Where the proxy's log is.
    pub proxy_log: PathBuf,
}

/// Which lines of a log are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// Only the last so many lines; `None` is all.
    pub tail: Option<usize>,
    /// Go on with what comes.
    pub follow: bool,
}

/// What happens to the workloads of a manager that shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShutdownMode {
    /// Drain the proxies, stop the instances, write `stopped`; what should run stays so.
    Stop,
    /// Only close the proxies.
    Leave,
}
