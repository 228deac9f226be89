//! The registry that the configuration file names.

use std::sync::Arc;

use thv_config::{ConfigFile, RegistrySetting, Settings};
use thv_core::{Dirs, Env};
use thv_manager::{Error, Result};
use thv_registry::{Registry, RegistryConfig};

/// The configuration file in `dirs`, as it is now.
///
/// # Errors
/// `Invalid` when it cannot be read.
pub fn config_in(dirs: &Dirs) -> Result<Settings> {
    ConfigFile::new(dirs).read().map_err(|error| Error::Invalid {
        what: "configuration".into(),
        detail: chain(&error),
    })
}

/// The registry that the configuration file of the environment's directories names; without one the built-in catalogue.
/// Nothing is asked before an entry is.
///
/// # Errors
/// `Invalid` when the environment names no home directory or the configuration file cannot be read; `Registry` for a URL
/// that is not asked.
pub fn registry_from_env(env: &Env) -> Result<Arc<dyn Registry>> {
    let dirs = Dirs::from_env(env).map_err(|error| Error::Invalid {
        what: "environment".into(),
        detail: error.to_string(),
    })?;
    registry_in(&dirs, env)
}

/// The same with the configuration file in `dirs`.
///
/// # Errors
/// As [`registry_from_env`].
pub fn registry_in(dirs: &Dirs, env: &Env) -> Result<Arc<dyn Registry>> {
    let settings = config_in(dirs)?;
    let mut config = RegistryConfig {
        allow_private: settings.allow_private_registry_ip,
        ..RegistryConfig::default()
    };
    match settings.registry() {
        RegistrySetting::Api(url) => config.api_url = url,
        RegistrySetting::Url(url) => config.url = url,
        RegistrySetting::File(path) => config.path = path,
        _ => {}
    }
    Ok(thv_registry::open(&config, dirs, env)?)
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
