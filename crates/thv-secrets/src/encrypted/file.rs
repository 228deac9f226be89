//! The file: its lock, its bytes, and what is in it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest;
use secrecy::zeroize::{Zeroize as _, Zeroizing};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::NAME;
use crate::{Result, SecretError};

/// The largest plain text, in bytes; ToolHive's limit too.
const MAX_PLAIN: usize = 32 * 1024 * 1024;
const TAG_LEN: usize = 16;
const MAX_FILE: u64 = (NONCE_LEN + MAX_PLAIN + TAG_LEN) as u64;

/// How long ToolHive waits for the lock too.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is tried again: a lock tells nobody that it is free.
const AGAIN: Duration = Duration::from_millis(20);

/// What is in the file. Keys beside `secrets` are kept.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Store {
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

impl Store {
    pub(super) fn get(&self, name: &str) -> Option<SecretString> {
        let value = self.secrets.get(name).filter(|value| !value.is_empty())?;
        Some(SecretString::from(value.as_str()))
    }

    pub(super) fn set(&mut self, name: String, value: &str) {
        if let Some(mut old) = self.secrets.insert(name, value.to_owned()) {
            old.zeroize();
        }
    }

    /// Whether there was one.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.secrets.remove(name).map(|mut old| old.zeroize()).is_some()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.secrets
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, _)| name.as_str())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        for value in self.secrets.values_mut() {
            value.zeroize();
        }
    }
}

/// Where the file is. All calls block.
#[derive(Debug, Clone)]
pub(super) struct SecretsFile {
    path: PathBuf,
}

impl SecretsFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What is in it; nothing where there is no file, or an empty one.
    pub(super) fn read(&self, password: &SecretString) -> Result<Store> {
        match self.bytes()? {
            Some(bytes) if !bytes.is_empty() => self.decrypt(bytes, password),
            _ => Ok(Store::default()),
        }
    }

    /// Changes what is in it, under the lock. An error of `change` leaves the file as it was.
    pub(super) fn change(
        &self,
        password: &SecretString,
        change: impl FnOnce(&mut Store) -> Result<()>,
    ) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        create_folder(folder).map_err(|source| self.io("create the folder of", source))?;
        let _lock = self.lock()?;
        let mut store = self.read(password)?;
        change(&mut store)?;
        let bytes = self.encrypt(&store, password)?;
        self.write(folder, &bytes)
            .map_err(|source| self.io("write", source))
    }

    fn decrypt(&self, mut bytes: Vec<u8>, password: &SecretString) -> Result<Store> {
        if bytes.len() < NONCE_LEN + TAG_LEN {
            return Err(self.damaged("it is too short"));
        }
        let mut sealed = Zeroizing::new(bytes.split_off(NONCE_LEN));
        let nonce = Nonce::try_assume_unique_for_key(&bytes).map_err(|_| self.damaged("it is too short"))?;
        let plain = key(password)?
            .open_in_place(nonce, Aad::empty(), &mut sealed)
            .map_err(|_| SecretError::WrongPassword {
                path: self.path.clone(),
            })?;
        // The parser's own words may quote what it read.
        serde_json::from_slice(plain).map_err(|_| self.damaged("what is in it is not a list of secrets"))
    }

    fn encrypt(&self, store: &Store, password: &SecretString) -> Result<Vec<u8>> {
        let mut text = Zeroizing::new(Vec::new());
        serde_json::to_writer(&mut *text, store).map_err(|error| unavailable(error.into()))?;
        if text.len() > MAX_PLAIN {
            return Err(unavailable(
                format!(
                    "{} would have more than {MAX_PLAIN} bytes of secrets",
                    self.path.display()
                )
                .into(),
            ));
        }
        let mut random = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| unavailable("no random numbers".into()))?;
        let tag = key(password)?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(random), Aad::empty(), &mut text)
            .map_err(|_| unavailable("encryption failed".into()))?;
        let mut bytes = Vec::with_capacity(NONCE_LEN + text.len() + TAG_LEN);
        bytes.extend_from_slice(&random);
        bytes.extend_from_slice(&text);
        bytes.extend_from_slice(tag.as_ref());
        Ok(bytes)
    }

    fn bytes(&self) -> Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io("open", source)),
        };
        let about = file.metadata().map_err(|source| self.io("look at", source))?;
        if !about.is_file() {
            return Err(self.damaged("it is not a file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| self.io("read", source))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(self.damaged("it is too large"));
        }
        Ok(Some(bytes))
    }

    fn lock(&self) -> Result<File> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let end = Instant::now() + PATIENCE;
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)
                .map_err(|source| self.io("lock", source))?;
            match file.try_lock() {
                // Whoever held it may have removed it: then it is nobody's.
                Ok(()) if is_at(&file, Path::new(&path)) => return Ok(file),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(self.io("lock", source)),
            }
            if Instant::now() >= end {
                return Err(unavailable(
                    format!("{} is being changed by another program", self.path.display()).into(),
                ));
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn write(&self, folder: &Path, bytes: &[u8]) -> io::Result<()> {
        // tempfile creates with mode 0600.
        let mut file = tempfile::Builder::new()
            .prefix(".secrets_encrypted.")
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }

    fn damaged(&self, detail: &'static str) -> SecretError {
        SecretError::Damaged {
            path: self.path.clone(),
            detail,
        }
    }

    fn io(&self, action: &str, source: io::Error) -> SecretError {
        let text = format!("cannot {action} {}: {source}", self.path.display());
        unavailable(io::Error::new(source.kind(), text).into())
    }
}

fn unavailable(source: Box<dyn std::error::Error + Send + Sync>) -> SecretError {
    SecretError::Unavailable {
        provider: NAME,
        source,
    }
}

fn key(password: &SecretString) -> Result<LessSafeKey> {
    let hash = digest::digest(&digest::SHA256, password.expose_secret().as_bytes());
    let key = UnboundKey::new(&AES_256_GCM, hash.as_ref()).map_err(|_| unavailable("no cipher".into()))?;
    Ok(LessSafeKey::new(key))
}

fn is_at(file: &File, path: &Path) -> bool {
    let there = |about: std::fs::Metadata| (about.dev(), about.ino());
    let mine = file.metadata().map(there).ok();
    mine.is_some() && mine == std::fs::metadata(path).map(there).ok()
}

fn create_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o750).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        other => other,
    }
}
