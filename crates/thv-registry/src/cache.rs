//! What an API said, kept on disk for the next process.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use thv_files::atomic;

use crate::{Accept, Catalogue, MAX_DOCUMENT_BYTES, parse_document};

/// How long a file is kept at all.
const MAX_AGE: Duration = Duration::from_hours(24 * 7);
const PREFIX: &str = "registry-api-";

/// A file per registry, readable by its owner only. It is a registry document with the registry's URL in it, and it is
/// checked as any other document when it is read.
#[derive(Debug, Clone)]
pub(crate) struct DiskCache {
    folder: PathBuf,
    url: String,
}

/// What is written.
#[derive(Serialize)]
struct Written<'a> {
    registry: &'a str,
    version: &'a str,
    meta: WrittenMeta<'a>,
    data: WrittenData<'a>,
}

#[derive(Serialize)]
struct WrittenMeta<'a> {
    last_updated: &'a str,
}

#[derive(Serialize)]
struct WrittenData<'a> {
    servers: &'a [Box<RawValue>],
}

/// Whose file it is.
#[derive(Deserialize)]
struct Whose {
    registry: String,
}

impl DiskCache {
    pub(crate) fn new(folder: PathBuf, url: &str) -> Self {
        Self {
            folder,
            url: url.to_owned(),
        }
    }

    fn path(&self) -> PathBuf {
        let digest = Sha256::digest(self.url.as_bytes());
        let mut name = PREFIX.to_owned();
        for byte in digest.iter().take(16) {
            let _ = write!(name, "{byte:02x}");
        }
        self.folder.join(name + ".json")
    }

    /// What is kept, and how old it is. What is damaged, too old or of another registry is nothing.
    pub(crate) fn read(&self, accept: Accept) -> Option<(Catalogue, Duration)> {
        let path = self.path();
        let file = atomic::open_regular(&path).ok()??;
        let metadata = file.metadata().ok()?;
        // A time in the future is no age.
        let age = SystemTime::now().duration_since(metadata.modified().ok()?).ok()?;
        if age > MAX_AGE {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .ok()?;
        let catalogue = parse_document(&bytes, &path.display().to_string(), accept).ok()?;
        let whose: Whose = serde_json::from_slice(&bytes).ok()?;
        (whose.registry == self.url).then_some((catalogue, age))
    }

    /// Keeps what was fetched, and removes what is too old of other registries.
    pub(crate) fn write(&self, servers: &[Box<RawValue>], last_updated: &str) -> io::Result<()> {
        let written = Written {
            registry: &self.url,
            version: "1.0.0",
            meta: WrittenMeta { last_updated },
            data: WrittenData { servers },
        };
        let bytes = serde_json::to_vec(&written)?;
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        atomic::create_folder(&self.folder, 0o700)?;
        atomic::replace(&self.path(), ".registry-", &bytes)?;
        self.sweep();
        Ok(())
    }

    /// What cannot be taken away hinders nobody.
    fn sweep(&self) {
        let _ = atomic::sweep(&self.folder);
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.flatten() {
            let is_ours = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(PREFIX));
            let age = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .map(|modified| SystemTime::now().duration_since(modified).unwrap_or_default());
            if is_ours && age.is_ok_and(|age| age > MAX_AGE) {
                // Another process may have been faster.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_of_one_registry_and_a_pipe_in_its_place_is_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let of = |url: &str| DiskCache::new(folder.path().to_owned(), url);
        let ours = of("https://a.example");
        assert!(ours.read(Accept::default()).is_none());
        ours.write(&[], "2026-08-17T00:00:00Z").expect("written");
        assert!(ours.read(Accept::default()).is_some());
        // Another registry's file under our name.
        std::fs::rename(ours.path(), of("https://b.example").path()).expect("renamed");
        assert!(of("https://b.example").read(Accept::default()).is_none());

        let made = std::process::Command::new("mkfifo").arg(ours.path()).status();
        assert!(made.expect("it runs").success());
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(ours.read(Accept::default()).is_none()));
        let nothing = told.recv_timeout(Duration::from_secs(30));
        assert_eq!(nothing, Ok(true));
    }
}
