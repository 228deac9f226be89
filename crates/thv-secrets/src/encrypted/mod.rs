//! Secrets in one encrypted file, which this project and ToolHive share.

mod file;
mod keyring;
mod password;
mod revisions;
#[cfg(feature = "keyring")]
mod system_keyring;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use self::file::{SecretsFile, Store};
pub use self::keyring::{KEYRING_ACCOUNT, KEYRING_SERVICE, Keyring, NoKeyring};
pub use self::password::Password;
use self::revisions::Effect;
#[cfg(feature = "keyring")]
pub use self::system_keyring::SystemKeyring;
use crate::provider::check;
use crate::{Capabilities, Result, Revisions, SecretEntry, SecretError, SecretProvider};

pub(crate) const NAME: &str = "encrypted";

/// The secrets of a file that is encrypted with a password: twelve random bytes, then AES-256-GCM under the SHA-256 of
/// the password, as ToolHive writes it.
///
/// Every call reads the file anew, so that what another program set counts at once. Changes are made under ToolHive's
/// lock (`<file>.lock`, five seconds at most), and replace the file whole. A change cannot be called back by dropping
/// its future: it is made, or it is not.
///
/// The key is one hash of the password, since the format says so: it withstands guessing only as far as the password
/// does.
#[derive(Debug)]
pub struct EncryptedSecrets {
    file: SecretsFile,
    password: Arc<Password>,
}

impl EncryptedSecrets {
    /// The secrets in the file at `path`, which need not exist. Nothing is read, and nobody is asked for the password,
    /// before it is needed.
    pub fn new(path: impl Into<PathBuf>, password: Password) -> Self {
        Self {
            file: SecretsFile::new(path.into()),
            password: Arc::new(password),
        }
    }

    /// Counts changes in the file at `path`, so that [`revisions`](SecretProvider::revisions) are known. One that is there and
    /// cannot be read keeps secrets from being changed, since nobody would learn of it.
    #[must_use]
    pub fn counting_in(mut self, path: impl Into<PathBuf>) -> Self {
        self.file.count_in(path.into());
        self
    }

    /// Whether the password opens the file; one that does not exist is opened by any.
    ///
    /// # Errors
    /// `WrongPassword`, `Damaged`, `Unavailable`, and `Locked` where no password is to be had.
    pub async fn unlock(&self) -> Result<()> {
        self.read().await.map(drop)
    }

    async fn read(&self) -> Result<Store> {
        let password = self.password.get().await?;
        let file = self.file.clone();
        blocking(move || file.read(&password)).await
    }

    async fn change(
        &self,
        name: &str,
        change: impl FnOnce(&mut Store, &str) -> Result<Effect> + Send + 'static,
    ) -> Result<()> {
        let password = self.password.get().await?;
        let (file, name) = (self.file.clone(), name.to_owned());
        blocking(move || file.change(&password, &name, |store| change(store, &name))).await
    }
}

#[async_trait]
impl SecretProvider for EncryptedSecrets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    async fn get(&self, name: &str) -> Result<SecretString> {
        self.read()
            .await?
            .get(name)
            .ok_or_else(|| SecretError::not_found(name, NAME))
    }

    async fn set(&self, name: &str, value: SecretString) -> Result<()> {
        check(name, &value)?;
        self.change(
            name,
            move |store, name| Ok(store.set(name, value.expose_secret())),
        )
        .await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.change(name, |store, name| {
            let effect = store.remove(name);
            effect.ok_or_else(|| SecretError::not_found(name, NAME))
        })
        .await
    }

    async fn list(&self) -> Result<Vec<SecretEntry>> {
        Ok(self.read().await?.names().map(SecretEntry::new).collect())
    }

    async fn revisions(&self) -> Result<Option<Revisions>> {
        let file = self.file.clone();
        blocking(move || file.revisions()).await
    }

    fn key(&self) -> Option<SecretString> {
        self.password.known()
    }

    fn accept_key(&self, key: SecretString) {
        self.password.learn(key);
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| SecretError::Unavailable {
            provider: NAME,
            source: error.into(),
        })?
}
