//! `logs`: what the server wrote, and what its proxy did.

use std::path::PathBuf;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use thv_core::{RunConfig, TransportType, WorkloadName};
use thv_runtime::{InstanceRef, LogOptions};

use crate::{Error, LogRequest, Manager, Result};

/// Lines of a log, without their ends.
pub type Lines = BoxStream<'static, Result<Bytes>>;

impl Manager {
    /// What the server of `name` wrote: its standard error, and for an HTTP server its standard output too. After the
    /// instance is gone, what was kept of it.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a remote workload, whose log is elsewhere.
    pub async fn logs(&self, name: &WorkloadName, request: LogRequest) -> Result<Lines> {
        let parts = &self.parts;
        let snapshot = self.known(name).await?;
        let config = parts.find_config(name).await?;
        if config.as_ref().is_some_and(RunConfig::is_remote) {
            return Err(Error::Invalid {
                what: "logs".into(),
                detail: format!("the server of \"{name}\" is remote; its proxy's log is there with --proxy"),
            });
        }
        let recorded = snapshot
            .companion
            .as_ref()
            .and_then(|companion| companion.runtime.as_ref());
        let runtime = parts
            .runtime_of(name, recorded.map(|runtime| &runtime.kind), config.as_ref())
            .await?;
        if let Some(runtime) = runtime
            && let Some(instance) = runtime.inspect(name).await?
        {
            let which = InstanceRef::exact(name.clone(), instance.id);
            let options = LogOptions {
                tail: request.tail,
                follow: request.follow,
                without_stdout: config
                    .as_ref()
                    .is_some_and(|config| config.transport == TransportType::Stdio),
            };
            let lines = runtime.logs(&which, options).await?;
            return Ok(lines.map_ok(|line| line.line).map_err(Error::from).boxed());
        }
        self.file(parts.dirs.server_logs().join(format!("{name}.log")), request)
            .await
    }

    /// The log of the workload's proxy. A supervisor in an application writes none: its application does.
    pub async fn proxy_logs(&self, name: &WorkloadName, request: LogRequest) -> Result<Lines> {
        self.known(name).await?;
        self.file(self.parts.dirs.proxy_logs().join(format!("{name}.log")), request)
            .await
    }

    async fn file(&self, path: PathBuf, request: LogRequest) -> Result<Lines> {
        let action = format!("read the log {}", path.display());
        match thv_runtime::log_file(&path, request.tail, request.follow).await {
            Ok(lines) => Ok(lines
                .map_err(move |source| Error::Io {
                    action: action.clone(),
                    source,
                })
                .boxed()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(futures_util::stream::empty().boxed())
            }
            Err(source) => Err(Error::Io { action, source }),
        }
    }
}
