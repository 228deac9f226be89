//! The process environment as a value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

/// A snapshot of environment variables.
///
/// Nothing in the library crates reads the process environment by itself: an application takes one snapshot
/// (`Env::from_vars(std::env::vars_os())`) and passes it on, so that several managers with different
/// environments live in one process. Variables that are not UTF-8 are left out. `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// Takes a snapshot from name and value pairs; a later pair of the same name wins.
    pub fn from_vars<K, V>(vars: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let text = |value: OsString| value.into_string().ok();
        Self(
            vars.into_iter()
                .filter_map(|(k, v)| Some((text(k.into())?, text(v.into())?)))
                .collect(),
        )
    }

    /// The value of `name`, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
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
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
