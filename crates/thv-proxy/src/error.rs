//! What can go wrong, keyed by what a caller does about it.

use std::io;

/// An error of this crate. Errors that a client of the proxy sees are HTTP answers, not this type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// A configuration value that cannot be used; change it.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// The field or value.
        what: &'static str,
        /// The rule that it breaks.
        reason: String,
    },
    /// The server behind the proxy cannot be reached; it may be again later.
    #[error("the server behind the proxy is not reachable: {reason}")]
    Unavailable {
        /// What was tried.
        reason: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The server's certificate is not accepted, so that it was asked nothing. That does not change by waiting.
    #[error("the certificate of the server behind the proxy is not accepted: {reason}")]
    Certificate {
        /// What is wrong with it.
        reason: String,
    },
    /// The server answered, but not as an MCP server does.
    #[error("the server behind the proxy refused: {reason}")]
    Refused {
        /// What it answered.
        reason: String,
    },
    /// No answer within the time allowed.
    #[error("no answer to {what} within {seconds} s")]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// How long it was waited.
        seconds: u64,
    },
    /// The listening socket does not work.
    #[error("the listening socket cannot be used")]
    Listener {
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl ProxyError {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Unavailable { .. } => "unavailable",
            Self::Certificate { .. } => "certificate",
            Self::Refused { .. } => "refused",
            Self::Timeout { .. } => "timeout",
            Self::Listener { .. } => "listener",
        }
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Timeout { .. })
    }
}
