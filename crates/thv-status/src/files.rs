//! The files of records and statuses, and one change of them. Blocking.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thv_core::gojson::GoTime;
use thv_core::{Clock, Dirs, WorkloadName, WorkloadStatus};
use thv_files::{Folder, atomic, lock, spare};

use crate::listing::Known;
use crate::on_disk::{FileBytes, Unusable, bounded, damage, file_bytes, parse};
use crate::transaction::{Read, Stored};
use crate::{
    Authority, Change, ClaimId, Companion, Error, OwnerState, PidFile, Reading, Result, Snapshot, status_file,
};

/// Larger files are no records.
pub(crate) const MAX_COMPANION: u64 = 16 << 20;
/// How long a change waits for another one of the same workload, which takes milliseconds.
const GUARD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a removal waits for a reader that looks whether somebody owns the workload.
const OWNER_PATIENCE: Duration = Duration::from_secs(1);
/// How long a change waits for ToolHive's lock. Against ToolHive exclusion is best effort.
const TOOLHIVE_PATIENCE: Duration = Duration::from_millis(100);
/// How soon a lock is tried again that is held for milliseconds.
const PAUSE: Duration = Duration::from_millis(2);
const FOLDER_MODE: u32 = 0o750;

#[derive(Debug)]
pub(crate) struct Files {
    statuses: Folder,
    lifecycle: Folder,
    pids: PathBuf,
    temp: PathBuf,
    clock: Arc<dyn Clock>,
    swept: Once,
    pub(crate) known: Known,
}

/// Whether it is looked who owns a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Yes.
    Always,
    /// Not of a workload that is down by all that is recorded.
    UnlessAtRest,
}

impl Files {
    pub(crate) fn new(dirs: &Dirs, clock: Arc<dyn Clock>) -> Self {
        Self {
            statuses: Folder::new(dirs.statuses()),
            lifecycle: Folder::new(dirs.lifecycle()),
            pids: dirs.pids(),
            temp: dirs.temp.clone(),
            clock,
            swept: Once::new(),
            known: Known::default(),
        }
    }

    pub(crate) fn lifecycle(&self) -> &Folder {
        &self.lifecycle
    }

    pub(crate) fn statuses(&self) -> &Folder {
        &self.statuses
    }

    pub(crate) fn status(&self, name: &str) -> PathBuf {
        self.statuses.path().join(format!("{name}.json"))
    }

    pub(crate) fn companion(&self, name: &str) -> PathBuf {
        self.lifecycle.path().join(format!("{name}.json"))
    }

    pub(crate) fn lock(&self, name: &str, which: &str) -> PathBuf {
        self.lifecycle.path().join(format!("{name}.{which}"))
    }

    /// Where ToolHive's PID files are, and where they used to be.
    pub(crate) fn pid_files(&self, name: &str) -> [PathBuf; 2] {
        let file = format!("toolhive-{name}.pid");
        [self.pids.join(&file), self.temp.join(file)]
    }

    pub(crate) fn create_folders(&self) -> Result<()> {
        for folder in [self.lifecycle.path(), self.statuses.path()] {
            atomic::create_folder(folder, FOLDER_MODE)
                .map_err(|e| Error::io("create the folder", folder, e))?;
        }
        Ok(())
    }

    /// Tries to take the lock of changing verbs. The first one takes away what killed writers left.
    pub(crate) fn try_op(&self, name: &str) -> Result<Option<File>> {
        self.create_folders()?;
        self.swept.call_once(|| {
            for folder in [self.lifecycle.path(), self.statuses.path(), &self.pids] {
                if let Err(error) = atomic::sweep(folder) {
                    tracing::debug!(folder = %folder.display(), %error, "what was left there stays");
                }
            }
        });
        let path = self.lock(name, "op");
        lock::try_exclusive(&path).map_err(|e| self.lock_failed(&path, e))
    }

