//! What can go wrong on the way to a newer version.

/// The result of an upgrade.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong on the way to a newer version, keyed by what a caller does about it.
///
/// Of every variant but [`AfterDestroy`](Self::AfterDestroy) the workload is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The workload cannot be read.
    #[error("failed to load state for workload \"{name}\"")]
    Load {
        /// The workload.
        name: String,
        /// The cause.
        #[source]
        source: thv_manager::Error,
    },
    /// The new image cannot be resolved, or its provenance is not as it should be.
    #[error("failed to resolve candidate image for workload \"{name}\"")]
    Resolve {
        /// The workload.
        name: String,
        /// The cause.
        #[source]
        source: thv_image::Error,
    },
    /// The registry entry is not one that is run from an image.
    #[error(
        "registry server \"{server}\" is not a container image; cannot upgrade workload \"{name}\" in place"
    )]
    NotAnImage {
        /// The workload.
        name: String,
        /// The registry entry.
        server: String,
    },
    /// The new configuration cannot be made.
    #[error("failed to build upgraded config for workload \"{name}\": {detail}")]
    Build {
        /// The workload.
        name: String,
        /// What is missing or wrong; never a value.
        detail: String,
    },
    /// The newer version requires variables that the configuration has no values for.
    #[error("failed to build upgraded config for workload \"{name}\": {}", missing(names))]
    MissingValues {
        /// The workload.
        name: String,
        /// The variables, in the entry's order.
        names: Vec<String>,
        /// Whether there is a secret among them.
        secret: bool,
    },
    /// A policy refused.
    #[error("failed to prepare candidate image for workload \"{name}\": blocked by policy: {reason}")]
    Denied {
        /// The workload.
        name: String,
        /// The policy's words.
        reason: String,
    },
    /// The new version cannot be prepared: a check or the pull of its image failed.
    #[error("failed to prepare candidate image for workload \"{name}\"")]
    Prepare {
        /// The workload.
        name: String,
        /// The cause.
        #[source]
        source: thv_manager::Error,
    },
    /// The old version was being replaced when it failed. What came of it is in the cause.
    #[error("{}", after_destroy(name, source))]
    AfterDestroy {
        /// The workload.
        name: String,
        /// The cause.
        #[source]
        source: thv_manager::Error,
    },
}

fn missing(names: &[String]) -> String {
    let word = if names.len() == 1 { "variable" } else { "variables" };
    format!("missing required environment {word}: {}", names.join(", "))
}

fn after_destroy(name: &str, source: &thv_manager::Error) -> String {
    match source {
        // The cause says what became of both versions.
        thv_manager::Error::UpdateFailed { .. } => {
            format!("failed to complete upgrade for workload \"{name}\"")
        }
        _ => format!(
            "upgrade failed after workload recreate began; workload state is uncertain: failed to complete upgrade for \
             workload \"{name}\""
        ),
    }
}

impl Error {
    /// Whether the old version was being replaced already. If not, the workload is as it was.
    pub fn destruction_began(&self) -> bool {
        matches!(self, Self::AfterDestroy { .. })
    }

    /// Whether the same call may succeed later without a change by anybody.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Load { source, .. } | Self::Prepare { source, .. } => source.is_retryable(),
            Self::Resolve { source, .. } => source.is_retryable(),
            Self::NotAnImage { .. }
            | Self::Build { .. }
            | Self::MissingValues { .. }
            | Self::Denied { .. }
            | Self::AfterDestroy { .. } => false,
        }
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Load { source, .. } | Self::Prepare { source, .. } => source.code(),
            Self::Resolve { source, .. } => source.code(),
            Self::NotAnImage { .. } => "not_an_image",
            Self::Build { .. } => "invalid",
            Self::MissingValues { .. } => "missing_values",
            Self::Denied { .. } => "denied",
            Self::AfterDestroy {
                source: thv_manager::Error::UpdateFailed { old_serves, .. },
                ..
            } => match old_serves {
                true => "upgrade_rolled_back",
                false => "upgrade_rollback_failed",
            },
            Self::AfterDestroy { .. } => "upgrade_failed_after_destroy",
        }
    }
}
