//! What can go wrong with a registry.

/// The result of asking a registry.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong with a registry, keyed by what a caller does about it.
///
/// Only [`NotFound`](Self::NotFound) says that there is no such entry; after every other error nothing is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry answered, and has no entry of that name.
    #[error("server not found: {name}")]
    NotFound {
        /// The name that was asked for.
        name: String,
    },
    /// A short name that several entries have.
    #[error("multiple servers match '{name}': {} — use the full name", candidates.join(", "))]
    Ambiguous {
        /// The name that was asked for.
        name: String,
        /// The full names, in order.
        candidates: Vec<String>,
    },
    /// The registry has an entry of that name that must not or cannot be used.
    #[error("registry entry \"{name}\" cannot be used: {detail}")]
    Unusable {
        /// The entry.
        name: String,
        /// Why.
        detail: String,
    },
    /// The registry does not answer, or not with success.
    #[error("the registry at {place} is not reachable: {detail}")]
    Unavailable {
        /// The registry, without credentials.
        place: String,
        /// What was tried and what came.
        detail: String,
        /// The cause.
        #[source]
        source: Option<Source>,
    },
    /// The registry wants a login.
    #[error("the registry at {place} requires authentication, and logging in to a registry is not built yet")]
    AuthRequired {
        /// The registry, without credentials.
        place: String,
    },
    /// The address is one that is not asked without leave: plain HTTP, or a private address.
    #[error("the registry at {place} is refused: {detail}")]
    Denied {
        /// The registry, without credentials.
        place: String,
        /// Which rule.
        detail: String,
        /// Whether it would be asked if private addresses and plain HTTP were allowed (`allow_private`).
        allowable: bool,
    },
    /// What was read is no registry document.
    #[error("the registry document at {place} is invalid: {detail}")]
    Invalid {
        /// Where it came from.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// What was read has the old format.
    #[error(
        "the registry document at {place} has the legacy format, which is not read: convert it with \
         \"thv registry convert --in <path> --in-place\" of ToolHive"
    )]
    Legacy {
        /// Where it came from.
        place: String,
    },
    /// What was read goes beyond a bound.
    #[error("the registry document at {place} is too large: {detail}")]
    TooLarge {
        /// Where it came from.
        place: String,
        /// Which bound.
        detail: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without a change by anybody.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether the registry is known to have no such entry. After any other error nobody knows.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "registry_server_not_found",
            Self::Ambiguous { .. } => "registry_ambiguous",
            Self::Unusable { .. } => "registry_entry_unusable",
            Self::Unavailable { .. } => "registry_unavailable",
            Self::AuthRequired { .. } => "registry_auth_required",
            Self::Denied { .. } => "registry_denied",
            Self::Invalid { .. } => "registry_invalid",
            Self::Legacy { .. } => "registry_legacy",
            Self::TooLarge { .. } => "registry_too_large",
        }
    }

    /// An entry that nobody has.
    pub fn not_found(name: impl Into<String>) -> Self {
        Self::NotFound { name: name.into() }
    }

    /// A registry that does not answer.
    pub fn unavailable(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Unavailable {
            place: place.into(),
            detail: detail.into(),
            source: None,
        }
    }

    /// What is no registry document.
    pub fn invalid(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid {
            place: place.into(),
            detail: detail.into(),
        }
    }

    /// What goes beyond a bound.
    pub fn too_large(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::TooLarge {
            place: place.into(),
            detail: detail.into(),
        }
    }
}
