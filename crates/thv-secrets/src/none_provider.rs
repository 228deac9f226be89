//! No secrets at all.

use async_trait::async_trait;
use secrecy::SecretString;

use crate::{Capabilities, Result, SecretEntry, SecretError, SecretProvider};

const NAME: &str = "none";

/// A provider that has nothing and keeps nothing, for machines that want no secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

#[async_trait]
impl SecretProvider for NoSecrets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            list: true,
            ..Capabilities::READ_ONLY
        }
    }

    async fn get(&self, name: &str) -> Result<SecretString> {
        Err(SecretError::not_found(name, NAME))
    }

    async fn set(&self, _name: &str, _value: SecretString) -> Result<()> {
        Err(SecretError::Unsupported {
            provider: NAME,
            what: "set",
        })
    }

    async fn delete(&self, _name: &str) -> Result<()> {
        Err(SecretError::Unsupported {
            provider: NAME,
            what: "delete",
        })
    }

    async fn list(&self) -> Result<Vec<SecretEntry>> {
        Ok(Vec::new())
    }
}
