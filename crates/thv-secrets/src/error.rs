//! What can go wrong, keyed by what a caller does about it.

use std::error::Error;
use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = SecretError> = std::result::Result<T, E>;

/// Why a secret could not be read or changed. Names of secrets appear in messages, values never.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The provider has no secret of this name.
    #[error("secret \"{}\" not found by the {provider} provider", shown(name))]
    NotFound {
        /// The secret's name.
        name: String,
        /// Who was asked.
        provider: &'static str,
    },
    /// A name or value that no provider takes.
    #[error("invalid secret \"{}\": {rule}", shown(name))]
    Invalid {
        /// The secret's name.
        name: String,
        /// The rule that is broken.
        rule: &'static str,
    },
    /// The name belongs to the system, not to users.
    #[error(
        "secret \"{}\" is reserved for the system: choose a name that does not begin with __thv_",
        shown(name)
    )]
    Reserved {
        /// The secret's name.
        name: String,
    },
    /// The provider cannot do this at all; its [`Capabilities`](crate::Capabilities) say so beforehand.
    #[error("the {provider} provider cannot {what} secrets")]
    Unsupported {
        /// Which provider.
        provider: &'static str,
        /// What was asked for: `set`, `delete` or `list`.
        what: &'static str,
    },
    /// No provider was ever set up.
    #[error("secrets are not set up")]
    NotConfigured,
    /// A provider's name that means nothing.
    #[error(
        "unknown secrets provider \"{}\" in {origin}: known are encrypted, 1password, environment and none",
        shown(name)
    )]
    UnknownProvider {
        /// The text that was found.
        name: String,
        /// Where it was found.
        origin: &'static str,
    },
    /// A provider that is known, and not part of this version.
    #[error("the {provider} secrets provider is not built yet: use the environment provider")]
    NotBuiltYet {
        /// Which provider.
        provider: &'static str,
    },
    /// The password opens nothing: it is another one, or the file is damaged, which cannot be told apart.
    #[error(
        "the password does not open {}: it is another one, or the file is damaged",
        path.display()
    )]
    WrongPassword {
        /// The file.
        path: PathBuf,
    },
    /// The file of secrets is none.
    #[error("{} is damaged: {detail}; restore it from a copy, or remove it and begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// No password of the encrypted file is to be had.
    #[error("the password of the encrypted secrets is not known: the keyring does not have it")]
    Locked {
        /// What the keyring says.
        #[source]
        source: Option<Box<SecretError>>,
    },
    /// The system's keyring does not answer.
    #[error("the system's keyring is not available")]
    KeyringUnavailable {
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The provider could not be reached, or its store not read. For implementations elsewhere.
    #[error("the {provider} secrets provider does not answer")]
    Unavailable {
        /// Which provider.
        provider: &'static str,
        /// Why; without any secret's value.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl SecretError {
    pub(crate) fn not_found(name: &str, provider: &'static str) -> Self {
        Self::NotFound {
            name: name.to_owned(),
            provider,
        }
    }

    /// Whether there just is no such secret.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the same call may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::KeyringUnavailable { .. })
    }

    /// A stable name of the kind, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "secret_not_found",
            Self::Invalid { .. } => "secret_invalid",
            Self::Reserved { .. } => "secret_reserved",
            Self::Unsupported { .. } => "secret_unsupported",
            Self::NotConfigured => "secrets_not_configured",
            Self::UnknownProvider { .. } => "secrets_provider_unknown",
            Self::NotBuiltYet { .. } => "secrets_provider_not_built_yet",
            Self::WrongPassword { .. } => "secrets_password_wrong",
            Self::Damaged { .. } => "secrets_damaged",
            Self::Locked { .. } => "secrets_locked",
            Self::KeyringUnavailable { .. } => "keyring_unavailable",
            Self::Unavailable { .. } => "secrets_unavailable",
        }
    }
}

/// A name comes from files that others wrote: escaped and cut, it does no harm to a terminal.
fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}