    pub(crate) fn read(&self, raw_name: &str, probe: Probe) -> Result<Snapshot> {
        // Status first: a status that the record does not know yet is read once more, both.
        let mut stored = self.stored(raw_name)?;
        let mut read = stored.read();
        if matches!(read.reading, Reading::Foreign(_)) {
            stored = self.stored(raw_name)?;
            read = stored.read();
        }
        let owner = self.lock(raw_name, "owner");
        let held = || lock::is_held(&owner);
        self.snapshot(raw_name, read, stored.companion.map(Arc::new), probe, held)
    }

    /// What a read found of one workload; `held` looks whether somebody owns it.
    pub(crate) fn snapshot(
        &self,
        raw_name: &str,
        read: Read,
        companion: Option<Arc<Companion>>,
        probe: Probe,
        held: impl FnOnce() -> io::Result<bool>,
    ) -> Result<Snapshot> {
        let skip = probe == Probe::UnlessAtRest && at_rest(&read, companion.as_deref());
        let owner =
            if !skip && held().map_err(|error| self.lock_failed(&self.lock(raw_name, "owner"), error))? {
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
            damage: read.damage.or_else(|| {
                let why = read.status_damage?;
                Some(damage(&self.status(raw_name), &why))
            }),
            companion,
            reading: read.reading,
            overruled: read.overruled,
            owner,
            pid_file: if wants_pid && owner == OwnerState::Dead {
                self.pid_file(raw_name)
            } else {
                None
            },
        })
    }

    pub(crate) fn stored(&self, name: &str) -> Result<Stored> {
        let mut stored = Stored::default();
        match file_bytes(&self.status(name), status_file::MAX_SIZE)? {
            FileBytes::None => {}
            FileBytes::Some(bytes) => stored.status = Some(bytes),
            FileBytes::NoFile(why) => stored.no_status_file(why),
        }
        let path = self.companion(name);
        let damage = match file_bytes(&path, MAX_COMPANION)? {
            FileBytes::None => None,
            FileBytes::Some(bytes) => match parse(&bytes) {
                Ok(companion) => {
                    stored.companion = Some(companion);
                    None
                }
                Err(unusable) => Some(unusable),
            },
            FileBytes::NoFile(why) => Some(Unusable::Damaged(why)),
        };
        stored.damage = damage.map(|unusable| unusable.damage(path)).transpose()?;
        Ok(stored)
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

    /// One change: guard, ToolHive's lock, read, record, status file.
    pub(crate) fn update(
        &self,
        name: &WorkloadName,
        authority: Authority<'_>,
        change: Change,
    ) -> Result<Companion> {
        // Only a verb makes a record; for anybody else one that is gone stays so, with all its locks.
        let makes = matches!(authority, Authority::Verb(_));
        if !makes && !self.companion(name.as_str()).exists() {
            return Err(Stored::refusal(name, authority));
        }
        self.create_folders()?;
        let _guard = self.guard(name)?;
        let toolhive = self.toolhive_lock(name);
        let stored = self.stored(name.as_str())?;
        if !makes && stored.companion.is_none() && stored.damage.is_none() {
            self.remove_locks(name, toolhive.is_some(), &["guard"])?;
            return Err(Stored::refusal(name, authority));
        }
        let now = GoTime::from(&self.clock.now());
        let (companion, status) = stored.apply(name, authority, change, now)?;
        self.keep_damaged(name, &stored, status.is_some());
        self.write_companion(name, &companion)?;
        thv_process::crash_point!(RecordWritten);
        if let Some(status) = status {
            let path = self.status(name.as_str());
            atomic::replace(&path, ".tmp-", &status).map_err(|e| Error::io("write", path, e))?;
        }
        self.keep_spare();
        Ok(companion)
    }

    /// What stops or removes is recorded on a full disk too.
    fn keep_spare(&self) {
        for folder in [self.lifecycle.path(), self.statuses.path()] {
            if let Err(error) = spare::keep(folder) {
                tracing::debug!(folder = %folder.display(), %error, "there is less room for when the disk is full");
            }
        }
    }

    /// What could not be repaired is kept beside what is written over it, as ToolHive does.
    fn keep_damaged(&self, name: &WorkloadName, stored: &Stored, with_status: bool) {
        let name = name.as_str();
        let mut damaged = Vec::new();
        if stored.damage.is_some() {
            damaged.push(self.companion(name));
        }
        if with_status && stored.status_is_damaged() {
            damaged.push(self.status(name));
        }
        for path in damaged {
            let kept = path.with_extension("json.corrupted");
            tracing::warn!(workload = name, kept = %kept.display(), "a damaged file is replaced");
            if path.is_dir() {
                // The write itself takes it out of the way, and keeps what is in it.
                continue;
            }
            // A second name for it, not a copy: it may be a pipe, or larger than what is left of the disk.
            let linked = atomic::remove(&kept).and_then(|_| std::fs::hard_link(&path, &kept));
            if let Err(error) = linked {
                tracing::warn!(%error, "and could not be kept");
            }
        }
    }

    fn write_companion(&self, name: &WorkloadName, companion: &Companion) -> Result<()> {
        let path = self.companion(name.as_str());
        let bytes = encode(&path, companion)?;
        atomic::replace(&path, ".tmp-", &bytes).map_err(|e| Error::io("write", path, e))
    }

    /// The lock of one change. Nobody holds it longer than that takes, unless its process is halted.
    fn guard(&self, name: &WorkloadName) -> Result<File> {
        self.wait_for(name, "guard", GUARD_PATIENCE)?
            .ok_or_else(|| Error::Conflict {
                name: name.clone(),
                detail: format!(
                    "another process has been changing it for {} s",
                    GUARD_PATIENCE.as_secs()
                ),
            })
    }

    fn wait_for(&self, name: &WorkloadName, which: &str, patience: Duration) -> Result<Option<File>> {
        let path = self.lock(name.as_str(), which);
        let deadline = Instant::now() + patience;
        loop {
            let locked = lock::try_exclusive(&path).map_err(|e| self.lock_failed(&path, e))?;
            if locked.is_some() || Instant::now() >= deadline {
                return Ok(locked);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Unlinks locks that are held, with ToolHive's if that is held too: whoever waits for one finds that it is another
    /// file by then.
    fn remove_locks(&self, name: &WorkloadName, toolhive: bool, ours: &[&str]) -> Result<()> {
        if toolhive {
            gone(self.statuses.path().join(format!("{name}.lock")))?;
        }
        for which in ours {
            gone(self.lock(name.as_str(), which))?;
        }
        Ok(())
    }

    /// ToolHive's own lock, if it can be had soon. ToolHive unlinks it on release, so it never excludes reliably.
    fn toolhive_lock(&self, name: &WorkloadName) -> Option<File> {
        let path = self.statuses.path().join(format!("{name}.lock"));
        let deadline = Instant::now() + TOOLHIVE_PATIENCE;
        loop {
            match lock::try_exclusive(&path) {
                Ok(Some(file)) => return Some(file),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(PAUSE),
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

    pub(crate) fn lock_failed(&self, lock: &Path, source: io::Error) -> Error {
        let path = self.lifecycle.path().to_owned();
        match source.kind() {
            io::ErrorKind::Unsupported => Error::NoLocks { path, source },
            _ if source.raw_os_error() == Some(rustix::io::Errno::NOLCK.raw_os_error()) => {
                Error::NoLocks { path, source }
            }
            _ => Error::io("lock", lock, source),
        }
    }

    pub(crate) fn create(&self, name: &WorkloadName, mut companion: Companion) -> Result<()> {
        self.create_folders()?;
        let _guard = self.guard(name)?;
        companion.revision = 1;
        let path = self.companion(name.as_str());
        let bytes = encode(&path, &companion)?;
        atomic::create(&path, ".tmp-", &bytes).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { name: name.clone() },
            _ => Error::io("create", path, error),
        })?;
        self.keep_spare();
        Ok(())
    }

    pub(crate) fn remove(&self, name: &WorkloadName) -> Result<()> {
        self.create_folders()?;
        let _owner = self
            .wait_for(name, "owner", OWNER_PATIENCE)?
            .ok_or_else(|| Error::Conflict {
                name: name.clone(),
                detail: "its supervisor lives".into(),
            })?;
        let _guard = self.guard(name)?;
        let text = name.as_str();
        let toolhive = self.toolhive_lock(name);
        gone(self.status(text))?;
        thv_process::crash_point!(RecordStatusRemoved);
        for path in self.pid_files(text) {
            gone(path)?;
        }
        for damaged in [self.status(text), self.companion(text)] {
            remove_kept(&damaged)?;
        }
        gone(self.companion(text))?;
        thv_process::crash_point!(RecordRemoved);
        self.remove_locks(name, toolhive.is_some(), &["owner", "op", "guard"])
    }

    /// Status file and PID files; there is neither a record nor a lock.
    pub(crate) fn remove_misnamed(&self, raw_name: &str) -> Result<()> {
        gone(self.status(raw_name))?;
        self.pid_files(raw_name).into_iter().try_for_each(gone)
    }

    pub(crate) fn owner_id(&self) -> Result<String> {
        let path = self.lifecycle.path().join("owner-id");
        let unusable = |why: &str| Error::Invalid {
            path: path.clone(),
            detail: format!(
                "{why}; without it there will be a new one, and what runs by now will be another installation's"
            ),
        };
        let read = || -> Result<Option<String>> {
            let bytes = match file_bytes(&path, 256)? {
                FileBytes::None => return Ok(None),
                FileBytes::Some(bytes) => bytes,
                FileBytes::NoFile(why) => return Err(unusable(&why)),
            };
            let text = String::from_utf8(bytes).map_err(|_| unusable("it is no text"))?;
            match text.trim() {
                "" => Err(unusable("it is empty")),
                id => Ok(Some(id.to_owned())),
            }
        };
        if let Some(id) = read()? {
            return Ok(id);
        }
        self.create_folders()?;
        let id = ClaimId::random();
        match atomic::create(&path, ".tmp-", id.as_str().as_bytes()) {
            Ok(()) => Ok(id.as_str().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                read()?.ok_or_else(|| unusable("it is a link that leads nowhere"))
            }
            Err(error) => Err(Error::io("create", path, error)),
        }
    }

    pub(crate) fn write_pid_file(&self, name: &WorkloadName, pid: u32) -> Result<()> {
        atomic::create_folder(&self.pids, FOLDER_MODE)
            .map_err(|e| Error::io("create the folder", &self.pids, e))?;
        let [path, _] = self.pid_files(name.as_str());
        atomic::replace(&path, ".tmp-", pid.to_string().as_bytes()).map_err(|e| Error::io("write", path, e))
    }

    /// Who holds `.op`, in words: the journal tells what the lock cannot.
    pub(crate) fn busy(&self, name: &WorkloadName) -> Error {
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

/// Removes a file; absence is what is wanted.
fn gone(path: PathBuf) -> Result<()> {
    match atomic::remove(&path) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::io("remove", path, error)),
    }
}

/// Removes what was kept of a damaged file at `path`, but no folder: what is in it is somebody else's.
fn remove_kept(path: &Path) -> Result<()> {
    let kept = path.with_extension("json.corrupted");
    let is_folder = std::fs::symlink_metadata(&kept).is_ok_and(|about| about.is_dir());
    if is_folder { Ok(()) } else { gone(kept) }
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

fn encode(path: &Path, companion: &Companion) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(companion).map_err(|e| Error::Invalid {
        path: path.to_owned(),
        detail: e.to_string(),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}
