//! Instances as records on disk.
//!
//! One JSON file for each, `instances/<name>.json` (0600), replaced by an atomic rename. Whoever changes one holds
//! the flock of `instances/<name>.lock`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thv_core::{TransportType, WorkloadName, gojson};
use thv_files::{Folder, Parsed, atomic, in_shares, lock, why_no_file};
use thv_process::{Containment, ProcessIdentity};
use thv_runtime::{InstanceId, Result};

use crate::error::{failed, file};
use crate::program::TOKEN;
use crate::tree::Roots;

const VERSION: u32 = 1;
/// The id of what cannot be told.
const DAMAGED: &str = "damaged";
/// A record is some kilobytes; what is far larger is not one.
const MAX_RECORD: u64 = 4 << 20;
/// How the files begin that are not whole yet.
const TEMPORARY: &str = ".record-";

/// An instance. No values of its environment: they are secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) workload: WorkloadName,
    pub(crate) instance_name: String,
    pub(crate) id: InstanceId,
    /// What `TOOLHIVE_INSTANCE` is in the environment of its processes.
    pub(crate) token: String,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) env_names: BTreeSet<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) transport: TransportType,
    pub(crate) port: Option<u16>,
    pub(crate) log: PathBuf,
    pub(crate) created: Timestamp,
    pub(crate) boot_id: String,
    /// What lives as long as the instance: its keeper. `None` until the start was confirmed.
    pub(crate) process: Option<ProcessIdentity>,
    /// The server itself; `None` also when it had ended before it could be looked at.
    #[serde(default)]
    pub(crate) server: Option<ProcessIdentity>,
    /// How its processes are kept together.
    #[serde(default)]
    pub(crate) containment: Option<Containment>,
    /// How it ended, where its parent lived to learn it.
    pub(crate) exit_code: Option<i64>,
}

impl Record {
    pub(crate) const VERSION: u32 = VERSION;

    /// By what its processes are known.
    pub(crate) fn roots(&self) -> Roots {
        Roots {
            workload: self.workload.to_string(),
            mark: (TOKEN, self.token.clone()),
            leaders: self.process.iter().chain(&self.server).cloned().collect(),
        }
    }
}

/// What is under a name.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    Record(Arc<Record>),
    /// A file that is no record, and why. Nobody can tell which instance it was.
    Damaged(String),
}

impl Found {
    /// The id of the instance, if there is one.
    pub(crate) fn id(&self) -> Option<InstanceId> {
        match self {
            Self::Nothing => None,
            Self::Record(record) => Some(record.id.clone()),
            Self::Damaged(_) => Some(InstanceId::new(DAMAGED)),
        }
    }

    /// Whether `id` may mean this: a damaged record may be any one's.
    pub(crate) fn is(&self, id: &InstanceId) -> bool {
        match self {
            Self::Nothing => false,
            Self::Record(record) => record.id == *id,
            Self::Damaged(_) => true,
        }
    }
}

/// The folder of records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    folder: Arc<Folder>,
    /// What was listed last.
    known: Arc<Parsed<Record>>,
    /// What killed writers left is taken away once.
    swept: Arc<Once>,
}

/// The right to change the record of one workload, until it is dropped.
#[derive(Debug)]
pub(crate) struct Locked {
    _flock: File,
    lock: PathBuf,
    path: PathBuf,
}

impl Records {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder: Arc::new(Folder::new(folder)),
            known: Arc::default(),
            swept: Arc::new(Once::new()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.json"))
    }

    /// Waits for the lock on a thread of its own: a dropped wait lets the lock go as soon as it has it.
    pub(crate) async fn lock(&self, name: &WorkloadName) -> Result<Locked> {
        let folder = self.folder.path();
        private_dir(folder)?;
        self.swept.call_once(|| {
            if let Err(error) = atomic::sweep(folder) {
                tracing::debug!(folder = %folder.display(), %error, "what was left there stays");
            }
        });
        self.wait_for_lock(name, true)
            .await?
            .ok_or_else(|| crate::error::not_found(name))
    }

    /// As [`lock`](Self::lock), but an instance that is gone stays gone: no file is made for it.
    pub(crate) async fn lock_existing(&self, name: &WorkloadName) -> Result<Option<Locked>> {
        self.wait_for_lock(name, false).await
    }

    async fn wait_for_lock(&self, name: &WorkloadName, create: bool) -> Result<Option<Locked>> {
        let path = self.path(name.as_str());
        let lock = self.folder.path().join(format!("{name}.lock"));
        let waiting = tokio::task::spawn_blocking(move || match lock::exclusive(&lock, create) {
            Ok(flock) => Ok(flock.map(|flock| Locked {
                _flock: flock,
                lock,
                path,
            })),
            Err(error) => Err(file("lock", &lock, error)),
        });
        waiting.await.map_err(|e| failed("wait for a lock", e))?
    }

    pub(crate) fn read(&self, name: &WorkloadName) -> Result<Found> {
        read(&self.path(name.as_str()))
    }

    /// All records, by name. One that cannot be read, or is of a newer version, is left out and said in the log.
    pub(crate) fn all(&self) -> Result<Vec<(WorkloadName, Found)>> {
        self.each(|name, found| Some((name, found)))
    }

    /// What `look` makes of each record, by name, on as many threads as there are processors.
    pub(crate) fn each<T: Send>(
        &self,
        look: impl Fn(WorkloadName, Found) -> Option<T> + Sync,
    ) -> Result<Vec<T>> {
        let names = self.names()?;
        let shares = in_shares(&names, |names| self.some(names, &look));
        let shares = shares
            .map_err(|_| failed("list instances", "a reader panicked"))?
            .into_iter()
            .collect::<Result<Vec<Vec<_>>>>()?;
        self.folder.retain(&names);
        self.known.retain(&names);
        Ok(shares.into_iter().flatten().collect())
    }

