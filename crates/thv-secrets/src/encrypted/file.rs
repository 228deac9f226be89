//! The file: its lock, its bytes, and what is in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::aead::{self, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, UnboundKey};
use aws_lc_rs::digest;
use secrecy::zeroize::{Zeroize as _, Zeroizing};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thv_files::{atomic, lock};

use super::NAME;
use super::revisions::{Effect, RevisionsFile};
use crate::{Result, Revisions, SecretError};

/// The largest plain text, in bytes; ToolHive's limit too.
const MAX_PLAIN: usize = 32 * 1024 * 1024;
const TAG_LEN: usize = 16;
const MAX_FILE: u64 = (NONCE_LEN + MAX_PLAIN + TAG_LEN) as u64;

/// How long ToolHive waits for the lock too.
const PATIENCE: Duration = Duration::from_secs(5);
pub(super) const FOLDER_MODE: u32 = 0o750;

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
        atomic::create_folder(folder, FOLDER_MODE)
            .map_err(|source| self.io("create the folder of", source))?;
        let _lock = self.lock()?;
        let before = self.nonce()?;
        let mut store = self.read(password)?;
        let effect = change(&mut store)?;
        let after = Nonce::random()?;
        let bytes = self.encrypt(&store, password, after)?;
        if let Some(revisions) = &self.revisions {
            revisions.count(before, after, name, effect)?;
        }
        // What cannot be taken away hinders nobody.
        let _ = atomic::sweep(folder);
        atomic::replace(&self.path, ".secrets_encrypted.", &bytes).map_err(|source| self.io("write", source))
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
        atomic::read_regular(&self.path, MAX_FILE).map_err(|source| self.unread(source))
    }

    /// Which one the file has now; none of a file that is not there, or empty. No password is needed.
    fn nonce(&self) -> Result<Option<Nonce>> {
        let opened = atomic::open_regular(&self.path).map_err(|source| self.unread(source))?;
        let Some(file) = opened else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(NONCE_LEN);
        file.take(NONCE_LEN as u64)
            .read_to_end(&mut bytes)
            .map_err(|source| self.unread(source))?;
        Ok(Nonce::of(&bytes))
    }

    fn lock(&self) -> Result<File> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let locked = lock::exclusive_within(Path::new(&path), PATIENCE);
        locked.map_err(|source| self.io("lock", source))?.ok_or_else(|| {
            unavailable(format!("{} is being changed by another program", self.path.display()).into())
        })
    }

    fn damaged(&self, detail: &'static str) -> SecretError {
        SecretError::Damaged {
            path: self.path.clone(),
            detail,
        }
    }

    fn unread(&self, source: io::Error) -> SecretError {
        match source.kind() {
            io::ErrorKind::InvalidInput => self.damaged("it is not a file"),
            io::ErrorKind::FileTooLarge => self.damaged("it is too large"),
            _ => self.io("read", source),
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
