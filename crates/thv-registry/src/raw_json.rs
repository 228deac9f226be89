//! JSON that is passed on as it is.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use thv_core::Json;

/// A part of a document that nothing here looks into, kept as its text. `Debug` shows its length only.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// The text, without white space around it.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The value; `null` where it is nested beyond what is read.
    pub fn json(&self) -> Json {
        Json::parse(self.get().as_bytes()).unwrap_or_default()
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for RawJson {}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawJson({} bytes)", self.get().len())
    }
}
