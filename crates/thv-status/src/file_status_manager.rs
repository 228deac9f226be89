//! Records and status files on disk.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use thv_core::gojson::GoTime;
use thv_core::{Clock, Dirs, SystemClock, WorkloadName, WorkloadStatus};
use thv_state::{DocumentName, atomic};

use crate::transaction::{Read, Stored};
use crate::{
    Authority, Change, Changes, ClaimId, Companion, Error, OpGuard, Operation, OwnerGuard, OwnerState,
    PidFile, Reading, Result, Snapshot, StatusManager, lock, status_file, watch,
};

/// Larger files are no records.
const MAX_COMPANION: u64 = 16 << 20;
/// How often a lock is tried for which there is no event.
const PAUSE: Duration = Duration::from_millis(50);
/// A reader that looks whether somebody owns a workload holds the lock for microseconds.
const OWNER_PATIENCE: Duration = Duration::from_secs(1);
/// How long a change waits for ToolHive's lock. Against ToolHive exclusion is best effort.
const TOOLHIVE_PATIENCE: Duration = Duration::from_millis(100);
const FOLDER_MODE: u32 = 0o750;
/// A list is read by this many threads at most, each of which reads at least this many workloads.
const LIST_THREADS: usize = 4;
const LIST_SHARE: usize = 64;

/// Records in `$XDG_STATE_HOME/toolhive/lifecycle`, status files where ToolHive has them.
#[derive(Debug, Clone)]
pub struct FileStatusManager {
    files: Arc<Files>,
}

#[derive(Debug)]
struct Files {
    statuses: PathBuf,
    lifecycle: PathBuf,
    pids: PathBuf,
    temp: PathBuf,
    clock: Arc<dyn Clock>,
}

/// Whether it is looked who owns a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// Yes.
    Always,
    /// Not of a workload that is down by all that is recorded.
    UnlessAtRest,
}

impl FileStatusManager {
    /// The manager of `dirs`; nothing is touched yet.
    pub fn new(dirs: &Dirs) -> Self {
        Self::with_clock(dirs, Arc::new(SystemClock))
    }

    /// As [`new`](Self::new), with another clock for the times in status files.
    pub fn with_clock(dirs: &Dirs, clock: Arc<dyn Clock>) -> Self {
        Self {
            files: Arc::new(Files {
                statuses: dirs.statuses(),
                lifecycle: dirs.lifecycle(),
                pids: dirs.pids(),
                temp: dirs.temp.clone(),
                clock,
            }),
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
                &*self.files.lifecycle,
                io::Error::other(error),
            )),
        }
    }
}

impl Files {
    fn status(&self, name: &str) -> PathBuf {
        self.statuses.join(format!("{name}.json"))
    }

    fn companion(&self, name: &str) -> PathBuf {
        self.lifecycle.join(format!("{name}.json"))
    }

    fn lock(&self, name: &str, which: &str) -> PathBuf {
        self.lifecycle.join(format!("{name}.{which}"))
    }

    /// Where ToolHive's PID files are, and where they used to be.
    fn pid_files(&self, name: &str) -> [PathBuf; 2] {
        let file = format!("toolhive-{name}.pid");
        [self.pids.join(&file), self.temp.join(file)]
    }

    fn create_folders(&self) -> Result<()> {
        for folder in [&self.lifecycle, &self.statuses] {
            atomic::create_folder(folder, FOLDER_MODE)
                .map_err(|e| Error::io("create the folder", folder, e))?;
        }
        Ok(())
    }

