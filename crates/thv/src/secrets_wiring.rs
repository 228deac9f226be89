//! The secrets that the configuration file and the environment name.

use std::sync::Arc;

use async_trait::async_trait;
use thv_core::{Dirs, Env};
use thv_manager::{Error, Result};
use thv_secrets::{
    Capabilities, Configured, EnvironmentSecrets, Keyring, PROVIDER_VARIABLE, Password, SecretEntry,
    SecretError, SecretProvider, SecretString,
};

use crate::config_in;
use crate::wiring::chain;

/// The keyring of the desktop session, or none without the feature `keyring`.
pub fn system_keyring() -> Arc<dyn Keyring> {
    #[cfg(feature = "keyring")]
    return Arc::new(thv_secrets::SystemKeyring);
    #[cfg(not(feature = "keyring"))]
    Arc::new(thv_secrets::NoKeyring)
}

/// The provider of secrets that `env` or the configuration file in `dirs` names; by default the variables
/// `TOOLHIVE_SECRET_<name>`. Encrypted secrets are opened with `password`, or with the keyring's where it is `None`, when
/// they are needed for the first time.
///
/// A configuration file that cannot be read is told by the secrets, when they are asked for: what needs none goes on.
///
/// # Errors
/// `Invalid` when `TOOLHIVE_SECRETS_PROVIDER` names a provider that is not there, or is not set up.
pub fn secrets_in(dirs: &Dirs, env: &Env, password: Option<SecretString>) -> Result<Arc<dyn SecretProvider>> {
    let in_env = env.non_empty(PROVIDER_VARIABLE).is_some();
    let configured = match config_in(dirs) {
        Ok(settings) => Configured {
            provider_type: Some(settings.secrets.provider_type),
            setup_completed: settings.secrets.setup_completed,
        },
        Err(_) if in_env => Configured::default(),
        Err(error) => return Ok(Arc::new(Unreadable(chain(&error)))),
    };
    let password = password.map_or_else(|| Password::from_keyring(system_keyring()), Password::given);
    let opened =
        thv_secrets::choose(env, &configured).and_then(|kind| thv_secrets::open(kind, env, dirs, password));
    match opened {
        Ok(secrets) => Ok(secrets),
        Err(SecretError::NotConfigured) if !in_env => Ok(Arc::new(EnvironmentSecrets::new(env))),
        Err(error) if in_env => Err(Error::Invalid {
            what: PROVIDER_VARIABLE.into(),
            detail: error.to_string(),
        }),
        Err(error) => Ok(Arc::new(Unreadable(error.to_string()))),
    }
}

/// What every question is answered with where the configuration names no provider that is there.
#[derive(Debug)]
struct Unreadable(String);

impl Unreadable {
    fn error<T>(&self) -> thv_secrets::Result<T> {
        Err(SecretError::Unavailable {
            provider: self.name(),
            source: self.0.clone().into(),
        })
    }
}

#[async_trait]
impl SecretProvider for Unreadable {
    fn name(&self) -> &'static str {
        "configured"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::READ_ONLY
    }

    async fn get(&self, _name: &str) -> thv_secrets::Result<SecretString> {
        self.error()
    }

    async fn set(&self, _name: &str, _value: SecretString) -> thv_secrets::Result<()> {
        self.error()
    }

    async fn delete(&self, _name: &str) -> thv_secrets::Result<()> {
        self.error()
    }

    async fn list(&self) -> thv_secrets::Result<Vec<SecretEntry>> {
        self.error()
    }
}
