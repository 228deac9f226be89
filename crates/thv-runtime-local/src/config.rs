//! What a local runtime is made of.

use std::path::PathBuf;
use std::sync::Arc;

use thv_core::{Dirs, Env, InvalidVariable};
use thv_process::Processes;
use thv_runtime::LogRotation;

/// Where a [`LocalRuntime`](crate::LocalRuntime) keeps its records, and what its servers start from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LocalConfig {
    /// Records, logs and private folders are below [`Dirs::lifecycle`], caches below [`Dirs::cache`].
    pub dirs: Dirs,
    /// Where `PATH` and `LANG` of the servers come from. Nothing else of it reaches them.
    pub env: Env,
    /// The processes of the machine.
    pub processes: Arc<dyn Processes>,
    /// When the logs of servers are rotated.
    pub log_rotation: LogRotation,
}

impl LocalConfig {
    /// A configuration of these parts. Logs are rotated as `env` says.
    ///
    /// # Errors
    /// As [`LogRotation::from_env`].
    pub fn new(dirs: Dirs, env: Env, processes: Arc<dyn Processes>) -> Result<Self, InvalidVariable> {
        Ok(Self {
            log_rotation: LogRotation::from_env(&env)?,
            dirs,
            env,
            processes,
        })
    }

    pub(crate) fn instances(&self) -> PathBuf {
        self.dirs.lifecycle().join("instances")
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.dirs.lifecycle().join("homes").join(name)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dirs.server_log(name)
    }
}
