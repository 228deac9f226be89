//! `delete`: proxy, then instance, then state; the record goes last.

use thv_core::WorkloadName;
use thv_runtime::InstanceRef;
use thv_state::StateStoreExt;
use thv_status::Operation;

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
        match self.known(name).await {
            // What another program removed may have left its record.
            Err(Error::NotFound { .. }) if parts.status.read(name).await?.companion.is_none() => {
                return Ok(());
            }
            Err(Error::NotFound { .. }) | Ok(_) => {}
            Err(error) => return Err(error),
        }
        self.request_stop(name, options.grace).await?;
        let op = parts.status.lock_op(name, Operation::Remove, OP_WAIT).await?;
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
        parts.state.delete_run_config(name).await?;
        self.remove_logs(name);
        parts.status.remove(name, op).await?;
        Ok(())
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
