//! Making the runtime's errors.

use std::path::Path;

use thv_core::WorkloadName;
use thv_runtime::{Error, InstanceId, RuntimeKind};

pub(crate) const KIND: &str = "local";

pub(crate) fn failed(action: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Failed {
        runtime: KIND.into(),
        action: action.to_owned(),
        source: source.into(),
    }
}

pub(crate) fn file(action: &str, path: &Path, source: std::io::Error) -> Error {
    failed(&format!("{action} {}", path.display()), source)
}

pub(crate) fn not_found(name: &WorkloadName) -> Error {
    Error::NotFound {
        name: name.clone(),
        runtime: KIND.into(),
    }
}

pub(crate) fn conflict(name: &WorkloadName, found: Option<InstanceId>) -> Error {
    Error::Conflict {
        name: name.clone(),
        runtime: KIND.into(),
        found,
    }
}

pub(crate) fn unsupported(what: &str) -> Error {
    Error::Unsupported {
        runtime: RuntimeKind::new(KIND),
        what: what.to_owned(),
    }
}

pub(crate) fn invalid(what: &str, detail: impl Into<String>) -> Error {
    Error::Invalid {
        what: what.to_owned(),
        detail: detail.into(),
    }
}
