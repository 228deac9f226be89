//! Where a proxy gets the token that it shows to a remote server.

use std::fmt;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;

/// A boxed future, as the methods of object-safe asynchronous traits return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A source of access tokens.
///
/// Contract: `token` returns a token that is valid now, from memory whenever it can, and refreshes otherwise; concurrent
/// calls share one refresh. It does not retry for longer than a caller can wait: an error that
/// [`is_retryable`](TokenError::is_retryable) means that a later call may succeed. Dropping the future loses no token.
pub trait TokenSource: Debug + Send + Sync + 'static {
    /// A token for the next request.
    fn token(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>>;
}

/// An access token. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    secret: String,
    expires_at: Option<Timestamp>,
}

impl AccessToken {
    /// A bearer token that ends at `expires_at`, or never.
    pub fn new(secret: impl Into<String>, expires_at: Option<Timestamp>) -> Self {
        Self {
            secret: secret.into(),
            expires_at,
        }
    }

    /// The token itself.
    pub fn expose_secret(&self) -> &str {
        &self.secret
    }

    /// When it ends; none means that this is not known.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

impl Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It could not be refreshed for now.
    #[error("the access token could not be refreshed; it is tried again")]
    Unavailable {
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Only a new login helps.
    #[error("the login is no longer accepted: log in again")]
    Unauthenticated {
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl TokenError {
    /// A stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "token_unavailable",
            Self::Unauthenticated { .. } => "unauthenticated",
        }
    }

    /// Whether a later call may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
