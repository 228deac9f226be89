//! Names of workloads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
pub(crate) const MAX_LEN: usize = 100;

/// A workload's name: validated once, then trusted as a file name and as a command line argument.
///
/// One to a hundred characters of `A-Z a-z 0-9 . _ -`, without `..`, not starting with `.` or `-`, and not
/// ending in `.json` or `.lock`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadName(String);

/// Why a text is not a workload name. The text is in the message, escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid workload name \"{shown}\": {rule}")]
pub struct InvalidName {
    shown: String,
    rule: &'static str,
}

impl InvalidName {
    /// The rule that was broken, as a phrase for people.
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

impl WorkloadName {
    /// Validates `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        match broken_rule(&text) {
            None => Ok(Self(text)),
            Some(rule) => {
                let mut shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
                if text.chars().count() > 40 {
                    shown.push('…');
                }
                Err(InvalidName { shown, rule })
            }
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn broken_rule(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("a name has at least one character")
    } else if text.len() > MAX_LEN {
        Some("a name has at most 100 characters")
    } else if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        Some("a name has only letters, digits, '.', '_' and '-'")
    } else if text.starts_with(['.', '-']) {
        Some("a name does not start with '.' or '-'")
    } else if text.contains("..") {
        Some("a name does not contain '..'")
    } else if [".json", ".lock"].iter().any(|end| text.ends_with(end)) {
        Some("a name does not end in '.json' or '.lock'")
    } else {
        None
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for WorkloadName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for WorkloadName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for WorkloadName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl TryFrom<String> for WorkloadName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl From<WorkloadName> for String {
    fn from(name: WorkloadName) -> Self {
        name.0
    }
}
