//! `delete`: proxy, then instance, then state; the record goes last.

use std::time::Duration;

use thv_core::WorkloadName;
use thv_state::{DocumentKind, Keep, StateStoreExt};
use thv_status::{ClaimId, Desired, OpGuard, Operation};

use crate::owner::remove_instance;
use crate::parts::{Parts, keep};
use crate::stop::begin;
use crate::{Error, Manager, Result, StopOptions, kept_image, toolhive};

impl Manager {
    /// Deletes `name` and everything of it. What does not exist is deleted already.
    ///
    /// Once it has begun it goes forward: a `delete` that was cut off is finished by the next verb on the name, or by
    /// [`reconcile`](Self::reconcile).
    ///
    /// # Errors
    /// As [`stop`](Self::stop), but for `NotFound`; `AnotherInstallation` for an instance that is not this one's.
    #[tracing::instrument(skip_all, fields(workload = %name))]
    pub async fn delete(&self, name: &WorkloadName, options: StopOptions) -> Result<()> {
        match self.ask_to_stop(name, options).await {
            Err(Error::NotFound { .. }) => return self.delete_remains(name).await,
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        thv_process::crash_point!(RemoveAsked);
        match self.lock(name, Operation::Remove).await {
            // Another `delete` was faster.
            Err(Error::NotFound { .. }) => Ok(()),
            other => self.delete_under(name, other?, options).await,
        }
    }

    /// Deletes `name` unless somebody else claimed it since, or wants it to be stopped. `true` when it was deleted.
    pub(crate) async fn delete_claimed(&self, name: &WorkloadName, claim: &ClaimId) -> Result<bool> {
        let op = match self.lock(name, Operation::Remove).await {
            Err(Error::NotFound { .. }) => return Ok(true),
            other => other?,
        };
        let snapshot = self.parts.status.read(name).await?;
        let claimed = snapshot
            .companion
            .as_ref()
            .is_some_and(|companion| companion.claim == *claim);
        if !claimed || snapshot.desired() == Desired::Stopped {
            return Ok(false);
        }
        self.delete_under(name, op, StopOptions::default()).await?;
        Ok(true)
    }

    async fn delete_under(&self, name: &WorkloadName, op: OpGuard, options: StopOptions) -> Result<()> {
        let parts = &self.parts;
        let saved = parts.saved(name).await?;
        let config = saved.config();
        begin(parts, name, &op, Operation::Remove, config, options).await?;
        thv_process::crash_point!(RemoveBegun);
        Box::pin(self.end(name, &op, config, options)).await?;
        thv_process::crash_point!(RemoveEnded);
        let snapshot = parts.status.read(name).await?;
        remove_instance(parts, name, &snapshot, config, options.force).await?;
        thv_process::crash_point!(RemoveInstanceRemoved);
        kept_image::let_go(parts, name, &snapshot).await;
        toolhive::remove_profile(&parts.dirs, config);
        parts.state.delete_run_config_under(name, keep(&op)).await?;
        thv_process::crash_point!(RemoveConfigDeleted);
        remove_logs(parts, name);
        thv_process::crash_point!(RemoveLogsRemoved);
        parts.status.remove(name, op).await?;
        Ok(())
    }

    /// Deletes the files of a workload whose name is none that a workload can have: `list` shows such names, which older
    /// programs allowed. Of a valid name nothing is done here: that is what [`delete`](Self::delete) is for.
    ///
    /// # Errors
    /// `InvalidName` when there are no such files, or when it is no file name at all; `Unsupported` when an engine has an
    /// instance of it, which nobody here could address.
    #[tracing::instrument(skip_all)]
    pub async fn delete_misnamed(&self, raw_name: &str) -> Result<()> {
        let parts = &self.parts;
        let invalid = match WorkloadName::new(raw_name) {
            Ok(name) => {
                return Err(Error::Invalid {
                    what: format!("name \"{name}\""),
                    detail: "it is a valid one: delete the workload by it".into(),
                });
            }
            Err(error) => error,
        };
        // A status file may have a name that no document can have.
        let configs = parts.state.list(DocumentKind::RunConfig).await?;
        let config = configs.into_iter().find(|name| name.as_str() == raw_name);
        let snapshots = parts.status.list().await?;
        if config.is_none() && !snapshots.iter().any(|snapshot| snapshot.raw_name == raw_name) {
            return Err(invalid.into());
        }
        for listing in parts.runtimes.list().await {
            let mut instances = listing.instances?.into_iter();
            if let Some(instance) = instances.find(|instance| instance.workload == raw_name) {
                return Err(Error::Unsupported {
                    what: format!("the removal of \"{}\"", raw_name.escape_debug()),
                    detail: format!(
                        "{} has its instance {}: remove that first, with the engine's own command",
                        listing.runtime, instance.id
                    ),
                });
            }
        }
        if let Some(config) = config {
            parts
                .state
                .delete(DocumentKind::RunConfig, &config, Keep::nothing())
                .await?;
        }
        parts.status.remove_misnamed(raw_name).await?;
        Ok(())
    }

    /// Of what is unknown there may be a record that another program left, or lock files that a `delete` left which was
    /// cut off at its very end. If somebody holds one, the workload is just being made.
    async fn delete_remains(&self, name: &WorkloadName) -> Result<()> {
        let status = &self.parts.status;
        let op = match status.lock_op(name, Operation::Remove, Duration::ZERO).await {
            Err(thv_status::Error::Conflict { .. }) => return Ok(()),
            other => other?,
        };
        match self.known(name).await {
            Err(Error::NotFound { .. }) => {
                let snapshot = status.read(name).await?;
                if snapshot.companion.is_some() {
                    remove_instance(&self.parts, name, &snapshot, None, false).await?;
                }
                Ok(status.remove(name, op).await?)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The server's log belongs to the workload; the proxy's is kept, as ToolHive keeps it.
pub(crate) fn remove_logs(parts: &Parts, name: &WorkloadName) {
    let log = parts.dirs.server_log(name.as_str());
    if let Err(error) = thv_runtime::remove_logs(&log) {
        tracing::warn!(path = %log.display(), %error, "a log could not be removed");
    }
}
