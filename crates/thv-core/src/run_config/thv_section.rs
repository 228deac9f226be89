//! `thv`: keys that ToolHive does not have.

use crate::gojson::Json;
use crate::record::{Field, FieldError, go_struct};

go_struct! {
    /// The section of a run configuration that is ours. ToolHive ignores it, and drops it when it saves the file.
    pub struct ThvSection {
        /// What the user said about network isolation; absent means nothing.
        isolation: Option<IsolationIntent> = "isolation";
        /// What the proxy takes and passes on.
        proxy: ProxySection = "proxy";
    }
}

go_struct! {
    /// Limits of the proxy; 0 is the default.
    pub struct ProxySection {
        /// Largest request body, in bytes.
        max_body_bytes: i64 = "max_body_bytes";
        /// Longest line of a stdio server, in bytes.
        max_line_bytes: i64 = "max_line_bytes";
        /// Names that the proxy is reached by, besides the machine's own.
        allowed_hosts: Vec<String> = "allowed_hosts";
    }
}

macro_rules! section_field {
    ($($name:ty),+) => {$(
        impl Field for $name {
            fn read(json: Json) -> Result<Self, FieldError> {
                match json {
                    Json::Object(pairs) => Self::read_pairs(pairs),
                    other => Err(FieldError::expected("an object", &other)),
                }
            }

            fn write(&self) -> Json {
                Json::Object(self.write_pairs())
            }

            /// Not there at all when it says nothing: then the file is ToolHive's, byte for byte.
            fn is_empty(&self) -> bool {
                self.is_default()
            }
        }
    )+};
}
section_field!(ThvSection, ProxySection);

/// What the user said about network isolation, beyond the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IsolationIntent {
    /// The workload must not start where isolation cannot be enforced.
    Required,
}

impl Field for IsolationIntent {
    fn read(json: Json) -> Result<Self, FieldError> {
        match &json {
            Json::String(text) if text == "required" => Ok(Self::Required),
            Json::String(_) => Err(FieldError::new("expected \"required\"")),
            other => Err(FieldError::expected("\"required\"", other)),
        }
    }

    fn write(&self) -> Json {
        match self {
            Self::Required => "required".into(),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}
