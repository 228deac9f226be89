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

/// How much of what a keyring says is told.
const LONGEST: usize = 300;
/// What is said of a session that has no keyring, or not even a bus to ask for one.
const NO_SERVICE: [&str; 6] = [
    "no secret service provider or dbus session found",
    "Failed to connect",
    "No such file or directory",
    "ServiceUnknown",
    "not provided by any .service",
    "autolaunch",
];

/// What is wrong, in words that say what can be done about it, with the cause where those do not say it all.
fn in_short(error: &keyring_core::Error) -> String {
    let cause = match error {
        keyring_core::Error::PlatformFailure(cause) | keyring_core::Error::NoStorageAccess(cause) => {
            cause.to_string()
        }
        // The words of these may quote what is kept.
        keyring_core::Error::BadDataFormat(..) => "what it keeps has another form".into(),
        other => other.to_string(),
    };
    let what = match error {
        keyring_core::Error::NoStorageAccess(_) => "it is locked",
        keyring_core::Error::PlatformFailure(_) => {
            if NO_SERVICE.iter().any(|words| cause.contains(words)) {
                return "no keyring service runs in this session".into();
            }
            "it failed"
        }
        _ => "it cannot keep this password",
    };
    let cause: String = cause
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(LONGEST)
        .collect();
    format!("{what}: {cause}")
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

    async fn told(error: keyring_core::Error) -> String {
        let error = asked::<()>(move || Err(error)).await.unwrap_err();
        std::error::Error::source(&error).unwrap().to_string()
    }

    #[tokio::test]
    async fn a_session_without_a_keyring_is_told_in_a_few_words() {
        for long in [
            "zbus error: Failed to connect to address `unix:path=/run/user/1000/bus`",
            "I/O error: No such file or directory (os error 2)",
            "org.freedesktop.DBus.Error.ServiceUnknown: The name is not activatable",
        ] {
            let said = told(keyring_core::Error::PlatformFailure(long.into())).await;
            assert_eq!(said, "no keyring service runs in this session");
        }
    }

    #[tokio::test]
    async fn what_else_a_keyring_says_is_kept_but_nothing_of_what_it_keeps() {
        let said = told(keyring_core::Error::PlatformFailure("timed out\nmore".into())).await;
        assert_eq!(said, "it failed: timed out");
        let said = told(keyring_core::Error::NoStorageAccess("prompt dismissed".into())).await;
        assert_eq!(said, "it is locked: prompt dismissed");
        let kept = keyring_core::Error::BadDataFormat(b"pass-4711".into(), "quotes pass-4711".into());
        assert!(!told(kept).await.contains("4711"));
        let kept = keyring_core::Error::BadEncoding(b"pass-4711\xff".into());
        assert!(!told(kept).await.contains("4711"));
    }
}
