//! `delete`: proxy, then instance, then state; the record goes last.

use std::time::Duration;

use thv_core::WorkloadName;
use thv_runtime::InstanceRef;
use thv_state::{DocumentKind, DocumentName, Keep, StateStoreExt};
use thv_status::Operation;

use crate::parts::keep;
use crate::stop::{OP_WAIT, begin};
use crate::{Error, Manager, Result, StopOptions, journal, owner};

impl Manager {
    /// Deletes `name` and everything of it. What does not exist is deleted already.
    ///
    /// Once it has begun it goes forward: a `delete` that was cut off is finished by the next verb on the name, or by
    /// [`reconcile`](Self::reconcile).
    #[tracing::instrument(skip_all, fields(workload = %name))]
    pub async fn delete(&self, name: &WorkloadName, options: StopOptions) -> Result<()> {
        let parts = &self.parts;
        let unknown = self.is_unknown(name).await?;
        self.request_stop(name, options.grace).await?;
        // Of what is unknown there may be lock files that a `delete` left which was cut off at its very end. If somebody
        // holds one, the workload is just being made.
        let wait = if unknown { Duration::ZERO } else { OP_WAIT };
        let op = match parts.status.lock_op(name, Operation::Remove, wait).await {
            Err(thv_status::Error::Conflict { .. }) if unknown => return Ok(()),
            other => other?,
        };
        if unknown && self.is_unknown(name).await? {
            parts.status.remove(name, op).await?;
            return Ok(());
        }
        if journal::settle(parts, name, &op).await? == journal::Settled::Removed {
            parts.status.remove(name, op).await?;
            return Ok(());
        }
        let config = parts.state.read_run_config(name).await?;
        begin(parts, name, &op, Operation::Remove, config.as_ref()).await?;
        Box::pin(self.end(name, &op, config.as_ref(), options)).await?;
        let snapshot = parts.status.read(name).await?;
        let recorded = snapshot
            .companion
            .as_ref()
            .and_then(|companion| companion.runtime.as_ref());
        let runtime = parts
            .runtime_of(name, recorded.map(|runtime| &runtime.kind), config.as_ref())
            .await?;
        if let Some(runtime) = runtime {
            if let Some(instance) = runtime.inspect(name).await? {
                owner::check(&*parts.status, &instance, options.force).await?;
            }
            // By name: what an engine could not delete before may be left half.
            runtime.remove(&InstanceRef::named(name.clone())).await?;
        }
        parts.state.delete_run_config_under(name, keep(&op)).await?;
        self.remove_logs(name);
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
        let Ok(document) = DocumentName::new(raw_name) else {
            return Err(invalid.into());
        };
        let config = parts
            .state
            .list(DocumentKind::RunConfig)
            .await?
            .contains(&document);
        let snapshots = parts.status.list().await?;
        if !config && !snapshots.iter().any(|snapshot| snapshot.raw_name == raw_name) {
            return Err(invalid.into());
        }
        for listing in parts.runtimes.list().await {
            let mut instances = listing.instances?.into_iter();
            if let Some(instance) = instances.find(|instance| instance.workload == raw_name) {
                return Err(Error::Unsupported {
                    what: format!("the removal of \"{document}\""),
                    detail: format!(
                        "{} has its instance {}: remove that first, with the engine's own command",
                        listing.runtime, instance.id
                    ),
                });
            }
        }
        parts
            .state
            .delete(DocumentKind::RunConfig, &document, Keep::nothing())
            .await?;
        parts.status.remove_misnamed(raw_name).await?;
        Ok(())
    }

    /// Whether there is nothing of it. What another program removed may have left its record: that is known.
    async fn is_unknown(&self, name: &WorkloadName) -> Result<bool> {
        match self.known(name).await {
            Ok(_) => Ok(false),
            Err(Error::NotFound { .. }) => Ok(self.parts.status.read(name).await?.companion.is_none()),
            Err(error) => Err(error),
        }
    }

    /// The server's log belongs to the workload; the proxy's is kept, as ToolHive keeps it.
    fn remove_logs(&self, name: &WorkloadName) {
        let log = self.parts.dirs.server_logs().join(format!("{name}.log"));
        match std::fs::remove_file(&log) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %log.display(), %error, "a log could not be removed"),
        }
    }
}
