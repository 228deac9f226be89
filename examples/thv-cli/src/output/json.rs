//! JSON as Go's encoder writes it: an indent of two spaces.

use std::io;

use thv::core::gojson::{self, Json};

/// Writes `value` with a newline at its end.
pub(crate) fn print(value: &Json) -> io::Result<()> {
    super::print(&(text(value)? + "\n"))
}

/// The text of `value`.
pub(crate) fn text(value: &Json) -> io::Result<String> {
    gojson::to_string_pretty(value).map_err(io::Error::other)
}

/// `value` on a line of its own.
pub(crate) fn line(value: &Json) -> io::Result<String> {
    Ok(gojson::to_string(value).map_err(io::Error::other)? + "\n")
}

/// An object that grows key by key.
#[derive(Debug, Default)]
pub(crate) struct Object(Vec<(String, Json)>);

impl Object {
    /// Adds a key.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Json>) -> Self {
        self.0.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a key unless its text is empty.
    pub(crate) fn with_text(self, key: &str, text: &str) -> Self {
        if text.is_empty() {
            self
        } else {
            self.with(key, text)
        }
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        object.0.into_iter().collect()
    }
}
