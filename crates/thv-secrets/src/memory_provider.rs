//! Secrets in memory, for tests and for embedders that bring their own values.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use secrecy::SecretString;

use crate::provider::check;
use crate::{Capabilities, Result, SecretEntry, SecretError, SecretProvider};

const NAME: &str = "memory";

/// Secrets that live as long as this value, overwritten in memory when they are dropped.
#[derive(Default)]
pub struct MemorySecrets(Mutex<BTreeMap<String, SecretString>>);

impl MemorySecrets {
    /// No secrets yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn secrets(&self) -> MutexGuard<'_, BTreeMap<String, SecretString>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Into<String>, V: Into<SecretString>> FromIterator<(K, V)> for MemorySecrets {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(secrets: T) -> Self {
        Self(Mutex::new(
            secrets
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        ))
    }
}

#[async_trait]
impl SecretProvider for MemorySecrets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    async fn get(&self, name: &str) -> Result<SecretString> {
        self.secrets()
            .get(name)
            .cloned()
            .ok_or_else(|| SecretError::not_found(name, NAME))
    }

    async fn set(&self, name: &str, value: SecretString) -> Result<()> {
        check(name, &value)?;
        self.secrets().insert(name.to_owned(), value);
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.secrets()
            .remove(name)
            .map(drop)
            .ok_or_else(|| SecretError::not_found(name, NAME))
    }

    async fn list(&self) -> Result<Vec<SecretEntry>> {
        Ok(self.secrets().keys().map(SecretEntry::new).collect())
    }
}

impl fmt::Debug for MemorySecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemorySecrets")
            .field(&self.secrets().keys())
            .finish()
    }
}
