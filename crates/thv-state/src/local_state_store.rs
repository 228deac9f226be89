//! Documents as ToolHive's files.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Once};

use async_trait::async_trait;
use thv_core::Dirs;
use thv_files::{Folder, atomic, in_shares, why_no_file};

use crate::{DocumentKind, DocumentName, Error, Keep, MAX_DOCUMENT, Result, StateStore, Visit};

const FOLDER_MODE: u32 = 0o750;
/// What documents end in, and nothing else in their folders.
const SUFFIX: &str = ".json";

/// Documents in `$XDG_STATE_HOME/toolhive/{runconfigs,groups}`: files of mode 0600 in folders of mode 0750.
///
/// What does not end in `.json` is no document: temporary files are `.<name>.json.tmp-…`. Those that a killed writer left go
/// with the first change.
#[derive(Debug, Clone)]
pub struct LocalStateStore {
    folders: Arc<Folders>,
}

#[derive(Debug)]
struct Folders {
    run_configs: Folder,
    groups: Folder,
    swept: Once,
}

impl LocalStateStore {
    /// The store of `dirs`; nothing is touched yet.
    pub fn new(dirs: &Dirs) -> Self {
        Self {
            folders: Arc::new(Folders {
                run_configs: Folder::new(dirs.runconfigs()),
                groups: Folder::new(dirs.groups()),
                swept: Once::new(),
            }),
        }
    }

    /// Runs file operations off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folders) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let folders = Arc::clone(&self.folders);
        match tokio::task::spawn_blocking(move || work(&folders)).await {
            Ok(result) => result,
            Err(error) => Err(Error::from_io("work on", "documents", io::Error::other(error))),
        }
    }
}

impl LocalStateStore {
    /// A write that has begun goes on when nobody waits for it any more. What it keeps is free when it is over.
    async fn writing(
        &self,
        keep: Keep,
        work: impl FnOnce(&Folders) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.blocking(move |folders| {
            folders.swept.call_once(|| folders.sweep());
            let done = work(folders);
            drop(keep);
            done
        })
        .await
    }
}

impl Folders {
    /// What cannot be taken away hinders nobody.
    fn sweep(&self) {
        for folder in [&self.run_configs, &self.groups] {
            let _ = atomic::sweep(folder.path());
        }
    }

    fn of(&self, kind: DocumentKind) -> &Folder {
        match kind {
            DocumentKind::RunConfig => &self.run_configs,
            DocumentKind::Group => &self.groups,
        }
    }

    fn path(&self, kind: DocumentKind, name: &DocumentName) -> PathBuf {
        self.of(kind).path().join(format!("{name}{SUFFIX}"))
    }

    fn prepared(&self, kind: DocumentKind, name: &DocumentName) -> Result<(PathBuf, String)> {
        let folder = self.of(kind).path();
        atomic::create_folder(folder, FOLDER_MODE)
            .map_err(|e| Error::from_io("create the folder", folder, e))?;
        Ok((self.path(kind, name), name.temporary_prefix()))
    }

    fn names(&self, kind: DocumentKind) -> Result<Vec<DocumentName>> {
        let folder = self.of(kind).path();
        let failed = |error| Error::from_io("list", folder, error);
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let file = entry.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(SUFFIX));
            if let Some(name) = name.and_then(|name| DocumentName::new(name).ok())
                && entry.file_type().is_ok_and(|kind| !kind.is_dir())
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Some of the documents, one after the other.
    fn visit(&self, kind: DocumentKind, names: &[DocumentName], visit: &Visit) -> Result<()> {
        let folder = self.of(kind);
        let mut reader = folder
            .reader()
            .map_err(|e| Error::from_io("list", folder.path(), e))?;
        let mut file = String::new();
        for name in names {
            file.clear();
            file.push_str(name.as_str());
            file.push_str(SUFFIX);
            match reader.read(&file, MAX_DOCUMENT) {
                Ok(Some(bytes)) => visit(name.clone(), Ok(bytes)),
                // It was deleted meanwhile.
                Ok(None) => {}
                Err(error) => visit(
                    name.clone(),
                    Err(unread(kind, name, self.path(kind, name), error)),
                ),
            }
        }
        Ok(())
    }
}

fn unread(kind: DocumentKind, name: &DocumentName, path: PathBuf, error: io::Error) -> Error {
    let invalid = |detail| Error::Invalid {
        kind,
        name: name.clone(),
        place: Some(path.clone()),
        detail,
    };
    match (error.kind(), why_no_file(&path, &error)) {
        (io::ErrorKind::FileTooLarge, _) => invalid(format!("it is larger than {} MiB", MAX_DOCUMENT >> 20)),
        (_, Some(why)) => invalid(why),
        (_, None) => Error::from_io("read", path, error),
    }
}

#[async_trait]
impl StateStore for LocalStateStore {
    async fn read(&self, kind: DocumentKind, name: &DocumentName) -> Result<Option<Vec<u8>>> {
        let name = name.clone();
        self.blocking(move |folders| {
            let path = folders.path(kind, &name);
            atomic::read(&path, MAX_DOCUMENT).map_err(|error| unread(kind, &name, path, error))
        })
        .await
    }

    async fn visit(&self, kind: DocumentKind, visit: Visit) -> Result<()> {
        self.blocking(move |folders| {
            let names = folders.names(kind)?;
            let shares = in_shares(&names, |names| folders.visit(kind, names, &visit));
            let folder = folders.of(kind);
            let failed = |_| Error::from_io("read", folder.path(), io::Error::other("a reader panicked"));
            let read = shares.map_err(failed)?.into_iter().collect();
            folder.retain(&names);
            read
        })
        .await
    }

    async fn replace(
        &self,
        kind: DocumentKind,
        name: &DocumentName,
        bytes: Vec<u8>,
        keep: Keep,
    ) -> Result<()> {
        let name = name.clone();
        self.writing(keep, move |folders| {
            let (path, prefix) = folders.prepared(kind, &name)?;
            atomic::replace(&path, &prefix, &bytes).map_err(|e| Error::from_io("write", path, e))
        })
        .await
    }

    async fn create(
        &self,
        kind: DocumentKind,
        name: &DocumentName,
        bytes: Vec<u8>,
        keep: Keep,
    ) -> Result<()> {
        let name = name.clone();
        self.writing(keep, move |folders| {
            let (path, prefix) = folders.prepared(kind, &name)?;
            atomic::create(&path, &prefix, &bytes).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Error::Exists { kind, name },
                _ => Error::from_io("create", path, error),
            })
        })
        .await
    }

    async fn delete(&self, kind: DocumentKind, name: &DocumentName, keep: Keep) -> Result<()> {
        let name = name.clone();
        self.writing(keep, move |folders| {
            let path = folders.path(kind, &name);
            atomic::remove(&path)
                .map(drop)
                .map_err(|e| Error::from_io("delete", path, e))
        })
        .await
    }

    async fn list(&self, kind: DocumentKind) -> Result<Vec<DocumentName>> {
        self.blocking(move |folders| folders.names(kind)).await
    }

    fn place(&self, kind: DocumentKind, name: &DocumentName) -> Option<PathBuf> {
        Some(self.folders.path(kind, name))
    }
}
