//! Which registry is asked, and how.

use std::path::PathBuf;
use std::sync::Arc;

use thv_core::{Dirs, Env};

use crate::{Accept, ApiRegistry, FileRegistry, Registry, Result, UrlRegistry};

/// Which registry is asked. Of several the first that is not empty counts, in the order of the fields; without any it is
/// the catalogue in the program (feature `catalog`), else one without entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryConfig {
    /// Base URL of a registry API.
    pub api_url: String,
    /// URL of a document.
    pub url: String,
    /// Path of a document.
    pub path: PathBuf,
    /// Whether plain HTTP and private addresses may be used.
    pub allow_private: bool,
}

impl RegistryConfig {
    /// What entries may ask for.
    pub(crate) fn accept(&self) -> Accept {
        Accept {
            plain_http: self.allow_private,
        }
    }
}

/// The registry that `config` means; a cache is kept in `dirs`, and `env` names proxies. Nothing is read or asked yet.
///
/// # Errors
/// [`Denied`](crate::Error::Denied) and [`Invalid`](crate::Error::Invalid) for a URL that is not asked.
pub fn open(config: &RegistryConfig, dirs: &Dirs, env: &Env) -> Result<Arc<dyn Registry>> {
    if !config.api_url.is_empty() {
        return Ok(Arc::new(ApiRegistry::new(
            &config.api_url,
            config.allow_private,
            dirs,
            env,
        )?));
    }
    if !config.url.is_empty() {
        return Ok(Arc::new(UrlRegistry::new(
            &config.url,
            config.allow_private,
            env,
        )?));
    }
    if !config.path.as_os_str().is_empty() {
        return Ok(Arc::new(FileRegistry::new(config.path.clone(), config.accept())));
    }
    Ok(built_in())
}

#[cfg(feature = "catalog")]
fn built_in() -> Arc<dyn Registry> {
    Arc::new(crate::EmbeddedRegistry::new())
}

#[cfg(not(feature = "catalog"))]
fn built_in() -> Arc<dyn Registry> {
    Arc::new(crate::MemoryRegistry::new([]))
}
