//! The seam to a store of secrets.

use std::fmt::Debug;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::{Result, Revisions, SecretError};

/// The longest name, in bytes.
const MAX_NAME: usize = 1024;

/// A store of secrets by name.
///
/// Contract:
/// - names are compared as they are, nothing is trimmed or folded; the empty name, one with control characters and
///   one beyond 1024 bytes are refused as `Invalid` when they are set, and found by nobody
/// - a secret with an empty value cannot be told from none: it is not set
/// - what [`capabilities`](Self::capabilities) denies answers `Unsupported`, and changes nothing
/// - no value appears in `Debug`, in an error or in a log
/// - where [`revisions`](Self::revisions) are known, they tell each change of a value that is made through this provider
/// - dropping a future leaves a secret as it was or as it should be, never in between
///
/// It is implemented under [`async_trait`](crate::async_trait). A wrapper passes every method on, those with a default too: `#[deny(clippy::missing_trait_methods)]` finds what is
/// forgotten.
#[async_trait]
pub trait SecretProvider: Debug + Send + Sync + 'static {
    /// The provider's name in messages.
    fn name(&self) -> &'static str;

    /// What it can do besides reading.
    fn capabilities(&self) -> Capabilities;

    /// The value of a secret.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    async fn get(&self, name: &str) -> Result<SecretString>;

    /// Sets or replaces a secret.
    async fn set(&self, name: &str, value: SecretString) -> Result<()>;

    /// Deletes a secret.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    async fn delete(&self, name: &str) -> Result<()>;

    /// All secrets, without their values, by name.
    async fn list(&self) -> Result<Vec<SecretEntry>>;

    /// How often secrets have changed, where the provider knows (`None`: it does not). Asked before secrets are read, it
    /// tells later whether they are still what was read. Nothing that opens the store is needed.
    async fn revisions(&self) -> Result<Option<Revisions>> {
        Ok(None)
    }

    /// What opens the store, if this provider needs it and has it by now. A process that goes on with this one's work
    /// is given it over a private channel, and never by its environment or arguments.
    fn key(&self) -> Option<SecretString> {
        None
    }

    /// Uses `key` from now on; nothing where none is needed.
    fn accept_key(&self, key: SecretString) {
        let _ = key;
    }
}

/// What a provider can do besides reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// It can set and replace.
    pub set: bool,
    /// It can delete.
    pub delete: bool,
    /// It can tell what it has.
    pub list: bool,
}

impl Capabilities {
    /// Everything.
    pub const ALL: Self = Self {
        set: true,
        delete: true,
        list: true,
    };

    /// Reading only.
    pub const READ_ONLY: Self = Self {
        set: false,
        delete: false,
        list: false,
    };
}

/// A secret in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct SecretEntry {
    /// The name to ask for.
    pub name: String,
    /// What the provider says about it, or nothing.
    pub description: Option<String>,
}

impl SecretEntry {
    /// A secret that its provider says nothing about.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            description: None,
        }
    }
}

/// The rule for names, and for values, that are set.
pub(crate) fn check(name: &str, value: &SecretString) -> Result<()> {
    let rule = if name.is_empty() {
        "a name has at least one character"
    } else if name.len() > MAX_NAME {
        "a name has at most 1024 bytes"
    } else if name.chars().any(char::is_control) {
        "a name has no control characters"
    } else if secrecy::ExposeSecret::expose_secret(value).is_empty() {
        "an empty value is no secret: delete it instead"
    } else {
        return Ok(());
    };
    Err(SecretError::Invalid {
        name: name.to_owned(),
        rule,
    })
}
