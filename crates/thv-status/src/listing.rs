//! All workloads at once.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use thv_core::WorkloadName;
use thv_files::{Folder, FolderReader, Parsed, in_shares, lock, why_no_file};

use crate::files::{Files, MAX_COMPANION, Probe};
use crate::on_disk::{Unusable, parse, unread};
use crate::transaction::{Read, StatusText};
use crate::{Companion, Error, OwnerState, Reading, Result, Snapshot, status_file};

/// What the files said when they were listed last.
#[derive(Debug, Default)]
pub(crate) struct Known {
    companions: Parsed<Companion>,
    statuses: Parsed<StatusText>,
}

impl Files {
    /// What is known of each workload, in the order of their names.
    pub(crate) fn list(&self) -> Result<Vec<Snapshot>> {
        let names = self.names()?;
        let shares = in_shares(&names, |names| Ok(Listing::open(self)?.read_some(names)));
        let panicked = |_| {
            Error::io(
                "list",
                self.lifecycle().path(),
                io::Error::other("a reader panicked"),
            )
        };
        let shares = shares
            .map_err(panicked)?
            .into_iter()
            .collect::<Result<Vec<Vec<_>>>>()?;
        for folder in [self.statuses(), self.lifecycle()] {
            folder.retain(&names);
        }
        self.known.companions.retain(&names);
        self.known.statuses.retain(&names);
        let mut snapshots = Vec::with_capacity(names.len());
        snapshots.extend(shares.into_iter().flatten());
        Ok(snapshots)
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for folder in [self.statuses().path(), self.lifecycle().path()] {
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
}

/// One thread's part of a list.
struct Listing<'f> {
    files: &'f Files,
    statuses: FolderReader<'f>,
    lifecycle: FolderReader<'f>,
}

/// What the two files of a workload say.
struct Found {
    companion: Option<Arc<Companion>>,
    read: Read,
}

impl<'f> Listing<'f> {
    fn open(files: &'f Files) -> Result<Self> {
        let open = |folder: &'f Folder| folder.reader().map_err(|e| Error::io("list", folder.path(), e));
        Ok(Self {
            files,
            statuses: open(files.statuses())?,
            lifecycle: open(files.lifecycle())?,
        })
    }

    /// What is known of each of `names` that is still there.
    fn read_some(&mut self, names: &[String]) -> Vec<Snapshot> {
        let mut snapshots = Vec::with_capacity(names.len());
        for name in names {
            match self.read(name) {
                // It was removed meanwhile.
                Ok(snapshot) if snapshot.reading == Reading::Nothing && snapshot.damage.is_none() => {}
                Ok(snapshot) => snapshots.push(snapshot),
                // One that cannot be read is no reason to show none.
                Err(error) => snapshots.push(Snapshot {
                    name: WorkloadName::new(name).ok(),
                    raw_name: name.clone(),
                    status: None,
                    damage: Some(in_words(&error)),
                    companion: None,
                    reading: Reading::ToolHive,
                    overruled: false,
                    owner: OwnerState::Dead,
                    pid_file: None,
                }),
            }
        }
        snapshots
    }

    /// As [`Files::read`], but whether somebody owns what is down by all that is recorded is not looked at.
    fn read(&mut self, name: &str) -> Result<Snapshot> {
        let mut found = self.found(name)?;
        if matches!(found.read.reading, Reading::Foreign(_)) {
            found = self.found(name)?;
        }
        let held = || lock::is_opened_held(self.lifecycle.find(&format!("{name}.owner")));
        self.files
            .snapshot(name, found.read, found.companion, Probe::UnlessAtRest, held)
    }

    /// Status first, as everywhere.
    fn found(&mut self, name: &str) -> Result<Found> {
        let (files, known) = (self.files, &self.files.known);
        let file = format!("{name}.json");
        let limit = status_file::MAX_SIZE;
        let status = match self.statuses.read(&file, limit) {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                let kept = known
                    .statuses
                    .get(name, &bytes, |bytes| Ok::<_, Infallible>(StatusText::of(bytes)));
                match kept {
                    Ok(status) => Some(status),
                }
            }
            Err(error) => {
                let path = files.status(name);
                let Some(why) = why_no_file(&path, &error) else {
                    return Err(unread(&path, limit, error));
                };
                Some(Arc::new(StatusText::no_file(why)))
            }
        };
        let parsed = match self.lifecycle.read(&file, MAX_COMPANION) {
            Ok(bytes) => bytes.map(|bytes| known.companions.get(name, &bytes, parse)),
            Err(error) => {
                let path = files.companion(name);
                let Some(why) = why_no_file(&path, &error) else {
                    return Err(unread(&path, MAX_COMPANION, error));
                };
                Some(Err(Unusable::Damaged(why)))
            }
        };
        let (companion, damage) = match parsed {
            Some(Ok(companion)) => (Some(companion), None),
            Some(Err(unusable)) => (None, Some(Unusable::damage(unusable, files.companion(name))?)),
            None => (None, None),
        };
        let read = Read::of(companion.as_deref(), damage, status.as_deref());
        Ok(Found { companion, read })
    }
}

/// An error with its causes.
fn in_words(error: &Error) -> String {
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        text = format!("{text}: {cause}");
    }
    text
}
