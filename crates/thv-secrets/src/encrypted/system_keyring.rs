//! The keyring of the desktop session.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use keyring_core::api::CredentialStoreApi as _;
use secrecy::{ExposeSecret, SecretString};
use zbus_secret_service_keyring_store::Store;

use super::keyring::{KEYRING_ACCOUNT, KEYRING_SERVICE, Keyring};
use crate::{Result, SecretError};

/// A locked keyring asks its user for a password of its own, which takes a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// The Secret Service of the desktop session (GNOME Keyring, KWallet), reached over D-Bus.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemKeyring;

#[async_trait]
impl Keyring for SystemKeyring {
    async fn read(&self) -> Result<Option<SecretString>> {
        asked(|| match entry()?.get_password() {
            Ok(password) => Ok(Some(SecretString::from(password))),
            Err(keyring_core::Error::NoEntry) => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn write(&self, password: &SecretString) -> Result<()> {
        let password = password.clone();
        asked(move || entry()?.set_password(password.expose_secret())).await
    }
}

fn entry() -> keyring_core::Result<keyring_core::Entry> {
    Store::new()?.build(KEYRING_SERVICE, KEYRING_ACCOUNT, None::<&HashMap<&str, &str>>)
}

/// What is wrong, in words that say what can be done about it.
fn in_short(error: &keyring_core::Error) -> &'static str {
    match error {
        keyring_core::Error::NoStorageAccess(_) => "it is locked",
        keyring_core::Error::PlatformFailure(_) => "no keyring service runs in this session",
        _ => "it cannot keep this password",
    }
}

async fn asked<T: Send + 'static>(
    ask: impl FnOnce() -> keyring_core::Result<T> + Send + 'static,
) -> Result<T> {
    let asked = tokio::task::spawn_blocking(ask);
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => answer.map_err(|error| SecretError::KeyringUnavailable {
            source: in_short(&error).into(),
        }),
        Ok(Err(error)) => Err(SecretError::KeyringUnavailable { source: error.into() }),
        Err(_) => Err(SecretError::KeyringUnavailable {
            source: format!("no answer for {} s", PATIENCE.as_secs()).into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_keyring_says_is_told_in_a_few_words() {
        let long = "zbus error: Failed to connect to address `unix:path=/run/user/1000/bus`";
        let failed = asked::<()>(move || Err(keyring_core::Error::PlatformFailure(long.into()))).await;
        let error = failed.unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(cause.as_deref(), Some("no keyring service runs in this session"));
    }
}
