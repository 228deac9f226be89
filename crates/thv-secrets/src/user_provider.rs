//! The secrets that people see.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::{Capabilities, Result, Revisions, SecretEntry, SecretError, SecretProvider};

/// What the names of the system's own secrets begin with.
pub const RESERVED_PREFIX: &str = "__thv_";

/// A provider without the system's own secrets: names that begin with [`RESERVED_PREFIX`] are refused and not
/// listed. Command lines, the HTTP API and the secrets of a run config go through it.
#[derive(Debug)]
pub struct UserSecrets(Arc<dyn SecretProvider>);

impl UserSecrets {
    /// Hides the system's secrets of `inner`.
    pub fn new(inner: Arc<dyn SecretProvider>) -> Self {
        Self(inner)
    }
}

fn allowed(name: &str) -> Result<()> {
    if name.starts_with(RESERVED_PREFIX) {
        return Err(SecretError::Reserved {
            name: name.to_owned(),
        });
    }
    Ok(())
}

#[async_trait]
impl SecretProvider for UserSecrets {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn get(&self, name: &str) -> Result<SecretString> {
        allowed(name)?;
        self.0.get(name).await
    }

    async fn set(&self, name: &str, value: SecretString) -> Result<()> {
        allowed(name)?;
        self.0.set(name, value).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        allowed(name)?;
        self.0.delete(name).await
    }

    async fn list(&self) -> Result<Vec<SecretEntry>> {
        let mut entries = self.0.list().await?;
        entries.retain(|entry| !entry.name.starts_with(RESERVED_PREFIX));
        Ok(entries)
    }

    async fn revisions(&self) -> Result<Option<Revisions>> {
        let mut revisions = self.0.revisions().await?;
        if let Some(Revisions { secrets, .. }) = &mut revisions {
            secrets.retain(|name, _| !name.starts_with(RESERVED_PREFIX));
        }
        Ok(revisions)
    }

    fn key(&self) -> Option<SecretString> {
        self.0.key()
    }

    fn accept_key(&self, key: SecretString) {
        self.0.accept_key(key);
    }
}
