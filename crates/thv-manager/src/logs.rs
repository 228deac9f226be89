//! `logs`: what the server wrote, and what its proxy did.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use thv_core::{RunConfig, TransportType, WorkloadName};
use thv_runtime::{InstanceRef, LogOptions};

use crate::parts::Saved;
use crate::{Error, LogRequest, Manager, Result};

/// Lines of a log, without their ends.
pub type Lines = BoxStream<'static, Result<Bytes>>;

impl Manager {
    /// What the server of `name` wrote: its standard error, and for an HTTP server its standard output too. After the
    /// instance is gone, what was kept of it.
    ///
    /// # Errors
    /// `NotFound`; `LoggedElsewhere` of a remote workload; `Runtime` when its runtime does not answer. Of the stream: what
    /// keeps it from being read on. A stream that is dropped is read no more.
    pub async fn logs(&self, name: &WorkloadName, request: LogRequest) -> Result<Lines> {
        let parts = &self.parts;
        let snapshot = self.known(name).await?;
        let saved = parts.saved(name).await?;
        if let Saved::Damaged(error) = &saved {
            tracing::warn!(workload = %name, %error, "going on without it");
        }
        let config = saved.config();
        if config.is_some_and(RunConfig::is_remote) {
            return Err(Error::LoggedElsewhere {
                name: name.to_string(),
            });
        }
        let recorded = snapshot
            .companion
            .as_ref()
            .and_then(|companion| companion.runtime.as_ref());
        let runtime = parts
            .runtime_of(name, recorded.map(|runtime| &runtime.kind), config)
            .await?;
        if let Some(runtime) = runtime
            && let Some(instance) = runtime.inspect(name).await?
        {
            let which = InstanceRef::exact(name.clone(), instance.id);
            let options = LogOptions {
                tail: request.tail,
                follow: request.follow,
                without_stdout: config.is_some_and(|config| config.transport == TransportType::Stdio),
            };
            match runtime.logs(&which, options).await {
                // The supervisor wrote it down.
                Err(thv_runtime::Error::NotLogged { .. }) => {}
                lines => return Ok(lines?.map_ok(|line| line.line).map_err(Error::from).boxed()),
            }
        }
        self.file(parts.dirs.server_log(name.as_str()), request).await
    }

    /// The log of the workload's proxy. A supervisor in an application writes none: its application does.
    ///
    /// # Errors
    /// `NotFound`; `Io` when the log cannot be opened, and of the stream, when it cannot be read on.
    pub async fn proxy_logs(&self, name: &WorkloadName, request: LogRequest) -> Result<Lines> {
        self.known(name).await?;
        self.file(self.parts.dirs.proxy_log(name.as_str()), request).await
    }

    /// Removes the logs of workloads that do not exist, of their proxies and of their servers, with what rotation left of
    /// them. The paths that are gone, in their order.
    ///
    /// # Errors
    /// What keeps the folders from being read, or a log from being removed.
    pub async fn prune_logs(&self) -> Result<Vec<PathBuf>> {
        let dirs = &self.parts.dirs;
        // The logs first: a workload that is made meanwhile has its record before its log.
        let logs = logs_in([dirs.proxy_logs(), dirs.server_logs()]).await?;
        let known = self.all_names().await?;
        let mut removed = Vec::new();
        for (workload, path) in logs {
            if known.contains(&workload) {
                continue;
            }
            match tokio::fs::remove_file(&path).await {
                Ok(()) => removed.push(path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let action = format!("remove the log {}", path.display());
                    return Err(Error::Io { action, source });
                }
            }
        }
        Ok(removed)
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(futures_util::stream::empty().boxed())
            }
            Err(source) => Err(Error::Io { action, source }),
        }
    }
}

/// The logs in some folders and whose they are.
async fn logs_in(folders: [PathBuf; 2]) -> Result<Vec<(String, PathBuf)>> {
    let list = move || {
        let mut logs = Vec::new();
        for folder in folders {
            let failed = |source| Error::Io {
                action: format!("list the logs in {}", folder.display()),
                source,
            };
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
                if let Some(workload) = entry.file_name().to_str().and_then(workload_of)
                    && is_file
                {
                    logs.push((workload.to_owned(), entry.path()));
                }
            }
        }
        logs.sort_unstable_by(|one, other| one.1.cmp(&other.1));
        Ok(logs)
    };
    let listed = tokio::task::spawn_blocking(list).await;
    listed.map_err(|error| Error::Io {
        action: "list the logs".into(),
        source: io::Error::other(error),
    })?
}

/// The workload of a log: `<name>.log`, or `<name>.log.<number>` after a rotation. No other file is one.
fn workload_of(file: &str) -> Option<&str> {
    let log = match file.rsplit_once('.') {
        Some((log, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => log,
        _ => file,
    };
    log.strip_suffix(".log").filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_names_its_workload() {
        for (file, workload) in [
            ("fetch.log", Some("fetch")),
            ("fetch.log.1", Some("fetch")),
            ("a.log.log.12", Some("a.log")),
            ("a.1.log", Some("a.1")),
            ("fetch.log.old", None),
            ("fetch.txt", None),
            (".log", None),
            ("fetch.log.", None),
        ] {
            assert_eq!(workload_of(file), workload, "{file}");
        }
    }
}
