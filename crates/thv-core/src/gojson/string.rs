//! Strings that remember how they were written.

use std::fmt;
use std::ops::Deref;

use super::format;

/// A string of a JSON document, decoded. Where it was written with other escapes than Go would choose, it remembers how:
/// Go passes on sections that it does not read with their escapes untouched.
///
/// `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct JsonString {
    text: String,
    /// With its quotes, and with those characters escaped that Go escapes on the way.
    literal: Option<Box<str>>,
}

impl JsonString {
    /// Of a literal with its quotes, and what it means.
    pub(super) fn from_literal(text: String, literal: &str) -> Self {
        let literal = format::html_escaped(literal);
        let usual = format::string_literal(&text) == literal;
        Self {
            text,
            literal: (!usual).then(|| literal.into_boxed_str()),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text; how it was written is forgotten.
    pub fn into_string(self) -> String {
        self.text
    }

    /// How it was written, quotes included, if Go would write it in another way.
    pub(super) fn literal(&self) -> Option<&str> {
        self.literal.as_deref()
    }
}

impl Deref for JsonString {
    type Target = str;
    fn deref(&self) -> &str {
        &self.text
    }
}

impl From<String> for JsonString {
    fn from(text: String) -> Self {
        Self { text, literal: None }
    }
}

impl From<&str> for JsonString {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl PartialEq<str> for JsonString {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

impl fmt::Debug for JsonString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.text.is_empty() { "\"\"" } else { "\"…\"" })
    }
}
