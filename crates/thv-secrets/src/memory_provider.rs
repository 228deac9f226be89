//! Secrets in memory, for tests and for embedders that bring their own values.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use crate::provider::check;
use crate::{Capabilities, Result, Revisions, SecretEntry, SecretError, SecretProvider};

const NAME: &str = "memory";

/// Secrets that live as long as this value, overwritten in memory when they are dropped.
#[derive(Default)]
pub struct MemorySecrets(Mutex<Held>);

#[derive(Default)]
struct Held {
    secrets: BTreeMap<String, SecretString>,
    revisions: BTreeMap<String, u64>,
    changes: u64,
}

impl Held {
    fn count(&mut self, name: &str) {
        self.changes += 1;
        self.revisions.insert(name.to_owned(), self.changes);
    }
}

impl MemorySecrets {
    /// No secrets yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Into<String>, V: Into<SecretString>> FromIterator<(K, V)> for MemorySecrets {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(secrets: T) -> Self {
        let secrets = secrets.into_iter();
        Self(Mutex::new(Held {
            secrets: secrets.map(|(name, value)| (name.into(), value.into())).collect(),
            ..Held::default()
        }))
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
        let held = self.held();
        held.secrets
            .get(name)
            .cloned()
            .ok_or_else(|| SecretError::not_found(name, NAME))
    }

    async fn set(&self, name: &str, value: SecretString) -> Result<()> {
        check(name, &value)?;
        let held = &mut *self.held();
        let old = held.secrets.insert(name.to_owned(), value.clone());
        if old.is_none_or(|old| old.expose_secret() != value.expose_secret()) {
            held.count(name);
        }
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let held = &mut *self.held();
        if held.secrets.remove(name).is_none() {
            return Err(SecretError::not_found(name, NAME));
        }
        held.count(name);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<SecretEntry>> {
        Ok(self.held().secrets.keys().map(SecretEntry::new).collect())
    }

    async fn revisions(&self) -> Result<Option<Revisions>> {
        Ok(Some(Revisions {
            store: 0,
            secrets: self.held().revisions.clone(),
        }))
    }
}

impl fmt::Debug for MemorySecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemorySecrets")
            .field(&self.held().secrets.keys())
            .finish()
    }
}
