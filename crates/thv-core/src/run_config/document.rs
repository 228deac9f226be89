//! From bytes to run configurations and back.

use serde::Serialize;

use super::{RunConfig, RunConfigError};
use crate::ProxyMode;
use crate::gojson::{self, Json, same_key};
use crate::record::{Field, go_struct_field};

/// The schema version that is written.
pub const SCHEMA_VERSION: &str = "v0.1.0";

/// The largest document that is read, in bytes.
pub const MAX_DOCUMENT_SIZE: usize = 4 * 1024 * 1024;

pub(crate) fn parse_document(bytes: &[u8]) -> Result<Json, RunConfigError> {
    if bytes.len() > MAX_DOCUMENT_SIZE {
        return Err(RunConfigError::TooLarge {
            size: bytes.len(),
            limit: MAX_DOCUMENT_SIZE,
        });
    }
    Ok(Json::parse(bytes)?)
}

pub(crate) fn document(json: &impl Serialize, pretty: bool) -> String {
    let text = if pretty {
        gojson::to_string_pretty(json)
    } else {
        gojson::to_string(json)
    };
    text.expect("a JSON value with text keys can always be written to memory")
}

impl RunConfig {
    /// Reads a run configuration as it is: what ToolHive writes, and what its older versions wrote.
    ///
    /// Keys match without regard to case, `null` means absent, what follows the first JSON value is ignored. What
    /// loading repairs besides is done by [`normalize`](Self::normalize), so that reading and writing alone change
    /// nothing.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RunConfigError> {
        Ok(Self::read(parse_document(bytes)?)?)
    }

    /// The file's text: an indent of two spaces, a newline at the end.
    pub fn to_json(&self) -> String {
        document(&self.with_schema_version(), true) + "\n"
    }

    /// The text without indent and newline, as the HTTP API exports it.
    pub fn to_json_compact(&self) -> String {
        document(&self.with_schema_version(), false)
    }

    fn with_schema_version(&self) -> Json {
        let mut pairs = self.write_pairs();
        if self.schema_version.is_empty()
            && let Some((_, value)) = pairs.first_mut()
        {
            *value = SCHEMA_VERSION.into();
        }
        Json::Object(pairs)
    }
}

go_struct_field!(RunConfig => |pairs| {
    // An empty text is what Go has when there is none; as a transport it would be an error. A proxy mode that means
    // nothing is replaced at the next load by the one that counts: no reason to lose sight of a workload.
    let says_nothing = |key: &str, value: &Json| match value.as_str() {
        Some("") => same_key(key, "transport") || same_key(key, "proxy_mode"),
        Some(text) => same_key(key, "proxy_mode") && text.parse::<ProxyMode>().is_err(),
        None => false,
    };
    pairs.retain(|(key, value)| !says_nothing(key, value));
});