    fn read(&self, raw_name: &str, probe: Probe) -> Result<Snapshot> {
        // Status first: a status that the record does not know yet is read once more, both.
        let mut stored = self.stored(raw_name)?;
        let mut read = stored.read();
        if matches!(read.reading, Reading::Foreign(_)) {
            stored = self.stored(raw_name)?;
            read = stored.read();
        }
        let skip = probe == Probe::UnlessAtRest && at_rest(&read, stored.companion.as_ref());
        let owner = if !skip
            && lock::is_held(&self.lock(raw_name, "owner")).map_err(|error| self.lock_failed(error))?
        {
            OwnerState::Alive
        } else {
            OwnerState::Dead
        };
        // ToolHive's rule: a workload that should run without a pid in its status file has one in a PID file.
        let wants_pid = read
            .status
            .as_ref()
            .is_none_or(|file| file.process_id == 0 && file.status == WorkloadStatus::Running);
        Ok(Snapshot {
            raw_name: raw_name.to_owned(),
            name: WorkloadName::new(raw_name).ok(),
            status: read.status,
            damage: read.damage,
            companion: stored.companion,
            reading: read.reading,
            owner,
            pid_file: if wants_pid && owner == OwnerState::Dead {
                self.pid_file(raw_name)
            } else {
                None
            },
        })
    }

