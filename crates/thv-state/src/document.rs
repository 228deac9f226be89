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
}

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
    /// Validates `text`: 1 to 200 bytes, no separator, control character or leading dot.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidDocumentName> {
        let text = text.into();
        let safe = (1..=200).contains(&text.len())
            && !text.starts_with('.')
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
}

impl From<&WorkloadName> for DocumentName {
    fn from(name: &WorkloadName) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
