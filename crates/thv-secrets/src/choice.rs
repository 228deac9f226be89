//! Which provider a machine is set up for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thv_core::{Dirs, Env};

use crate::{
    EncryptedSecrets, EnvironmentSecrets, FallbackSecrets, NoSecrets, Password, Result, SecretError,
    SecretProvider,
};

/// The variable that names the provider and beats the configuration.
pub const PROVIDER_VARIABLE: &str = "TOOLHIVE_SECRETS_PROVIDER";

const CONFIG: &str = "config.yaml";

/// The providers by their names in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProviderKind {
    /// An encrypted file whose password is in the system's keyring (`encrypted`, formerly `basic`).
    Encrypted,
    /// 1Password (`1password`).
    OnePassword,
    /// Environment variables (`environment`).
    Environment,
    /// None (`none`).
    None,
}

impl ProviderKind {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::OnePassword => "1password",
            Self::Environment => "environment",
            Self::None => "none",
        }
    }

    /// Whether it works without having been set up.
    pub fn needs_setup(self) -> bool {
        !matches!(self, Self::Environment | Self::None)
    }

    fn parse(text: &str, origin: &'static str) -> Result<Self> {
        match text {
            "encrypted" | "basic" => Ok(Self::Encrypted),
            "1password" => Ok(Self::OnePassword),
            "environment" => Ok(Self::Environment),
            "none" => Ok(Self::None),
            other => Err(SecretError::UnknownProvider {
                name: other.to_owned(),
                origin,
            }),
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProviderKind {
    type Err = SecretError;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text, "the argument")
    }
}

/// What the configuration says about secrets (`secrets` in config.yaml).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configured {
    /// `provider_type`; empty as good as absent.
    pub provider_type: Option<String>,
    /// `setup_completed`. Old files have a provider without this flag, which counts as completed.
    pub setup_completed: bool,
}

/// Which provider to use: `TOOLHIVE_SECRETS_PROVIDER` beats the configuration, and before any setup only a provider
/// that needs none can be chosen.
///
/// # Errors
/// `NotConfigured` when nothing is chosen or the chosen one was not set up, `UnknownProvider` for another text.
pub fn choose(env: &Env, configured: &Configured) -> Result<ProviderKind> {
    let in_config = configured
        .provider_type
        .as_deref()
        .filter(|text| !text.is_empty());
    let kind = match (env.non_empty(PROVIDER_VARIABLE), in_config) {
        (Some(text), _) => ProviderKind::parse(text, PROVIDER_VARIABLE)?,
        (None, Some(text)) => ProviderKind::parse(text, CONFIG)?,
        (None, None) => return Err(SecretError::NotConfigured),
    };
    let is_set_up = configured.setup_completed || in_config.is_some();
    if kind.needs_setup() && !is_set_up {
        Err(SecretError::NotConfigured)
    } else {
        Ok(kind)
    }
}

/// The provider of a kind. The files in `dirs` and `password` are those of the encrypted secrets, and are not touched before
/// they are needed; what is not there is looked for in the environment too ([`FallbackSecrets`]).
///
/// # Errors
/// `NotBuiltYet` for those that this version does not have.
pub fn open(
    kind: ProviderKind,
    env: &Env,
    dirs: &Dirs,
    password: Password,
) -> Result<Arc<dyn SecretProvider>> {
    match kind {
        ProviderKind::Environment => Ok(Arc::new(EnvironmentSecrets::new(env))),
        ProviderKind::None => Ok(Arc::new(NoSecrets)),
        ProviderKind::Encrypted => {
            let secrets = EncryptedSecrets::new(dirs.secrets_file(), password);
            let secrets = secrets.counting_in(dirs.secret_revisions());
            Ok(FallbackSecrets::unless_disabled(Arc::new(secrets), env))
        }
        ProviderKind::OnePassword => Err(SecretError::NotBuiltYet {
            provider: kind.as_str(),
        }),
    }
}
