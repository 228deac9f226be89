//! The system's keyring, which keeps the password.

use std::fmt::Debug;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::{Result, SecretError};

/// The service under which ToolHive keeps the password.
pub const KEYRING_SERVICE: &str = "toolhive";
/// The account under which ToolHive keeps the password.
pub const KEYRING_ACCOUNT: &str = "toolhive";

/// Keeps one password.
#[async_trait]
pub trait Keyring: Debug + Send + Sync + 'static {
    /// The password; `None` when it keeps none.
    ///
    /// # Errors
    /// `KeyringUnavailable`.
    async fn read(&self) -> Result<Option<SecretString>>;

    /// Keeps `password` from now on.
    ///
    /// # Errors
    /// `KeyringUnavailable`.
    async fn write(&self, password: &SecretString) -> Result<()>;
}

/// No keyring at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKeyring;

#[async_trait]
impl Keyring for NoKeyring {
    async fn read(&self) -> Result<Option<SecretString>> {
        Ok(None)
    }

    async fn write(&self, _password: &SecretString) -> Result<()> {
        Err(SecretError::KeyringUnavailable {
            source: "there is none".into(),
        })
    }
}
