//! The system's own secrets.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::{Capabilities, RESERVED_PREFIX, Result, Revisions, SecretEntry, SecretProvider};

/// What a secret of the system is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// Credentials of registries.
    Registry,
    /// Client secrets, bearer and refresh tokens of workloads.
    Workloads,
    /// Credentials of the HTTP API's own authentication.
    Auth,
    /// Credentials of language models.
    Llm,
}

impl Scope {
    /// The scope's part of a stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Workloads => "workloads",
            Self::Auth => "auth",
            Self::Llm => "llm",
        }
    }
}

/// The secrets of one scope, stored as `__thv_<scope>_<name>`. Reading falls back to the bare name, under which
/// older versions stored them; nothing else does.
#[derive(Debug)]
pub struct ScopedSecrets {
    inner: Arc<dyn SecretProvider>,
    prefix: String,
}

impl ScopedSecrets {
    /// The secrets of `scope` in `inner`.
    pub fn new(inner: Arc<dyn SecretProvider>, scope: Scope) -> Self {
        Self {
            inner,
            prefix: format!("{RESERVED_PREFIX}{}_", scope.as_str()),
        }
    }

    fn stored(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A missing secret is missing under the name that was asked for.
    fn named<T>(answer: Result<T>, asked: &str) -> Result<T> {
        answer.map_err(|error| match error {
            crate::SecretError::NotFound { provider, .. } => crate::SecretError::not_found(asked, provider),
            other => other,
        })
    }
}

#[async_trait]
impl SecretProvider for ScopedSecrets {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn get(&self, name: &str) -> Result<SecretString> {
        match self.inner.get(&self.stored(name)).await {
            // A bare name that is itself a stored one would reach into another scope.
            Err(missing) if missing.is_not_found() && !name.starts_with(RESERVED_PREFIX) => {
                self.inner.get(name).await
            }
            answer => Self::named(answer, name),
        }
    }

    async fn set(&self, name: &str, value: SecretString) -> Result<()> {
        crate::provider::check(name, &value)?;
        self.inner.set(&self.stored(name), value).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        Self::named(self.inner.delete(&self.stored(name)).await, name)
    }

    async fn list(&self) -> Result<Vec<SecretEntry>> {
        let ours = |entry: SecretEntry| {
            let name = entry.name.strip_prefix(&self.prefix)?.to_owned();
            Some(SecretEntry { name, ..entry })
        };
        Ok(self.inner.list().await?.into_iter().filter_map(ours).collect())
    }

    async fn revisions(&self) -> Result<Option<Revisions>> {
        let mut revisions = self.inner.revisions().await?;
        if let Some(Revisions { secrets, .. }) = &mut revisions {
            let ours =
                |(name, count): (String, u64)| Some((name.strip_prefix(&self.prefix)?.to_owned(), count));
            *secrets = std::mem::take(secrets).into_iter().filter_map(ours).collect();
        }
        Ok(revisions)
    }

    fn key(&self) -> Option<SecretString> {
        self.inner.key()
    }

    fn accept_key(&self, key: SecretString) {
        self.inner.accept_key(key);
    }
}
