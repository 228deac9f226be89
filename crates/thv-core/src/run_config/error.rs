//! What can be wrong with a run configuration's document.

use crate::gojson::ParseJsonError;
use crate::record::FieldError;

/// Why a document is not a run configuration (or a permission profile).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunConfigError {
    /// The document is larger than anything that a program would write.
    #[error("the document has {size} bytes, more than the {limit} that are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The largest size that is accepted, in bytes.
        limit: usize,
    },
    /// It is not JSON.
    #[error(transparent)]
    Json(#[from] ParseJsonError),
    /// A key has a value that it cannot have.
    #[error(transparent)]
    Field(#[from] FieldError),
}

impl RunConfigError {
    /// A stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "run_config_too_large",
            Self::Json(_) => "run_config_not_json",
            Self::Field(_) => "run_config_invalid",
        }
    }

    /// Whether the same document could be read later. It never could.
    pub fn is_retryable(&self) -> bool {
        false
    }
}
