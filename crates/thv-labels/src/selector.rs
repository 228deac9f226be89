//! Selectors: which workloads are meant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::error::LabelError;
use crate::selector_parse;

/// What the labels of a workload must be like: all requirements hold. Without any, everything is meant.
///
/// The syntax is that of Kubernetes: `key=value`, `key==value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key`
/// (there is such a label) and `!key` (there is none), joined by commas. `!=` and `notin` also hold where there is no
/// such label.
///
/// ```
/// use thv_labels::Selector;
///
/// let selector: Selector = "env=dev, tier notin (db, cache)".parse()?;
/// assert_eq!(selector.to_string(), "env=dev,tier notin (cache,db)");
/// # Ok::<(), thv_labels::LabelError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One requirement of a [`Selector`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Requirement {
    /// `key=value`.
    Equal {
        /// The label's key.
        key: String,
        /// Its value.
        value: String,
    },
    /// `key!=value`.
    NotEqual {
        /// The label's key.
        key: String,
        /// The value that it does not have.
        value: String,
    },
    /// `key in (a,b)`.
    In {
        /// The label's key.
        key: String,
        /// The values, one of which it has.
        values: BTreeSet<String>,
    },
    /// `key notin (a,b)`.
    NotIn {
        /// The label's key.
        key: String,
        /// The values, none of which it has.
        values: BTreeSet<String>,
    },
    /// `key`.
    Exists {
        /// The label's key.
        key: String,
    },
    /// `!key`.
    NotExists {
        /// The label's key.
        key: String,
    },
}

impl Selector {
    /// Reads several selectors, all of which must hold, as a repeated `--label` option gives them.
    pub fn parse_all<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, LabelError> {
        let mut all = Self::default();
        for text in texts {
            all.requirements.extend(selector_parse::parse(text.as_ref())?);
        }
        Ok(all)
    }

    /// A selector of these requirements.
    pub fn new(requirements: Vec<Requirement>) -> Self {
        Self { requirements }
    }

    /// The requirements, in their order.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether everything is meant.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether `labels` fulfil all requirements.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    /// The key of the label that it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Equal { key, .. }
            | Self::NotEqual { key, .. }
            | Self::In { key, .. }
            | Self::NotIn { key, .. }
            | Self::Exists { key }
            | Self::NotExists { key } => key,
        }
    }

    /// Whether `labels` fulfil it.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(self.key());
        match self {
            Self::Equal { value, .. } => found == Some(value),
            Self::NotEqual { value, .. } => found != Some(value),
            Self::In { values, .. } => found.is_some_and(|value| values.contains(value)),
            Self::NotIn { values, .. } => found.is_none_or(|value| !values.contains(value)),
            Self::Exists { .. } => found.is_some(),
            Self::NotExists { .. } => found.is_none(),
        }
    }
}

impl FromStr for Selector {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        selector_parse::parse(text).map(Self::new)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            let separator = if at == 0 { "" } else { "," };
            write!(f, "{separator}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match self {
            Self::Equal { key, value } => write!(f, "{key}={value}"),
            Self::NotEqual { key, value } => write!(f, "{key}!={value}"),
            Self::In { key, values } => write!(f, "{key} in ({})", list(values)),
            Self::NotIn { key, values } => write!(f, "{key} notin ({})", list(values)),
            Self::Exists { key } => f.write_str(key),
            Self::NotExists { key } => write!(f, "!{key}"),
        }
    }
}
