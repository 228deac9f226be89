//! What can be wrong with labels and selectors.

/// Why a text is no label or no selector. Each names the part that is wrong, escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// A label's key breaks a rule.
    #[error("invalid label key \"{key}\": {rule}")]
    Key {
        /// The key.
        key: String,
        /// The rule, as a phrase for people.
        rule: &'static str,
    },
    /// A label's value breaks a rule.
    #[error("invalid value \"{value}\" of label \"{key}\": {rule}")]
    Value {
        /// The key that it belongs to.
        key: String,
        /// The value.
        value: String,
        /// The rule, as a phrase for people.
        rule: &'static str,
    },
    /// A label has no `=`.
    #[error("invalid label \"{label}\": use <key>=<value>")]
    NoValue {
        /// The text.
        label: String,
    },
    /// A selector has a part that is no requirement.
    #[error("invalid selector \"{part}\": {rule}")]
    Selector {
        /// The part.
        part: String,
        /// The rule, as a phrase for people.
        rule: &'static str,
    },
}

impl LabelError {
    /// A stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Key { .. } => "invalid_label_key",
            Self::Value { .. } => "invalid_label_value",
            Self::NoValue { .. } => "invalid_label",
            Self::Selector { .. } => "invalid_selector",
        }
    }

    /// Whether the same text could be accepted later. It never could.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// A text from outside as a message can show it.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}
