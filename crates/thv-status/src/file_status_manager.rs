//! Records and status files on disk.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thv_core::{Clock, Dirs, SystemClock, WorkloadName};
use thv_files::{atomic, lock};

use crate::files::{Files, Probe};
use crate::{
    Authority, Change, Changes, ClaimId, Companion, Error, OpGuard, Operation, OwnerGuard, Result, Snapshot,
    StatusManager, watch,
};

/// How often a lock is tried for which there is no event.
const PAUSE: Duration = Duration::from_millis(50);
/// A reader that looks whether somebody owns a workload holds the lock for microseconds.
const OWNER_PATIENCE: Duration = Duration::from_secs(1);

/// Records in `$XDG_STATE_HOME/toolhive/lifecycle`, status files where ToolHive has them.
#[derive(Debug, Clone)]
pub struct FileStatusManager {
    files: Arc<Files>,
}

impl FileStatusManager {
    /// The manager of `dirs`; nothing is touched yet.
    pub fn new(dirs: &Dirs) -> Self {
        Self::with_clock(dirs, Arc::new(SystemClock))
    }

    /// As [`new`](Self::new), with another clock for the times in status files.
    pub fn with_clock(dirs: &Dirs, clock: Arc<dyn Clock>) -> Self {
        Self {
            files: Arc::new(Files::new(dirs, clock)),
        }
    }

    /// Runs file operations off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let files = Arc::clone(&self.files);
        match tokio::task::spawn_blocking(move || work(&files)).await {
            Ok(result) => result,
            Err(error) => Err(Error::io(
                "work on",
                self.files.lifecycle().path(),
                io::Error::other(error),
            )),
        }
    }
}

#[async_trait]
impl StatusManager for FileStatusManager {
    async fn read(&self, name: &WorkloadName) -> Result<Snapshot> {
        let name = name.clone();
        self.blocking(move |files| files.read(name.as_str(), Probe::Always))
            .await
    }

    async fn list(&self) -> Result<Vec<Snapshot>> {
        self.blocking(Files::list).await
    }

    async fn lock_op(&self, name: &WorkloadName, operation: Operation, timeout: Duration) -> Result<OpGuard> {
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            let of = name.clone();
            let locked = self.blocking(move |files| files.try_op(of.as_str())).await?;
            if let Some(file) = locked {
                return Ok(OpGuard::new(name.clone(), file));
            }
            if tokio::time::Instant::now() >= deadline {
                let of = name.clone();
                let error = self.blocking(move |files| Ok(files.busy(&of))).await?;
                tracing::debug!(%operation, %error, "the lock of changing verbs was not got");
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn acquire_owner(&self, name: &WorkloadName) -> Result<OwnerGuard> {
        let deadline = tokio::time::Instant::now() + OWNER_PATIENCE;
        loop {
            let of = name.clone();
            let locked = self
                .blocking(move |files| {
                    files.create_folders()?;
                    let path = files.lock(of.as_str(), "owner");
                    lock::try_exclusive(&path).map_err(|e| files.lock_failed(&path, e))
                })
                .await?;
            if let Some(file) = locked {
                return Ok(OwnerGuard::from_fd(name.clone(), file.into()));
            }
            if tokio::time::Instant::now() >= deadline {
                let detail = "another supervisor owns it".into();
                return Err(Error::Conflict {
                    name: name.clone(),
                    detail,
                });
            }
            tokio::time::sleep(PAUSE / 5).await;
        }
    }

    async fn owner_free(&self, name: &WorkloadName, timeout: Duration) -> Result<bool> {
        let deadline = tokio::time::Instant::now() + timeout;
        let path = self.files.lock(name.as_str(), "owner");
        loop {
            // A flock has no event; each look is two system calls.
            if !lock::is_held(&path).map_err(|e| self.files.lock_failed(&path, e))? {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE / 5).await;
        }
    }

    async fn update(
        &self,
        name: &WorkloadName,
        authority: Authority<'_>,
        change: Change,
    ) -> Result<Companion> {
        let name = name.clone();
        // What has begun cannot be cancelled: it keeps the lock that allows it.
        match authority {
            Authority::Verb(op) => {
                let op = op.share();
                self.blocking(move |files| files.update(&name, Authority::Verb(&op), change))
                    .await
            }
            Authority::Supervisor(claim) => {
                let claim = claim.clone();
                self.blocking(move |files| files.update(&name, Authority::Supervisor(&claim), change))
                    .await
            }
            Authority::StopRequest => {
                self.blocking(move |files| files.update(&name, Authority::StopRequest, change))
                    .await
            }
        }
    }

    async fn create(&self, name: &WorkloadName, op: &OpGuard, companion: Companion) -> Result<()> {
        let (name, op) = (name.clone(), op.share());
        self.blocking(move |files| {
            let _op = op;
            files.create(&name, companion)
        })
        .await
    }

    async fn remove(&self, name: &WorkloadName, op: OpGuard) -> Result<()> {
        let name = name.clone();
        self.blocking(move |files| {
            let _op = op;
            files.remove(&name)
        })
        .await
    }

    async fn remove_misnamed(&self, raw_name: &str) -> Result<()> {
        // What is no file name has no file either; what a workload can be called is removed under its locks.
        let is_file_name = Path::new(raw_name).file_name() == Some(OsStr::new(raw_name));
        if !is_file_name || WorkloadName::new(raw_name).is_ok() {
            return Ok(());
        }
        let name = raw_name.to_owned();
        self.blocking(move |files| files.remove_misnamed(&name)).await
    }

    async fn claim_is_current(&self, name: &WorkloadName, claim: &ClaimId) -> Result<bool> {
        let (name, claim) = (name.clone(), claim.clone());
        self.blocking(move |files| {
            Ok(files
                .stored(name.as_str())?
                .companion
                .is_some_and(|companion| companion.claim == claim))
        })
        .await
    }

    async fn owner_id(&self) -> Result<String> {
        self.blocking(Files::owner_id).await
    }

    async fn write_pid_file(&self, name: &WorkloadName, pid: u32) -> Result<()> {
        let name = name.clone();
        self.blocking(move |files| files.write_pid_file(&name, pid)).await
    }

    async fn remove_pid_files(&self, name: &WorkloadName) -> Result<()> {
        let name = name.clone();
        self.blocking(move |files| {
            for path in files.pid_files(name.as_str()) {
                atomic::remove(&path).map_err(|e| Error::io("remove", path, e))?;
            }
            Ok(())
        })
        .await
    }

    async fn watch(&self) -> Result<Changes> {
        self.files.create_folders()?;
        Ok(watch::changes(&[
            self.files.lifecycle().path(),
            self.files.statuses().path(),
        ]))
    }
}
