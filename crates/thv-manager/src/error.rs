//! What can go wrong while managing workloads.

use thv_core::{InvalidName, InvalidVariable};

use crate::RequestField;

/// The result of a manager's verbs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong while managing workloads, keyed by what a caller does about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such workload.
    #[error("workload \"{name}\" not found")]
    NotFound {
        /// The name that was asked for.
        name: String,
    },
    /// The name is taken.
    #[error("workload with name \"{name}\" already exists")]
    AlreadyExists {
        /// The name.
        name: String,
        /// Whether it is there because it failed to start, so that it is of use only once it is replaced.
        failed: bool,
    },
    /// There is no such group.
    #[error("group \"{group}\" not found")]
    GroupNotFound {
        /// The group that was asked for.
        group: String,
    },
    /// There is such a group already.
    #[error("group \"{group}\" already exists")]
    GroupExists {
        /// The group.
        group: String,
    },
    /// The text is not a workload name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// Something asked for is wrong; nothing was touched.
    #[error("invalid {what}: {detail}")]
    Invalid {
        /// Which part: a key of the run configuration, a file, a name.
        what: String,
        /// What is wrong, and what would be right.
        detail: String,
    },
    /// A variable of the environment has no value that means something; nothing was touched.
    #[error("invalid environment: {0}")]
    InvalidVariable(InvalidVariable),
    /// A part of a request is wrong, or would have no effect; nothing was touched.
    #[error("invalid {field}{}: {detail}", quoted(value.as_deref()))]
    InvalidRequest {
        /// Which part.
        field: RequestField,
        /// The text that was given, escaped and cut, where there may be several and it is no secret.
        value: Option<String>,
        /// What is wrong, and what would be right.
        detail: String,
    },
    /// A program or package was to run in a container. Nothing was touched.
    #[error(
        "server \"{server}\" runs on the local runtime only: as a process on this host, without a container and with \
         the rights of its user"
    )]
    LocalOnly {
        /// The server, as it was named.
        server: String,
    },
    /// Protections or effects were asked for that are not built; nothing was touched.
    #[error("cannot honour {what}: {detail}")]
    Unsupported {
        /// The keys, or the protection.
        what: String,
        /// Why, and what to do.
        detail: String,
    },
    /// The text is no name in the registry, and no image reference either.
    #[cfg(feature = "registry")]
    #[error(
        "server \"{name}\" is not in {place}, and it is no image reference: an image is named with its path or tag, as \
         in {name}:latest"
    )]
    UnknownServer {
        /// The text.
        name: String,
        /// The registry.
        place: String,
    },
    /// A registry entry declares values that it needs and nobody gave. Nothing was touched.
    #[cfg(feature = "registry")]
    #[error("registry entry \"{entry}\" needs {}", names_of(values))]
    MissingValues {
        /// The entry.
        entry: String,
        /// The variables or headers, in its order.
        values: Vec<crate::MissingValue>,
    },
    /// A registry entry asks for more than the built-in profiles allow, and nobody accepted it. Nothing was touched.
    #[cfg(feature = "registry")]
    #[error(
        "registry entry \"{entry}\" asks for permissions that nobody has accepted: {}",
        grants.join("; ")
    )]
    PermissionsNotAccepted {
        /// The entry.
        entry: String,
        /// What it asks for, one phrase each.
        grants: Vec<String>,
    },
    /// The registry failed, or has several or no usable entries of that name.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    Registry(#[from] thv_registry::Error),
    /// A port is taken.
    #[error("requested proxy port {port} is not available: {holder}")]
    PortTaken {
        /// The port.
        port: u16,
        /// Who has it.
        holder: String,
    },
    /// Another verb works on the workload, or somebody else owns it.
    #[error("workload \"{name}\" is busy: {detail}")]
    Conflict {
        /// The workload.
        name: String,
        /// Which operation, by whom and since when; or whose it is.
        detail: String,
    },
    /// Its instance was made by another installation on the same engine: by another user, or with another home.
    #[error("workload \"{name}\" belongs to another installation on this engine: {detail}")]
    AnotherInstallation {
        /// The workload.
        name: String,
        /// Which instance.
        detail: String,
    },
    /// The workload belongs to another application, which has to act itself.
    #[error("workload \"{name}\" belongs to {launcher}: {detail}")]
    BelongsElsewhere {
        /// The workload.
        name: String,
        /// The launcher that its record names, or `another engine`.
        launcher: String,
        /// Whose it is, and what to do.
        detail: String,
        /// The option of the verb that has it done all the same.
        option: Override,
    },
    /// A remote server has its log elsewhere. Its proxy has one here.
    #[error("the server of workload \"{name}\" is remote, and its log is not here")]
    LoggedElsewhere {
        /// The workload.
        name: String,
    },
    /// The server was started and failed. Configuration, status `error` and logs are kept.
    #[error("workload \"{name}\" failed to start: {reason}")]
    StartFailed {
        /// The workload.
        name: String,
        /// Why.
        reason: String,
        /// The last lines that the server wrote.
        last_lines: Vec<String>,
    },
    /// An update brought a configuration that does not serve, and was to be taken back then.
    #[error("update of workload \"{name}\" failed: {reason}; {old}")]
    UpdateFailed {
        /// The workload.
        name: String,
        /// Why the new configuration does not serve.
        reason: String,
        /// What became of the old one.
        old: String,
        /// Whether the old one serves again.
        old_serves: bool,
    },
    /// It did not become ready within the time that the caller gave. It goes on.
    #[error("workload \"{name}\" was not ready within {waited:?}: {detail}")]
    NotReady {
        /// The workload.
        name: String,
        /// How long was waited.
        waited: std::time::Duration,
        /// What it was doing.
        detail: String,
    },
    /// Something still lives after stop, although it was asked and then killed.
    #[error("workload \"{name}\" did not stop: {detail}")]
    StillRunning {
        /// The workload.
        name: String,
        /// What lives.
        detail: String,
    },
    /// A policy refused.
    #[error("workload \"{name}\" is blocked by policy: {reason}")]
    Denied {
        /// The workload.
        name: String,
        /// The policy's words.
        reason: String,
    },
    /// A secret that the workload needs cannot be had.
    #[error("secret \"{secret}\" of workload \"{name}\" cannot be read")]
    Secret {
        /// The workload.
        name: String,
        /// The secret's name; never its value.
        secret: String,
        /// The cause.
        #[source]
        source: thv_secrets::SecretError,
    },
    /// An image cannot be resolved, or may not run.
    #[error(transparent)]
    Image(#[from] thv_image::Error),
    /// A runtime failed.
    #[error(transparent)]
    Runtime(#[from] thv_runtime::Error),
    /// The state store failed.
    #[error(transparent)]
    State(#[from] thv_state::Error),
    /// The status manager failed.
    #[error(transparent)]
    Status(#[from] thv_status::Error),
    /// The process table failed.
    #[error(transparent)]
    Process(#[from] thv_process::ProcessError),
    /// The proxy failed.
    #[error("the proxy of workload \"{name}\" failed: {detail}")]
    Proxy {
        /// The workload.
        name: String,
        /// What was tried.
        detail: String,
        /// The cause.
        #[source]
        source: Option<Source>,
    },
    /// The operating system failed.
    #[error("cannot {action}")]
    Io {
        /// What was tried, on what.
        action: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The task of a verb ended without a result: it panicked, or its async runtime was shut down.
    #[error("{operation} of workload \"{name}\" was cut off")]
    Panicked {
        /// The workload.
        name: String,
        /// The verb.
        operation: &'static str,
    },
    /// A verb took longer than it may.
    #[error("{operation} of workload \"{name}\" took longer than {limit:?}")]
    TimedOut {
        /// The workload.
        name: String,
        /// The verb.
        operation: &'static str,
        /// The limit.
        limit: std::time::Duration,
    },
}

/// A value behind what it is the value of.
fn quoted(value: Option<&str>) -> String {
    value.map(|value| format!(" \"{value}\"")).unwrap_or_default()
}

#[cfg(feature = "registry")]
fn names_of(values: &[crate::MissingValue]) -> String {
    let names: Vec<_> = values.iter().map(|value| value.name.as_str()).collect();
    names.join(", ")
}

impl From<InvalidVariable> for Error {
    fn from(error: InvalidVariable) -> Self {
        Self::InvalidVariable(error)
    }
}

/// The option by which a verb acts on what belongs to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Override {
    /// [`StopOptions::force`](crate::StopOptions::force), of a stop or a removal.
    Force,
    /// [`StartOptions::take_over`](crate::StartOptions::take_over).
    TakeOver,
}

impl Override {
    /// The name of the field: `force`, `take_over`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Force => "force",
            Self::TakeOver => "take_over",
        }
    }
}

impl Error {
    /// Whether the same call may succeed later without a change by anybody.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::TimedOut { .. } => true,
            Self::Image(error) => error.is_retryable(),
            #[cfg(feature = "registry")]
            Self::Registry(error) => error.is_retryable(),
            Self::Runtime(error) => error.is_retryable(),
            Self::State(error) => error.is_retryable(),
            Self::Status(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::AlreadyExists { .. } => "already_exists",
            Self::GroupNotFound { .. } => "group_not_found",
            Self::GroupExists { .. } => "group_exists",
            Self::InvalidName(_) => "invalid_name",
            Self::Invalid { .. }
            | Self::InvalidVariable(_)
            | Self::InvalidRequest { .. }
            | Self::LocalOnly { .. } => "invalid",
            Self::LoggedElsewhere { .. } => "logged_elsewhere",
            Self::Unsupported { .. } => "unsupported",
            #[cfg(feature = "registry")]
            Self::UnknownServer { .. } => "unknown_server",
            #[cfg(feature = "registry")]
            Self::MissingValues { .. } => "missing_values",
            #[cfg(feature = "registry")]
            Self::PermissionsNotAccepted { .. } => "permissions_not_accepted",
            #[cfg(feature = "registry")]
            Self::Registry(error) => error.code(),
            Self::PortTaken { .. } => "port_taken",
            Self::Conflict { .. } => "conflict",
            Self::AnotherInstallation { .. } => "another_installation",
            Self::BelongsElsewhere { .. } => "belongs_elsewhere",
            Self::StartFailed { .. } => "start_failed",
            Self::UpdateFailed { old_serves: true, .. } => "update_failed",
            Self::UpdateFailed {
                old_serves: false, ..
            } => "update_rollback_failed",
            Self::NotReady { .. } => "not_ready",
            Self::StillRunning { .. } => "still_running",
            Self::Denied { .. } => "denied",
            Self::Secret { source, .. } => source.code(),
            Self::Image(error) => error.code(),
            Self::Runtime(error) => error.code(),
            Self::State(error) => error.code(),
            Self::Status(error) => error.code(),
            Self::Process(_) => "process",
            Self::Proxy { .. } => "proxy",
            Self::Io { .. } => "io",
            Self::Panicked { .. } => "panicked",
            Self::TimedOut { .. } => "timed_out",
        }
    }
}