    /// What is known of each of `names` that is still there.
    fn read_some(&self, names: &[String]) -> Result<Vec<Snapshot>> {
        let mut snapshots = Vec::with_capacity(names.len());
        for name in names {
            match self.read(name, Probe::UnlessAtRest) {
                // It was removed meanwhile.
                Ok(snapshot) if snapshot.reading == Reading::Nothing => {}
                Ok(snapshot) => snapshots.push(snapshot),
                Err(Error::Invalid { detail, path }) => snapshots.push(Snapshot {
                    name: WorkloadName::new(name).ok(),
                    raw_name: name.clone(),
                    status: None,
                    damage: Some(format!("{}: {detail}", path.display())),
                    companion: None,
                    reading: Reading::ToolHive,
                    owner: OwnerState::Dead,
                    pid_file: None,
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(snapshots)
    }

    fn stored(&self, name: &str) -> Result<Stored> {
        let status = bounded(&self.status(name), status_file::MAX_SIZE)?;
        let path = self.companion(name);
        let companion = match bounded(&path, MAX_COMPANION)? {
            Some(bytes) => Some(parse(&path, &bytes)?),
            None => None,
        };
        Ok(Stored { companion, status })
    }

    fn pid_file(&self, name: &str) -> Option<PidFile> {
        self.pid_files(name).iter().find_map(|path| {
            let text = bounded(path, 64).ok()??;
            let pid = std::str::from_utf8(&text)
                .ok()?
                .trim()
                .parse()
                .ok()
                .filter(|pid| *pid > 0)?;
            let modified = std::fs::metadata(path).ok()?.modified().ok()?;
            Some(PidFile {
                pid,
                modified: Timestamp::try_from(modified).ok()?,
            })
        })
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for folder in [&self.statuses, &self.lifecycle] {
            let failed = |error| Error::io("list", folder, error);
            let entries = match std::fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let file = entry.file_name();
                let name = file.to_str().and_then(|file| file.strip_suffix(".json"));
                if let Some(name) = name.filter(|name| !name.starts_with('.'))
                    && entry.file_type().is_ok_and(|kind| kind.is_file())
                {
                    names.push(name.to_owned());
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// One change: guard, ToolHive's lock, read, record, status file.
    fn update(&self, name: &WorkloadName, authority: Authority<'_>, change: Change) -> Result<Companion> {
        self.create_folders()?;
        let _guard = self.guard(name)?;
        let _toolhive = self.toolhive_lock(name);
        let stored = self.stored(name.as_str())?;
        let now = GoTime::from(&self.clock.now());
        let (companion, status) = stored.apply(name, authority, change, now)?;
        self.write_companion(name, &companion)?;
        if let Some(status) = status {
            self.keep_damaged(name, &stored);
            let path = self.status(name.as_str());
            atomic::replace(&path, ".tmp-", &status).map_err(|e| Error::io("write", path, e))?;
        }
        Ok(companion)
    }

    /// What could not be repaired is kept beside what is written over it, as ToolHive does.
    fn keep_damaged(&self, name: &WorkloadName, stored: &Stored) {
        let read = stored.read();
        if let (Some(damage), Some(bytes)) = (read.damage, &stored.status) {
            let path = self.statuses.join(format!("{name}.json.corrupted"));
            tracing::warn!(workload = %name, damage, kept = %path.display(), "a damaged status file is replaced");
            if let Err(error) = atomic::replace(&path, ".tmp-", bytes) {
                tracing::warn!(%error, "and could not be kept");
            }
        }
    }

    fn write_companion(&self, name: &WorkloadName, companion: &Companion) -> Result<()> {
        let path = self.companion(name.as_str());
        let bytes = encode(&path, companion)?;
        atomic::replace(&path, ".tmp-", &bytes).map_err(|e| Error::io("write", path, e))
    }

    fn guard(&self, name: &WorkloadName) -> Result<File> {
        lock::exclusive(&self.lock(name.as_str(), "guard")).map_err(|e| self.lock_failed(e))
    }

    /// ToolHive's own lock, if it can be had soon. ToolHive unlinks it on release, so it never excludes reliably.
    fn toolhive_lock(&self, name: &WorkloadName) -> Option<File> {
        let path = self.statuses.join(format!("{name}.lock"));
        let deadline = Instant::now() + TOOLHIVE_PATIENCE;
        loop {
            match lock::try_exclusive(&path) {
                Ok(Some(file)) => return Some(file),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => {
                    tracing::debug!(workload = %name, "ToolHive holds its lock; the rules for foreign writes heal it");
                    return None;
                }
                Err(error) => {
                    tracing::warn!(workload = %name, %error, "ToolHive's lock cannot be taken");
                    return None;
                }
            }
        }
    }

    fn lock_failed(&self, source: io::Error) -> Error {
        let path = self.lifecycle.clone();
        match source.kind() {
            io::ErrorKind::Unsupported => Error::NoLocks { path, source },
            _ if source.raw_os_error() == Some(rustix::io::Errno::NOLCK.raw_os_error()) => {
                Error::NoLocks { path, source }
            }
            _ => Error::io("lock a file in", path, source),
        }
    }

    fn create(&self, name: &WorkloadName, mut companion: Companion) -> Result<()> {
        self.create_folders()?;
        let _guard = self.guard(name)?;
        companion.revision = 1;
        let path = self.companion(name.as_str());
        let bytes = encode(&path, &companion)?;
        atomic::create(&path, ".tmp-", &bytes).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { name: name.clone() },
            _ => Error::io("create", path, error),
        })
    }

    fn remove(&self, name: &WorkloadName) -> Result<()> {
        let _guard = self.guard(name)?;
        let text = name.as_str();
        let toolhive = self.toolhive_lock(name);
        let gone = |path: PathBuf| atomic::remove(&path).map_err(|e| Error::io("remove", path, e));
        gone(self.status(text))?;
        for path in self.pid_files(text) {
            gone(path)?;
        }
        if toolhive.is_some() {
            gone(self.statuses.join(format!("{text}.lock")))?;
        }
        gone(self.companion(text))?;
        // Unlinked while they are held: whoever waits for one finds that it is another file by then.
        for which in ["owner", "op", "guard"] {
            gone(self.lock(text, which))?;
        }
        Ok(())
    }

    fn owner_id(&self) -> Result<String> {
        let path = self.lifecycle.join("owner-id");
        let read = || -> Result<Option<String>> {
            Ok(bounded(&path, 256)?
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty()))
        };
        if let Some(id) = read()? {
            return Ok(id);
        }
        self.create_folders()?;
        let id = ClaimId::random();
        match atomic::create(&path, ".tmp-", id.as_str().as_bytes()) {
            Ok(()) => Ok(id.as_str().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                read()?.ok_or_else(|| Error::Invalid {
                    path: path.clone(),
                    detail: "it is empty".into(),
                })
            }
            Err(error) => Err(Error::io("create", path, error)),
        }
    }

    fn write_pid_file(&self, name: &WorkloadName, pid: u32) -> Result<()> {
        atomic::create_folder(&self.pids, FOLDER_MODE)
            .map_err(|e| Error::io("create the folder", &self.pids, e))?;
        let [path, _] = self.pid_files(name.as_str());
        atomic::replace(&path, ".tmp-", pid.to_string().as_bytes()).map_err(|e| Error::io("write", path, e))
    }

    /// Who holds `.op`, in words: the journal tells what the lock cannot.
    fn busy(&self, name: &WorkloadName) -> Error {
        let pending = self
            .stored(name.as_str())
            .ok()
            .and_then(|stored| stored.companion?.pending);
        let detail = match pending {
            Some(pending) => {
                format!(
                    "{} by process {} since {}",
                    pending.operation, pending.pid, pending.since
                )
            }
            None => "another command works on it".into(),
        };
        Error::Conflict {
            name: name.clone(),
            detail,
        }
    }
}

/// The bytes at `path`, at most `limit` of them; `None` when there is no file.
fn bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    atomic::read(path, limit).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => Error::Invalid {
            path: path.to_owned(),
            detail: format!("it is larger than {limit} bytes"),
        },
        _ => Error::io("read", path, error),
    })
}

/// Whether it is down, nobody is recorded to own it, and no verb is under way that could give it an owner.
fn at_rest(read: &Read, companion: Option<&Companion>) -> bool {
    let down = [
        WorkloadStatus::Stopped,
        WorkloadStatus::Error,
        WorkloadStatus::PolicyStopped,
    ];
    read.status
        .as_ref()
        .is_some_and(|file| down.contains(&file.status))
        && companion.is_none_or(|companion| companion.owner.is_none() && companion.pending.is_none())
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Companion> {
    let invalid = |detail: String| Error::Invalid {
        path: path.to_owned(),
        detail,
    };
    let companion: Companion = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    if companion.version > 1 {
        return Err(invalid(format!(
            "it has version {}, which a newer program wrote",
            companion.version
        )));
    }
    Ok(companion)
}

fn encode(path: &Path, companion: &Companion) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(companion).map_err(|e| Error::Invalid {
        path: path.to_owned(),
        detail: e.to_string(),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[async_trait]
impl StatusManager for FileStatusManager {
    async fn read(&self, name: &WorkloadName) -> Result<Snapshot> {
        let name = name.clone();
        self.blocking(move |files| files.read(name.as_str(), Probe::Always))
            .await
    }

    async fn list(&self) -> Result<Vec<Snapshot>> {
        self.blocking(|files| {
            let names = files.names()?;
            let threads = std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(LIST_THREADS);
            let share = names.len().div_ceil(threads).max(LIST_SHARE);
            std::thread::scope(|scope| {
                let readers: Vec<_> = names
                    .chunks(share)
                    .map(|names| scope.spawn(move || files.read_some(names)))
                    .collect();
                let mut snapshots = Vec::with_capacity(names.len());
                for reader in readers {
                    let read = reader.join().map_err(|_| {
                        Error::io("list", &*files.lifecycle, io::Error::other("a reader panicked"))
                    })?;
                    snapshots.extend(read?);
                }
                Ok(snapshots)
            })
        })
        .await
    }

    async fn lock_op(&self, name: &WorkloadName, operation: Operation, timeout: Duration) -> Result<OpGuard> {
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            let of = name.clone();
            let locked = self
                .blocking(move |files| {
                    files.create_folders()?;
                    lock::try_exclusive(&files.lock(of.as_str(), "op")).map_err(|e| files.lock_failed(e))
                })
                .await?;
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
                    lock::try_exclusive(&files.lock(of.as_str(), "owner")).map_err(|e| files.lock_failed(e))
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
            if !lock::is_held(&path).map_err(|e| self.files.lock_failed(e))? {
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
                self.blocking(move |files| {
                    if !files.companion(name.as_str()).exists() {
                        return Err(Error::NotFound { name });
                    }
                    files.update(&name, Authority::StopRequest, change)
                })
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
        let Ok(name) = DocumentName::new(raw_name) else {
            return Ok(());
        };
        if WorkloadName::new(raw_name).is_ok() {
            return Ok(());
        }
        self.blocking(move |files| {
            let status = files.status(name.as_str());
            for path in files.pid_files(name.as_str()).into_iter().chain([status]) {
                atomic::remove(&path).map_err(|e| Error::io("remove", path, e))?;
            }
            Ok(())
        })
        .await
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
        watch::changes(&[&self.files.lifecycle, &self.files.statuses])
    }
}
