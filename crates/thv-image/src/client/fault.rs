//! What a registry did wrong, before it is known for which image.

use std::time::Duration;

use crate::{Error, Reference};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not there.
    NotFound,
    /// Access is refused.
    Unauthorized(String),
    /// It was asked too often, and wants to be left alone for this time, if it says so.
    RateLimited {
        retry_after: Option<Duration>,
        detail: String,
    },
    /// Nobody answers, or with a failure.
    Unavailable(String),
    /// Not within this time.
    TimedOut(Duration),
    /// Content that may not be.
    Bad(String),
    /// Another platform's.
    WrongPlatform { platform: String, offered: String },
    /// We cannot ask at all.
    Unusable(String),
}

impl Fault {
    pub(crate) fn of(self, image: &Reference) -> Error {
        let registry = image.registry().to_owned();
        let reference = image.familiar();
        match self {
            Self::NotFound => Error::NotFound { reference },
            Self::Unauthorized(detail) => Error::Unauthorized {
                registry,
                reference,
                detail,
            },
            Self::RateLimited { retry_after, detail } => Error::RateLimited {
                registry,
                reference,
                retry_after,
                detail,
            },
            Self::Unavailable(detail) => Error::Unavailable {
                registry,
                reference,
                detail,
            },
            Self::TimedOut(limit) => Error::TimedOut {
                registry,
                reference,
                limit,
            },
            Self::Bad(detail) => Error::BadAnswer {
                registry,
                reference,
                detail,
            },
            Self::WrongPlatform { platform, offered } => Error::WrongPlatform {
                reference,
                platform,
                offered,
            },
            Self::Unusable(detail) => Error::Invalid {
                what: "registry client".into(),
                detail,
            },
        }
    }
}
