//! What can go wrong, by what a caller does about it.

use std::time::Duration;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image cannot be resolved, or may not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not an image reference.
    #[error("\"{reference}\" is not an image reference: {detail}")]
    InvalidReference {
        /// What was given.
        reference: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// It is not a digest.
    #[error("\"{digest}\" is not a digest: {detail}")]
    InvalidDigest {
        /// What was given.
        digest: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// An option has a value that means nothing.
    #[error("invalid {what}: {detail}")]
    Invalid {
        /// Which option or file.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The registry has no such image.
    #[error("image {reference} is not in its registry")]
    NotFound {
        /// The image.
        reference: String,
    },
    /// The image is there, but not for this platform.
    #[error("image {reference} is not made for {platform}: it has {offered}")]
    WrongPlatform {
        /// The image.
        reference: String,
        /// What is needed, such as `linux/amd64`.
        platform: String,
        /// What there is.
        offered: String,
    },
    /// The registry wants credentials, or others.
    #[error("registry {registry} refuses access to {reference}: {detail}")]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The image.
        reference: String,
        /// What it asked for, or what was tried. Never a credential.
        detail: String,
    },
    /// The registry, or its token service, was asked too often.
    #[error("the rate limit of registry {registry} is reached, so {reference} cannot be read: log in to it, or wait{}: {detail}",
        retry_after.map_or_else(String::new, |after| format!(" {after:?}")))]
    RateLimited {
        /// The registry.
        registry: String,
        /// The image.
        reference: String,
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
        /// Its words.
        detail: String,
    },
    /// The registry does not answer, or fails.
    #[error("registry {registry} cannot be asked for {reference}: {detail}")]
    Unavailable {
        /// The registry.
        registry: String,
        /// The image.
        reference: String,
        /// What it did.
        detail: String,
    },
    /// The registry did not answer in time.
    #[error("registry {registry} did not answer for {reference} within {limit:?}")]
    TimedOut {
        /// The registry.
        registry: String,
        /// The image.
        reference: String,
        /// The limit.
        limit: Duration,
    },
    /// The registry answers with what it may not: other content than its digest says, too much of it, or no manifest.
    #[error("registry {registry} gives no usable answer for {reference}: {detail}")]
    BadAnswer {
        /// The registry.
        registry: String,
        /// The image.
        reference: String,
        /// What is wrong.
        detail: String,
    },
    /// There is a signature, and it is not what the image should have: broken, of another image, or by somebody else.
    #[error("image {reference} is signed, but not as it should be: {detail}")]
    Denied {
        /// The image.
        reference: String,
        /// Every reason, bounded.
        detail: String,
    },
    /// The policy wants a signature, and none was found or could be looked for.
    #[error("image {reference} is not verified: {detail}")]
    NotVerified {
        /// The image.
        reference: String,
        /// Why not.
        detail: String,
    },
    /// What to trust cannot be read.
    #[error("the trusted root {root} cannot be used: {detail}")]
    TrustRoot {
        /// Which one.
        root: String,
        /// What is wrong.
        detail: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without a change by anybody.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. } | Self::Unavailable { .. } | Self::TimedOut { .. }
        )
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidReference { .. } => "invalid_reference",
            Self::InvalidDigest { .. } => "invalid_digest",
            Self::Invalid { .. } => "invalid",
            Self::NotFound { .. } => "image_not_found",
            Self::WrongPlatform { .. } => "wrong_platform",
            Self::Unauthorized { .. } => "registry_unauthorized",
            Self::RateLimited { .. } => "registry_rate_limited",
            Self::Unavailable { .. } => "registry_unavailable",
            Self::TimedOut { .. } => "registry_timed_out",
            Self::BadAnswer { .. } => "registry_bad_answer",
            Self::Denied { .. } => "image_denied",
            Self::NotVerified { .. } => "image_not_verified",
            Self::TrustRoot { .. } => "trust_root",
        }
    }
}

/// Enough of a text from outside to recognise it, on one line.
pub(crate) fn short(text: &str) -> String {
    const LIMIT: usize = 200;
    let mut out: String = text
        .chars()
        .take(LIMIT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(LIMIT).is_some() {
        out.push('…');
    }
    out
}
