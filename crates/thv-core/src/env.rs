//! The process environment as a value.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

/// A snapshot of environment variables.
///
/// Nothing in the library crates reads the process environment by itself: an application takes one snapshot
/// (`Env::from_vars(std::env::vars_os())`) and passes it on, so that several managers with different
/// environments live in one process. Variables that are not UTF-8 are left out; of which ones the value is not, is
/// [remembered](Self::is_not_text). `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Env {
    text: BTreeMap<String, String>,
    not_text: BTreeSet<String>,
}

impl Env {
    /// Takes a snapshot from name and value pairs; a later pair of the same name wins.
    pub fn from_vars<K, V>(vars: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let mut env = Self::default();
        for (name, value) in vars {
            let Ok(name) = name.into().into_string() else {
                continue;
            };
            if let Ok(value) = value.into().into_string() {
                env.not_text.remove(&name);
                env.text.insert(name, value);
            } else {
                env.text.remove(&name);
                env.not_text.insert(name);
            }
        }
        env
    }

    /// Whether `name` is set to a value that is not UTF-8. It has no value here: where a default in its place would be wrong, this
    /// tells the two apart.
    pub fn is_not_text(&self, name: &str) -> bool {
        self.not_text.contains(name)
    }

    /// The value of `name`, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.text.get(name).map(String::as_str)
    }

    /// The value of `name`, if it is set and not empty.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The value of `name` as a time in whole seconds, if it is one: at least a second and at most a day.
    pub fn seconds(&self, name: &str) -> Option<Duration> {
        let seconds = self.get(name)?.trim().parse().ok()?;
        (1..=86_400)
            .contains(&seconds)
            .then(|| Duration::from_secs(seconds))
    }

    /// All variables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.text.keys()).finish()
    }
}
