//! Where the password of the encrypted file comes from.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::SecretString;

use super::Keyring;
use crate::{Result, SecretError};

/// The password of an encrypted file: given, or asked of a keyring when it is needed for the first time.
pub struct Password {
    keyring: Option<Arc<dyn Keyring>>,
    known: Mutex<Option<SecretString>>,
}

impl Password {
    /// This one.
    pub fn given(password: SecretString) -> Self {
        Self {
            keyring: None,
            known: Mutex::new(Some(password)),
        }
    }

    /// The one that the keyring has.
    pub fn from_keyring(keyring: Arc<dyn Keyring>) -> Self {
        Self {
            keyring: Some(keyring),
            known: Mutex::default(),
        }
    }

    /// The password.
    ///
    /// # Errors
    /// `Locked` when the keyring has none or does not answer.
    pub(super) async fn get(&self) -> Result<SecretString> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let Some(keyring) = &self.keyring else {
            return Err(SecretError::Locked { source: None });
        };
        let password = keyring
            .read()
            .await
            .map_err(|error| SecretError::Locked {
                source: Some(Box::new(error)),
            })?
            .ok_or(SecretError::Locked { source: None })?;
        self.learn(password.clone());
        Ok(password)
    }

    pub(super) fn known(&self) -> Option<SecretString> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn learn(&self, password: SecretString) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(password);
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password")
            .field("keyring", &self.keyring)
            .field("known", &self.known().is_some())
            .finish()
    }
}
