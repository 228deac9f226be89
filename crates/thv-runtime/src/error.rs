//! What can go wrong in a runtime.

use thv_core::WorkloadName;

use crate::{InstanceId, RuntimeKind};

/// The result of runtime calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong in a runtime, keyed by what a caller does about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The workload has no instance here.
    #[error("workload \"{name}\" has no instance in runtime {runtime}")]
    NotFound {
        /// The workload.
        name: WorkloadName,
        /// The runtime.
        runtime: RuntimeKind,
    },
    /// Another instance than the expected one is there; nothing was done.
    #[error("workload \"{name}\" has another instance in runtime {runtime} than expected ({})",
        found.as_ref().map_or("none", InstanceId::as_str))]
    Conflict {
        /// The workload.
        name: WorkloadName,
        /// The runtime.
        runtime: RuntimeKind,
        /// What is there.
        found: Option<InstanceId>,
    },
    /// The instance is there but does not run.
    #[error("the instance of workload \"{name}\" does not run: {detail}")]
    NotRunning {
        /// The workload.
        name: WorkloadName,
        /// What it does instead.
        detail: String,
    },
    /// Somebody is attached to the instance already.
    #[error("the streams of workload \"{name}\" in runtime {runtime} are taken")]
    AlreadyAttached {
        /// The workload.
        name: WorkloadName,
        /// The runtime.
        runtime: RuntimeKind,
    },
    /// No log is kept of the instance: who is attached to it reads what it writes.
    #[error("runtime {runtime} keeps no log of workload \"{name}\": who is attached reads what it writes")]
    NotLogged {
        /// The workload.
        name: WorkloadName,
        /// The runtime.
        runtime: RuntimeKind,
    },
    /// The image or program does not exist.
    #[error("{image} was not found by runtime {runtime}: {detail}")]
    ImageNotFound {
        /// What was asked for.
        image: String,
        /// The runtime.
        runtime: RuntimeKind,
        /// What was tried.
        detail: String,
    },
    /// The engine does not have the image, and its registry cannot be reached to get it.
    #[error(
        "{image} is not on the engine of runtime {runtime}, and its registry cannot be reached to pull it"
    )]
    PullFailed {
        /// What was asked for.
        image: String,
        /// The runtime.
        runtime: RuntimeKind,
        /// The engine's words.
        #[source]
        source: Source,
    },
    /// The registry of an image was asked too often, and refuses it for now.
    #[error(
        "the rate limit of registry {registry} is reached, so {image} cannot be pulled: log in to it, or wait"
    )]
    RateLimited {
        /// What was asked for.
        image: String,
        /// The registry.
        registry: String,
        /// The engine's words, which are the registry's.
        #[source]
        source: Source,
    },
    /// The server could not be started, or ended at once.
    #[error("workload \"{name}\" could not be started: {detail}")]
    StartFailed {
        /// The workload.
        name: WorkloadName,
        /// Why, with the exit code where there is one.
        detail: String,
        /// The last lines that the server wrote.
        last_lines: Vec<String>,
    },
    /// The name is not one that the runtime can take.
    #[error("runtime {runtime} cannot take the name \"{name}\": {rule}")]
    InvalidName {
        /// The workload.
        name: WorkloadName,
        /// The runtime.
        runtime: RuntimeKind,
        /// The rule that was broken.
        rule: String,
    },
    /// The request itself is wrong.
    #[error("invalid {what}: {detail}")]
    Invalid {
        /// Which part.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The runtime cannot do, or cannot enforce, what was asked for.
    #[error("runtime {runtime} does not support {what}")]
    Unsupported {
        /// The runtime.
        runtime: RuntimeKind,
        /// What was asked for.
        what: String,
    },
    /// A port that was asked for is taken.
    #[error("port {port} is not available: {detail}")]
    PortTaken {
        /// The port of the host.
        port: u16,
        /// Who has it, where known.
        detail: String,
    },
    /// The runtime refuses for lack of permission.
    #[error("runtime {runtime} denied access: {detail}")]
    Denied {
        /// The runtime.
        runtime: RuntimeKind,
        /// What was refused, and what to do.
        detail: String,
    },
    /// No runtime of that kind is registered.
    #[error("no runtime \"{runtime}\": {detail}")]
    UnknownRuntime {
        /// The kind that was asked for.
        runtime: RuntimeKind,
        /// Which ones there are.
        detail: String,
    },
    /// The engine does not answer: it may be down, starting, or elsewhere.
    #[error("runtime {runtime} does not answer: {detail}")]
    Unavailable {
        /// The runtime.
        runtime: RuntimeKind,
        /// What was tried, and what to do.
        detail: String,
        /// The cause.
        #[source]
        source: Option<Source>,
    },
    /// The engine answered with a failure that no other variant describes.
    #[error("runtime {runtime} failed to {action}")]
    Failed {
        /// The runtime.
        runtime: RuntimeKind,
        /// What was tried, on what.
        action: String,
        /// The cause.
        #[source]
        source: Source,
    },
}

impl Error {
    /// Whether the same call may succeed later without a change by anybody.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::PullFailed { .. } | Self::RateLimited { .. }
        )
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::NotRunning { .. } => "not_running",
            Self::AlreadyAttached { .. } => "already_attached",
            Self::NotLogged { .. } => "not_logged",
            Self::ImageNotFound { .. } => "image_not_found",
            Self::PullFailed { .. } => "pull_failed",
            Self::RateLimited { .. } => "rate_limited",
            Self::StartFailed { .. } => "start_failed",
            Self::InvalidName { .. } => "invalid_name",
            Self::Invalid { .. } => "invalid",
            Self::Unsupported { .. } => "unsupported",
            Self::PortTaken { .. } => "port_taken",
            Self::Denied { .. } => "denied",
            Self::UnknownRuntime { .. } => "unknown_runtime",
            Self::Unavailable { .. } => "unavailable",
            Self::Failed { .. } => "failed",
        }
    }
}
