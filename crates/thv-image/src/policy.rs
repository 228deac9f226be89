//! What an image without a verified signature means.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Whether provenance is looked at, and what its absence means. A signature that is there and wrong is an error under
/// [`Warn`](Self::Warn) as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// No provenance, or none that can be looked for now: a warning.
    #[default]
    Warn,
    /// The same is an error.
    Enabled,
    /// It is not looked at.
    Disabled,
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "" | "warn" => Ok(Self::Warn),
            "enabled" => Ok(Self::Enabled),
            "disabled" => Ok(Self::Disabled),
            other => Err(Error::Invalid {
                what: "policy of image verification".into(),
                detail: format!(
                    "\"{}\" is not one of warn, enabled, disabled",
                    crate::error::short(other)
                ),
            }),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warn => "warn",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        })
    }
}