    /// One thread's part of a list.
    fn some<T>(
        &self,
        names: &[WorkloadName],
        look: &impl Fn(WorkloadName, Found) -> Option<T>,
    ) -> Result<Vec<T>> {
        let reader = self.folder.reader();
        let mut reader = reader.map_err(|e| file("list", self.folder.path(), e))?;
        let mut seen = Vec::with_capacity(names.len());
        for name in names {
            let path = self.path(name.as_str());
            let text = reader.read(&format!("{name}.json"), MAX_RECORD);
            let parse = |text: &Arc<[u8]>| self.known.get(name.as_str(), text, parse);
            match found(&path, text, parse) {
                Ok(found) => seen.extend(look(name.clone(), found)),
                Err(error) => {
                    tracing::warn!(workload = %name, %error, "unreadable instance record");
                }
            }
        }
        Ok(seen)
    }

    /// The names that there are records of, in order.
    fn names(&self) -> Result<Vec<WorkloadName>> {
        let entries = match fs::read_dir(self.folder.path()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(file("list", self.folder.path(), error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry
                .map_err(|e| file("list", self.folder.path(), e))?
                .file_name();
            let name = entry.to_str().and_then(|entry| entry.strip_suffix(".json"));
            names.extend(name.and_then(|name| WorkloadName::new(name).ok()));
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl Locked {
    pub(crate) fn read(&self) -> Result<Found> {
        read(&self.path)
    }

    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec_pretty(record).map_err(|e| failed("encode an instance record", e))?;
        atomic::replace(&self.path, TEMPORARY, &text).map_err(|e| file("write", &self.path, e))
    }

    /// Removes the record.
    pub(crate) fn delete(&self) -> Result<()> {
        let removed = atomic::remove(&self.path).map(drop);
        removed.map_err(|e| file("remove", &self.path, e))
    }

    /// Removes the lock's file too, as the last act; who waits for it takes a new one.
    pub(crate) fn discard(self) -> Result<()> {
        gone(fs::remove_file(&self.lock)).map_err(|e| file("remove", &self.lock, e))
    }
}

pub(crate) fn private_dir(path: &Path) -> Result<()> {
    atomic::create_folder(path, 0o700).map_err(|e| file("make", path, e))
}

/// Absence is what removal wants.
pub(crate) fn gone(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Ok(())
        } else {
            Err(error)
        }
    })
}

/// Why a text is no record to us.
enum Unusable {
    /// Of this version. The rest may have another form.
    Newer(u32),
    Damaged(String),
}

fn read(path: &Path) -> Result<Found> {
    found(path, atomic::read(path, MAX_RECORD), |text| {
        parse(text).map(Arc::new)
    })
}

/// What the file at `path` is, of which this `text` was read.
fn found<T>(
    path: &Path,
    text: io::Result<Option<T>>,
    parse: impl FnOnce(&T) -> std::result::Result<Arc<Record>, Unusable>,
) -> Result<Found> {
    let damaged = |why: &str| Ok(Found::Damaged(format!("{} is damaged: {why}", path.display())));
    let text = match text {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(Found::Nothing),
        Err(error) => match why_no_file(path, &error) {
            Some(why) => return damaged(&why),
            None => return Err(file("read", path, error)),
        },
    };
    match parse(&text) {
        Ok(record) => Ok(Found::Record(record)),
        Err(Unusable::Newer(version)) => {
            let newer = format!("it has version {version}, this program knows {VERSION}");
            Err(failed(&format!("understand {}", path.display()), newer))
        }
        Err(Unusable::Damaged(why)) => damaged(&why),
    }
}

fn parse(text: &[u8]) -> std::result::Result<Record, Unusable> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let record = serde_json::from_slice::<Record>(text);
    let version = match &record {
        Ok(record) => Some(record.version),
        Err(_) => serde_json::from_slice(text)
            .ok()
            .map(|Versioned { version }| version),
    };
    match version {
        Some(version) if version > VERSION => Err(Unusable::Newer(version)),
        _ => record.map_err(|error| Unusable::Damaged(gojson::trouble(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_too_large_is_damaged_and_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path().to_owned());
        let at = |name: &str| records.path(name);
        let large = File::create(at("large")).unwrap();
        large.set_len(MAX_RECORD + 1).unwrap();
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        fs::create_dir(at("folder")).unwrap();
        for name in ["large", "pipe", "folder"] {
            let one = records.read(&name.parse().unwrap()).unwrap();
            assert!(matches!(one, Found::Damaged(_)), "{name}");
        }
        assert_eq!(records.all().unwrap().len(), 3);
    }

    #[test]
    fn many_records_are_read_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path().to_owned());
        let names: Vec<_> = (0..200).map(|number| format!("server-{number:04}")).collect();
        for name in names.iter().rev() {
            fs::write(records.path(name), "{").unwrap();
        }
        for other in ["server-0000.lock", ".record-half", "-odd.json"] {
            fs::write(folder.path().join(other), "").unwrap();
        }
        let all = records.all().unwrap();
        assert!(all.iter().map(|(name, _)| name.as_str()).eq(&names));
        assert!(all.iter().all(|(_, found)| matches!(found, Found::Damaged(_))));
        let none = |_, _| None::<()>;
        assert!(records.each(none).unwrap().is_empty());
    }
}
