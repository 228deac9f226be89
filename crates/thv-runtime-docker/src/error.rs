//! What can go wrong with an engine, finer than callers care.

use std::path::PathBuf;

use thv_runtime::{Error, RuntimeKind};

use crate::address::Address;
use crate::quirks;

/// What can go wrong in one exchange with an engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// No socket that was found leads to an engine.
    #[error("no engine answers")]
    NoEngine(NoEngine),
    /// It does not accept.
    #[error("connect to {place}")]
    Connect { place: Address, source: std::io::Error },
    /// It and we do not trust each other, or the files for that are missing.
    #[error("{place}: {reason}")]
    Tls { place: String, reason: String },
    /// The connection broke.
    #[error("the connection to the engine broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
    /// The engine refused or failed.
    #[error("the engine answered {status}: {message}")]
    Status { status: u16, message: String },
    /// The engine ended a stream that goes on, and said why.
    #[error("the engine broke off: {0}")]
    BrokeOff(String),
    /// The answer is not what the API says.
    #[error("the engine's answer makes no sense: {0}")]
    Nonsense(String),
    /// So much is told of a container that it is not read.
    #[error("what the engine tells of container {0} is too long: look at its labels, and those of its image")]
    TooLong(String),
    /// The engine speaks no version of the API that we speak.
    #[error("the engine speaks API {engine}, this needs {needed}")]
    Version { engine: String, needed: &'static str },
}

/// Where an engine was looked for in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoEngine {
    /// Each place, and why it is none.
    pub(crate) tried: Vec<(String, String)>,
    /// The sockets that are there and refuse this user.
    pub(crate) denied: Vec<PathBuf>,
    /// All that is there refuses us, or is not trusted: waiting for an engine to come up does not help.
    pub(crate) all_denied: bool,
}

impl EngineError {
    /// The status, if the engine answered with one.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the engine may have done what it was asked for although this failure came instead of its answer.
    pub(crate) fn is_unsure(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::NoEngine(_) | Self::Broken(_) | Self::Timeout(_) | Self::Nonsense(_)
        )
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status() == Some(404) || self.is_lost_race()
    }

    /// Whether a container went away while the engine looked at it.
    pub(crate) fn is_lost_race(&self) -> bool {
        matches!(self, Self::Status { status, message } if quirks::is_lost_race(*status, message))
    }

    /// Whether a list failed for what is over by now.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Status { status, message } if quirks::is_passing(*status, message))
    }

    /// Whether a removal met the container's own end.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self, Self::Status { status, message } if quirks::is_ending(*status, message))
    }

    /// Whether a stop met a container that is paused.
    pub(crate) fn is_paused(&self) -> bool {
        matches!(self, Self::Status { status, message } if quirks::is_paused(*status, message))
    }

    /// Whether a start failed before anything of the container ran, and not for what is to run.
    pub(crate) fn is_lost_start(&self) -> bool {
        matches!(self, Self::Status { status, message } if quirks::is_lost_start(*status, message))
    }

    /// Whether an attachment failed because the container has ended.
    pub(crate) fn is_attach_to_ended(&self) -> bool {
        matches!(self, Self::Status { status, message } if quirks::is_attach_to_ended(*status, message))
    }

    /// Whether a creation failed for want of the image.
    pub(crate) fn is_missing_image(&self) -> bool {
        matches!(self, Self::Status { status, message } if quirks::is_missing_image(*status, message))
    }

    /// Whether a creation was refused because nobody says what is to run.
    pub(crate) fn is_without_command(&self) -> bool {
        matches!(self, Self::Status { status, message } if quirks::is_without_command(*status, message))
    }

    /// Whether a creation met another container of the name.
    pub(crate) fn is_name_taken(&self) -> bool {
        matches!(self, Self::Status { status, message } if quirks::is_name_taken(*status, message))
    }

    /// Whether a creation was refused for what it was to mount.
    pub(crate) fn is_refused_mount(&self) -> bool {
        matches!(self, Self::Status { status, message } if quirks::is_refused_mount(*status, message))
    }

    /// The engine's own words, lower case.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Status { message, .. } => message.to_lowercase(),
            _ => String::new(),
        }
    }

    /// Says what was tried, and where.
    pub(crate) fn during(self, kind: &RuntimeKind, action: impl Into<String>) -> Failure {
        Failure {
            runtime: kind.clone(),
            action: action.into(),
            cause: self,
        }
    }
}

/// A failed exchange with what it was for: the one way from here to the public error.
pub(crate) struct Failure {
    runtime: RuntimeKind,
    action: String,
    cause: EngineError,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let Failure {
            runtime,
            action,
            cause,
        } = failure;
        match cause {
            EngineError::NoEngine(nowhere) => nowhere.into_error(runtime),
            EngineError::Status {
                status: 401 | 403,
                message,
            } => Self::Denied {
                runtime,
                detail: format!("{action}: {message}"),
            },
            EngineError::Tls { .. } => Self::Denied {
                runtime,
                detail: format!("{action}: {cause}"),
            },
            EngineError::Connect { .. } | EngineError::Broken(_) | EngineError::Timeout(_) => {
                Self::Unavailable {
                    runtime,
                    detail: format!("tried to {action}; see whether the engine runs"),
                    source: Some(Box::new(cause)),
                }
            }
            cause => Self::Failed {
                runtime,
                action,
                source: Box::new(cause),
            },
        }
    }
}

impl NoEngine {
    fn into_error(self, runtime: RuntimeKind) -> Error {
        let places: Vec<_> = self
            .tried
            .iter()
            .map(|(place, why)| format!("{place} ({why})"))
            .collect();
        let places = places.join(", ");
        let denied: Vec<_> = self
            .denied
            .iter()
            .map(|socket| socket.display().to_string())
            .collect();
        let denied = denied.join(" and ");
        let access = format!(
            "for access to {denied} add your user to the group that owns it (for Docker: usermod -aG docker $USER, \
             then log in again), or use a rootless engine"
        );
        if self.all_denied {
            let access = if denied.is_empty() {
                String::new()
            } else {
                format!("; {access}")
            };
            return Error::Denied {
                runtime,
                detail: format!("tried {places}{access}"),
            };
        }
        let mut detail =
            format!("tried {places}; start the engine, or name its socket with DOCKER_HOST=unix:///path");
        if !denied.is_empty() {
            detail = format!("{detail}; {access}");
        }
        Error::Unavailable {
            runtime,
            detail,
            source: None,
        }
    }
}
