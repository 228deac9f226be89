//! What a provider does not have may be in the environment.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use thv_core::Env;

use crate::{Capabilities, EnvironmentSecrets, Result, Revisions, SecretEntry, SecretProvider};

/// The variable that turns the fallback off, with the value `true`.
pub const DISABLE_FALLBACK_VARIABLE: &str = "TOOLHIVE_DISABLE_ENV_FALLBACK";

/// Another provider, and behind it the environment: a secret that is not found there, and only then, is looked for
/// in `TOOLHIVE_SECRET_<name>`. Changes and listings are the other provider's alone.
#[derive(Debug)]
pub struct FallbackSecrets {
    inner: Arc<dyn SecretProvider>,
    environment: EnvironmentSecrets,
}

impl FallbackSecrets {
    /// Puts the environment behind `inner`.
    pub fn new(inner: Arc<dyn SecretProvider>, env: &Env) -> Self {
        Self {
            inner,
            environment: EnvironmentSecrets::new(env),
        }
    }

    /// As [`new`](Self::new), or `inner` itself where the environment says `TOOLHIVE_DISABLE_ENV_FALLBACK=true`.
    pub fn unless_disabled(inner: Arc<dyn SecretProvider>, env: &Env) -> Arc<dyn SecretProvider> {
        if env.get(DISABLE_FALLBACK_VARIABLE) == Some("true") {
            inner
        } else {
            Arc::new(Self::new(inner, env))
        }
    }
}

#[async_trait]
impl SecretProvider for FallbackSecrets {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn get(&self, name: &str) -> Result<SecretString> {
        match self.inner.get(name).await {
            // When neither has it, the answer is about the provider that was chosen.
            Err(missing) if missing.is_not_found() => self.environment.get(name).await.map_err(|_| missing),
            answer => answer,
        }
    }

    async fn set(&self, name: &str, value: SecretString) -> Result<()> {
        self.inner.set(name, value).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name).await
    }

    async fn list(&self) -> Result<Vec<SecretEntry>> {
        self.inner.list().await
    }

    async fn revisions(&self) -> Result<Option<Revisions>> {
        self.inner.revisions().await
    }

    fn key(&self) -> Option<SecretString> {
        self.inner.key()
    }

    fn accept_key(&self, key: SecretString) {
        self.inner.accept_key(key);
    }
}
