//! `status` and `export`.

use thv_core::{RunConfig, WorkloadName};

use crate::{Manager, Result, WorkloadReport};

impl Manager {
    /// Everything that is known of one workload. Nothing is written.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn status(&self, name: &WorkloadName) -> Result<WorkloadReport> {
        let view = self.observe_one(name).await?;
        Ok(WorkloadReport {
            runtime: view.runtime,
            network_isolated: view.isolated,
            desired_running: view.should_run,
            launcher: view.launcher,
            proxy_pid: view.proxy_pid,
            proxy_log: self.parts.dirs.proxy_log(name.as_str()),
            workload: view.workload,
        })
    }

    /// The saved configuration of a workload; secrets are in it by reference only. Nothing is written.
    ///
    /// # Errors
    /// `NotFound`; `State` when it is damaged.
    pub async fn export(&self, name: &WorkloadName) -> Result<RunConfig> {
        self.parts.config(name).await
    }
}
