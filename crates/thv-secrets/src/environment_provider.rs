//! Secrets from environment variables.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use secrecy::SecretString;
use thv_core::Env;

use crate::{Capabilities, Result, SecretEntry, SecretError, SecretProvider};

/// What comes before a secret's name in its variable.
pub const VARIABLE_PREFIX: &str = "TOOLHIVE_SECRET_";

const NAME: &str = "environment";

/// The variables `TOOLHIVE_SECRET_<name>` of a snapshot of the environment, the name taken as it is; an empty one
/// is none. Read-only, and not listed: whoever sees the environment of a process need not learn from us what is in
/// it.
pub struct EnvironmentSecrets(BTreeMap<String, SecretString>);

impl EnvironmentSecrets {
    /// Takes the secrets out of a snapshot.
    pub fn new(env: &Env) -> Self {
        let secret = |(variable, value): (&str, &str)| {
            let name = variable.strip_prefix(VARIABLE_PREFIX)?;
            let is_one = !name.is_empty() && !value.is_empty();
            is_one.then(|| (name.to_owned(), SecretString::from(value)))
        };
        Self(env.iter().filter_map(secret).collect())
    }

    fn unsupported<T>(what: &'static str) -> Result<T> {
        Err(SecretError::Unsupported { provider: NAME, what })
    }
}

#[async_trait]
impl SecretProvider for EnvironmentSecrets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::READ_ONLY
    }

    async fn get(&self, name: &str) -> Result<SecretString> {
        self.0
            .get(name)
            .cloned()
            .ok_or_else(|| SecretError::not_found(name, NAME))
    }

    async fn set(&self, _name: &str, _value: SecretString) -> Result<()> {
        Self::unsupported("set")
    }

    async fn delete(&self, _name: &str) -> Result<()> {
        Self::unsupported("delete")
    }

    async fn list(&self) -> Result<Vec<SecretEntry>> {
        Self::unsupported("list")
    }
}

impl fmt::Debug for EnvironmentSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EnvironmentSecrets").field(&self.0.keys()).finish()
    }
}
