//! The process environment as a value.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::gojson::GoDuration;

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

    /// The value of `name` as a whole number in `range`; `None` when it is not set, or empty.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, InvalidVariable> {
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        let parse = |text: &str| text.parse().ok().filter(|number| range.contains(number));
        self.parsed(name, parse, expected)
    }

    /// The value of `name` as a time in whole seconds, a second at least and a day at most; `None` when it is not set, or empty.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn seconds(&self, name: &str) -> Result<Option<Duration>, InvalidVariable> {
        Ok(self.number(name, 1..=86_400)?.map(Duration::from_secs))
    }

    /// The value of `name` as a time above zero, as Go writes it; `None` when it is not set, or empty.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, InvalidVariable> {
        let parse = |text: &str| {
            let duration = text.parse::<GoDuration>().ok().and_then(GoDuration::to_std);
            duration.filter(|duration| !duration.is_zero())
        };
        self.parsed(name, parse, || {
            "a time above zero, such as 10s or 1m30s".to_owned()
        })
    }

    fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        expected: impl FnOnce() -> String,
    ) -> Result<Option<T>, InvalidVariable> {
        let value = self.non_empty(name);
        if value.is_none() && !self.is_not_text(name) {
            return Ok(None);
        }
        match value.and_then(|text| parse(text.trim())) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(InvalidVariable {
                variable: name.to_owned(),
                value: value.map(str::to_owned),
                expected: expected(),
            }),
        }
    }

    /// The same without this variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.text.remove(name);
        self.not_text.remove(name);
        self
    }

    /// All variables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

/// A variable of the environment whose value means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidVariable {
    /// The variable.
    pub variable: String,
    /// Its value; `None` when that is not UTF-8.
    pub value: Option<String>,
    /// What it should be.
    pub expected: String,
}

/// So much of a value is shown.
const SHOWN: usize = 80;

impl fmt::Display for InvalidVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            variable, expected, ..
        } = self;
        let Some(value) = &self.value else {
            return write!(f, "{variable} is not UTF-8: it has to be {expected}");
        };
        let shown: String = value.chars().take(SHOWN).collect();
        let more = if shown.len() < value.len() { "…" } else { "" };
        write!(f, "{variable} is {shown:?}{more}: it has to be {expected}")
    }
}

impl std::error::Error for InvalidVariable {}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.text.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_none_is_an_error_with_its_name_and_value() {
        let env = Env::from_vars([
            ("FIVE", " 5 "),
            ("EMPTY", ""),
            ("BLANK", " "),
            ("WORD", "soon"),
            ("SIZE", "10MB"),
            ("NEGATIVE", "-1"),
            ("LARGE", "86401"),
            ("ZERO", "0s"),
            ("SHORT", "250ms"),
        ]);
        assert_eq!(env.seconds("FIVE"), Ok(Some(Duration::from_secs(5))));
        assert_eq!(env.duration("SHORT"), Ok(Some(Duration::from_millis(250))));
        for unset in ["EMPTY", "MISSING"] {
            assert_eq!(env.seconds(unset), Ok(None));
            assert_eq!(env.duration(unset), Ok(None));
        }
        for (variable, value) in [
            ("BLANK", " "),
            ("WORD", "soon"),
            ("SIZE", "10MB"),
            ("NEGATIVE", "-1"),
            ("LARGE", "86401"),
        ] {
            let error = env.seconds(variable).unwrap_err().to_string();
            let said = format!("{variable} is {value:?}: it has to be a whole number from 1 to 86400");
            assert_eq!(error, said);
        }
        for variable in ["ZERO", "WORD", "FIVE"] {
            assert!(env.duration(variable).is_err(), "{variable}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_number_that_is_no_text_is_an_error_and_a_long_one_is_cut() {
        use std::os::unix::ffi::OsStringExt as _;
        let long = "9".repeat(100_000);
        let vars = [
            ("BYTES", OsString::from_vec(vec![b'5', 0xff])),
            ("LONG", long.into()),
        ];
        let env = Env::from_vars(vars);
        let error = env.number("BYTES", 1..=9).unwrap_err();
        assert_eq!(error.value, None);
        assert_eq!(
            error.to_string(),
            "BYTES is not UTF-8: it has to be a whole number from 1 to 9"
        );
        let error = env.number("LONG", 1..=9).unwrap_err().to_string();
        assert!(error.len() < 200 && error.contains("99\"…"), "{error}");
    }
}
