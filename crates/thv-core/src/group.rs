//! Names of groups.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The group that workloads belong to when none is named.
const DEFAULT: &str = "default";

/// The longest name, in bytes: with `.json` it is a file name.
const MAX_LEN: usize = 250;

/// A group's name: lower-case letters, digits, `_`, `-` and single spaces inside.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(String);

/// Why a text is not a group name. The text is in the message, escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid group name \"{shown}\": {rule}")]
pub struct InvalidGroupName {
    shown: String,
    rule: &'static str,
}

impl InvalidGroupName {
    /// The rule that was broken, as a phrase for people.
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

impl GroupName {
    /// Validates `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidGroupName> {
        let text = text.into();
        match broken_rule(&text) {
            None => Ok(Self(text)),
            Some(rule) => Err(InvalidGroupName {
                shown: text.chars().take(40).flat_map(char::escape_debug).collect(),
                rule,
            }),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a group of ToolHive's own that lists leave out.
    pub fn is_internal(&self) -> bool {
        self.0 == "__mcp-optimizer__"
    }
}

fn broken_rule(text: &str) -> Option<&'static str> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b' ');
    if text.is_empty() {
        Some("a group name has at least one character")
    } else if text.len() > MAX_LEN {
        Some("a group name has at most 250 characters")
    } else if !text.bytes().all(allowed) {
        Some("a group name has only lower-case letters, digits, '_', '-' and spaces")
    } else if text.starts_with(' ') || text.ends_with(' ') {
        Some("a group name does not start or end with a space")
    } else if text.contains("  ") {
        Some("a group name has no two spaces in a row")
    } else {
        None
    }
}

impl Default for GroupName {
    /// The group `default`.
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for GroupName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = InvalidGroupName;
    fn from_str(text: &str) -> Result<Self, InvalidGroupName> {
        Self::new(text)
    }
}

impl TryFrom<String> for GroupName {
    type Error = InvalidGroupName;
    fn try_from(text: String) -> Result<Self, InvalidGroupName> {
        Self::new(text)
    }
}

impl From<GroupName> for String {
    fn from(name: GroupName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_names_follow_the_rule() {
        for text in ["default", "my group", "a-b_c", "0", "__mcp-optimizer__"] {
            assert_eq!(GroupName::new(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            " a",
            "a ",
            "a  b",
            "A",
            "é",
            "a/b",
            "..",
            "a.b",
            "a\tb",
            "a\0",
            &"a".repeat(251),
        ] {
            assert!(GroupName::new(text).is_err(), "{text:?}");
        }
    }
}
