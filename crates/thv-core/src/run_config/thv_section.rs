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
        /// What the instance may use of the host.
        limits: LimitsSection = "limits";
        /// Whether the instance's file system cannot be written, but for its mounts and `/tmp`.
        read_only: bool = "read_only";
    }
}

go_struct! {
    /// Limits of the instance; what is not there is unlimited.
    pub struct LimitsSection {
        /// Memory, in bytes.
        memory: i64 = "memory";
        /// CPUs as a decimal number: `0.5` is half of one.
        cpus: String = "cpus";
        /// Processes and threads.
        pids: i64 = "pids";
    }
}

impl LimitsSection {
    /// The CPUs, if they are limited and what is written is a number above zero.
    pub fn cpus(&self) -> Option<f64> {
        self.cpus
            .parse()
            .ok()
            .filter(|cpus: &f64| cpus.is_finite() && *cpus > 0.0)
    }

    /// The first key whose value limits nothing, or cannot.
    pub fn invalid_key(&self) -> Option<&'static str> {
        if self.memory < 0 {
            Some("memory")
        } else if !self.cpus.is_empty() && self.cpus().is_none() {
            Some("cpus")
        } else if u32::try_from(self.pids).is_err() {
            Some("pids")
        } else {
            None
        }
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
                let mut this = Self::default();
                this.read_over(json)?;
                Ok(this)
            }

            fn read_over(&mut self, json: Json) -> Result<(), FieldError> {
                match json {
                    Json::Object(pairs) => self.read_pairs_over(pairs),
                    Json::Null => Ok(()),
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
section_field!(ThvSection, ProxySection, LimitsSection);

/// What the user said about network isolation, beyond the default.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IsolationIntent {
    /// The workload must not start where isolation cannot be enforced.
    Required,
    /// What a newer version wrote. It is kept, and nothing starts with it.
    Unknown(Json),
}

impl Field for IsolationIntent {
    fn read(json: Json) -> Result<Self, FieldError> {
        Ok(if json.as_str() == Some("required") {
            Self::Required
        } else {
            Self::Unknown(json)
        })
    }

    fn write(&self) -> Json {
        match self {
            Self::Required => "required".into(),
            Self::Unknown(json) => json.clone(),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}
