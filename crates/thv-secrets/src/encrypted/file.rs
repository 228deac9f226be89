//! The file: its lock, its bytes, and what is in it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{self, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, UnboundKey};
use aws_lc_rs::digest;
use rustix::fs::OFlags;
use secrecy::zeroize::{Zeroize as _, Zeroizing};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::NAME;
use super::revisions::{Effect, RevisionsFile};
use crate::{Result, Revisions, SecretError};

/// The largest plain text, in bytes; ToolHive's limit too.
const MAX_PLAIN: usize = 32 * 1024 * 1024;
const TAG_LEN: usize = 16;
const MAX_FILE: u64 = (NONCE_LEN + MAX_PLAIN + TAG_LEN) as u64;

/// How long ToolHive waits for the lock too.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is tried again: a lock tells nobody that it is free.
const AGAIN: Duration = Duration::from_millis(20);

/// The random bytes that a file begins with: other ones after each change, whoever makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Nonce([u8; NONCE_LEN]);

impl Nonce {
    fn random() -> Result<Self> {
        let mut random = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| unavailable("no random numbers".into()))?;
        Ok(Self(random))
    }

    /// The nonce of a file with these bytes; none of an empty one.
    fn of(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().copied().map(Self)
    }

    /// A number instead, which no program of JSON rounds; zero stands for no file.
    pub(super) fn number(self) -> u64 {
        let bytes = self.0.iter().take(6);
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)) | 1
    }
}

#[cfg(test)]
impl From<[u8; NONCE_LEN]> for Nonce {
    fn from(bytes: [u8; NONCE_LEN]) -> Self {
        Self(bytes)
    }
}

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

    pub(super) fn set(&mut self, name: &str, value: &str) -> Effect {
        let old = self.secrets.insert(name.to_owned(), value.to_owned());
        match old.map(Zeroizing::new) {
            Some(old) if *old == value => Effect::None,
            _ => Effect::Changed,
        }
    }

    /// None: there was no such secret.
    pub(super) fn remove(&mut self, name: &str) -> Option<Effect> {
        let old = self.secrets.remove(name).map(Zeroizing::new);
        old.map(|_| Effect::Changed)
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

/// Where the file is, and where its changes are counted. All calls block.
#[derive(Debug, Clone)]
pub(super) struct SecretsFile {
    path: PathBuf,
    revisions: Option<RevisionsFile>,
}

impl SecretsFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            revisions: None,
        }
    }

    pub(super) fn count_in(&mut self, path: PathBuf) {
        self.revisions = Some(RevisionsFile::new(path));
    }

    /// What is known of changes, where they are counted.
    pub(super) fn revisions(&self) -> Result<Option<Revisions>> {
        let revisions = self.revisions.as_ref();
        revisions.map(|file| file.read(|| self.nonce())).transpose()
    }

    /// What is in it; nothing where there is no file, or an empty one.
    pub(super) fn read(&self, password: &SecretString) -> Result<Store> {
        match self.bytes()? {
            Some(bytes) if !bytes.is_empty() => self.decrypt(bytes, password),
            _ => Ok(Store::default()),
        }
    }

    /// Changes the secret `name` in it, under the lock. An error of `change` leaves the file as it was.
    pub(super) fn change(
        &self,
        password: &SecretString,
        name: &str,
        change: impl FnOnce(&mut Store) -> Result<Effect>,
    ) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        create_folder(folder).map_err(|source| self.io("create the folder of", source))?;
        let _lock = self.lock()?;
        let before = self.nonce()?;
        let mut store = self.read(password)?;
        let effect = change(&mut store)?;
        let after = Nonce::random()?;
        let bytes = self.encrypt(&store, password, after)?;
        if let Some(revisions) = &self.revisions {
            revisions.count(before, after, name, effect)?;
        }
        self.write(folder, &bytes)
            .map_err(|source| self.io("write", source))
    }

    fn decrypt(&self, mut bytes: Vec<u8>, password: &SecretString) -> Result<Store> {
        if bytes.len() < NONCE_LEN + TAG_LEN {
            return Err(self.damaged("it is too short"));
        }
        let mut sealed = Zeroizing::new(bytes.split_off(NONCE_LEN));
        let nonce =
            aead::Nonce::try_assume_unique_for_key(&bytes).map_err(|_| self.damaged("it is too short"))?;
        let plain = key(password)?
            .open_in_place(nonce, Aad::empty(), &mut sealed)
            .map_err(|_| SecretError::WrongPassword {
                path: self.path.clone(),
            })?;
        // The parser's own words may quote what it read.
        serde_json::from_slice(plain).map_err(|_| self.damaged("what is in it is not a list of secrets"))
    }

    fn encrypt(&self, store: &Store, password: &SecretString, Nonce(nonce): Nonce) -> Result<Vec<u8>> {
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
        let tag = key(password)?
            .seal_in_place_separate_tag(aead::Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut text)
            .map_err(|_| unavailable("encryption failed".into()))?;
        let mut bytes = Vec::with_capacity(NONCE_LEN + text.len() + TAG_LEN);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&text);
        bytes.extend_from_slice(tag.as_ref());
        Ok(bytes)
    }

    fn bytes(&self) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open()? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| self.io("read", source))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(self.damaged("it is too large"));
        }
        Ok(Some(bytes))
    }

    /// Which one the file has now; none of a file that is not there, or empty. No password is needed.
    fn nonce(&self) -> Result<Option<Nonce>> {
        let Some(file) = self.open()? else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(NONCE_LEN);
        file.take(NONCE_LEN as u64)
            .read_to_end(&mut bytes)
            .map_err(|source| self.io("read", source))?;
        Ok(Nonce::of(&bytes))
    }

    fn open(&self) -> Result<Option<File>> {
        match open_file(&self.path) {
            Ok(Some(file)) if is_file(&file) => Ok(Some(file)),
            Ok(Some(_)) => Err(self.damaged("it is not a file")),
            Ok(None) => Ok(None),
            Err(source) => Err(self.io("open", source)),
        }
    }

    fn lock(&self) -> Result<File> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let end = Instant::now() + PATIENCE;
        loop {
            // For both: a pipe in its place is opened at once then.
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
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

/// Opens the file at `path` for reading, without waiting: a pipe would wait for a writer. `None` when there is none.
pub(super) fn open_file(path: &Path) -> io::Result<Option<File>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn is_file(file: &File) -> bool {
    file.metadata().is_ok_and(|about| about.is_file())
}

fn is_at(file: &File, path: &Path) -> bool {
    let there = |about: std::fs::Metadata| (about.dev(), about.ino());
    let mine = file.metadata().map(there).ok();
    mine.is_some() && mine == std::fs::metadata(path).map(there).ok()
}

pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o750).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        other => other,
    }
}
