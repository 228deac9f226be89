//! The seam to whoever manages workloads.

use std::fmt::Debug;

use async_trait::async_trait;
use thv_core::{RunConfig, WorkloadName};
use thv_manager::{Manager, PreparedUpdate, Result, RunOutcome, UpdateOptions};

/// What an upgrade needs of a manager of workloads. [`Manager`] is one.
#[async_trait]
pub trait Workloads: Debug + Send + Sync + 'static {
    /// Finishes what was cut off of the last verb on `name`.
    ///
    /// # Errors
    /// `NotFound`, and `Conflict` while another verb works on it.
    async fn settle(&self, name: &WorkloadName) -> Result<()>;

    /// The saved configuration of `name`. Nothing is changed.
    ///
    /// # Errors
    /// `NotFound`.
    async fn config(&self, name: &WorkloadName) -> Result<RunConfig>;

    /// Does everything of an update from `old` to `new` that leaves the workload as it is: every check, and the pull of
    /// the manifest that `options` say was admitted, which and nothing else is what runs afterwards.
    ///
    /// # Errors
    /// Those of the manager.
    async fn prepare(
        &self,
        old: &RunConfig,
        new: RunConfig,
        options: UpdateOptions,
    ) -> Result<Box<dyn Upgrade>>;
}

/// An upgrade of which nothing is done yet. Dropping it changes nothing.
#[async_trait]
pub trait Upgrade: Debug + Send + Sync + 'static {
    /// Whether it can still be begun: the configuration that it was made from is still there.
    ///
    /// # Errors
    /// `Conflict`.
    async fn check(&self) -> Result<()>;

    /// Replaces the old version. An error may leave anything.
    ///
    /// # Errors
    /// Those of the manager.
    async fn carry_out(self: Box<Self>) -> Result<RunOutcome>;
}

#[async_trait]
impl Workloads for Manager {
    async fn settle(&self, name: &WorkloadName) -> Result<()> {
        Self::settle(self, name).await
    }

    async fn config(&self, name: &WorkloadName) -> Result<RunConfig> {
        self.export(name).await
    }

    async fn prepare(
        &self,
        old: &RunConfig,
        new: RunConfig,
        options: UpdateOptions,
    ) -> Result<Box<dyn Upgrade>> {
        let prepared = self.prepare_update(old, new, options).await?;
        Ok(Box::new(prepared))
    }
}

#[async_trait]
impl Upgrade for PreparedUpdate {
    async fn check(&self) -> Result<()> {
        Self::check(self).await
    }

    async fn carry_out(self: Box<Self>) -> Result<RunOutcome> {
        Self::carry_out(*self).await
    }
}
