//! What documents are called.

use std::fmt;

use thv_core::WorkloadName;

/// A kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DocumentKind {
    /// The run configuration of a workload: `runconfigs/<name>.json`.
    RunConfig,
    /// A group: `groups/<name>.json`.
    Group,
}

impl DocumentKind {
    /// What one is called in messages.
    pub fn noun(self) -> &'static str {
        match self {
            Self::RunConfig => "run config",
            Self::Group => "group",
        }
    }

    /// What is to be done about one that is damaged.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::RunConfig => "correct the file, or remove the workload",
            Self::Group => "correct the file, or remove it",
        }
    }
}

/// The longest name, in bytes: with `.json` it is the longest file name that there is.
const MAX_LEN: usize = 250;
/// How much of a name the name of a temporary file begins with.
const MAX_PREFIX: usize = 200;
/// What temporary files have between their document's name and their own.
const TEMPORARY: &str = ".json.tmp-";

/// A name that is safe as a file name. Wider than [`WorkloadName`]: old files must be listed and removed too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentName(String);

/// A text that would leave its folder, or be no file name at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{shown}\" cannot be a document's name")]
pub struct InvalidDocumentName {
    shown: String,
}

impl DocumentName {
    /// Validates `text`: 1 to 250 bytes, no separator or control character, not `.` or `..`, and not what a temporary
    /// file is called (`.<name>.json.tmp-…`).
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidDocumentName> {
        let text = text.into();
        let is_temporary = text.starts_with('.') && text.contains(TEMPORARY);
        let safe = (1..=MAX_LEN).contains(&text.len())
            && !matches!(text.as_str(), "." | "..")
            && !is_temporary
            && !text.contains(['/', '\\'])
            && !text.chars().any(char::is_control);
        if safe {
            Ok(Self(text))
        } else {
            Err(InvalidDocumentName {
                shown: text.chars().take(80).flat_map(char::escape_debug).collect(),
            })
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as text.
    pub fn into_string(self) -> String {
        self.0
    }

    /// What the names of its temporary files begin with: they have room for no more than a part of a long one.
    pub(crate) fn temporary_prefix(&self) -> String {
        let mut end = self.0.len().min(MAX_PREFIX);
        while !self.0.is_char_boundary(end) {
            end -= 1;
        }
        format!(".{}{TEMPORARY}", &self.0[..end])
    }
}

impl From<&WorkloadName> for DocumentName {
    fn from(name: &WorkloadName) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl AsRef<str> for DocumentName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
