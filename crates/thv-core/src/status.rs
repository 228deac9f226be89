//! The status machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The state that a workload is in, as status files, labels and the HTTP API spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadStatus {
    /// The server answers and its proxy serves.
    Running,
    /// Nothing of the workload runs; its configuration is kept.
    Stopped,
    /// It could not be started, or gave up; the context says why.
    Error,
    /// On its way to `Running`.
    Starting,
    /// On its way to `Stopped`.
    Stopping,
    /// A part that should run does not, or does not answer.
    Unhealthy,
    /// On its way to being gone.
    Removing,
    /// What it is could not be found out.
    Unknown,
    /// The remote server asks for credentials that we do not have.
    Unauthenticated,
    /// A token could not be refreshed and is tried again.
    AuthRetrying,
    /// A policy forbids to start it.
    PolicyStopped,
}

impl WorkloadStatus {
    /// All states.
    pub const ALL: [Self; 11] = [
        Self::Running,
        Self::Stopped,
        Self::Error,
        Self::Starting,
        Self::Stopping,
        Self::Unhealthy,
        Self::Removing,
        Self::Unknown,
        Self::Unauthenticated,
        Self::AuthRetrying,
        Self::PolicyStopped,
    ];

    /// The spelling in files and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Error => "error",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Unhealthy => "unhealthy",
            Self::Removing => "removing",
            Self::Unknown => "unknown",
            Self::Unauthenticated => "unauthenticated",
            Self::AuthRetrying => "auth_retrying",
            Self::PolicyStopped => "policy_stopped",
        }
    }

    /// Whether `list` shows it without `--all`.
    pub fn is_listed_by_default(self) -> bool {
        matches!(self, Self::Running | Self::AuthRetrying)
    }

    /// Whether a program of ours may write `next` over `self`. What is merely observed passes this by.
    ///
    /// The diagram:
    ///
    /// ```text
    /// [*]             --> starting        : deploy
    /// starting        --> running         : success
    /// starting        --> error           : failed
    /// running         --> stopping        : stop
    /// running         --> unhealthy       : health failed
    /// running         --> unauthenticated : authentication failed
    /// running         --> auth_retrying   : transient token refresh failures
    /// running         --> stopped         : container exit
    /// stopping        --> stopped         : success
    /// stopped         --> starting        : restart
    /// stopped         --> removing        : delete
    /// unauthenticated --> starting        : re-authenticate
    /// unauthenticated --> removing        : delete
    /// auth_retrying   --> running         : refresh succeeds
    /// auth_retrying   --> unauthenticated : ceiling exceeded or permanent error
    /// removing        --> [*]             : success
    /// error           --> starting        : restart
    /// error           --> removing        : delete
    /// ```
    ///
    /// Life needs more edges than the diagram has:
    ///
    /// - any state to itself: only the reason changes;
    /// - any state but `stopped` and `removing` to `stopping` and `stopped`: stop means stopped, whatever it was that is
    ///   stopped (a launch, a back-off, a remote that asks for a login), and what was cut off halfway is finished;
    /// - any state to `removing`: delete does not ask for a stop first;
    /// - any state but `removing` to `starting`: a start over a dead proxy, and a supervisor that restarts its server;
    /// - any state but `removing` and `stopping` to `policy_stopped`: a policy blocks a start;
    /// - `starting` to `unauthenticated`, `auth_retrying`, `unhealthy`: a remote server that refuses the login, or that
    ///   was ready once and does not answer now;
    /// - `unhealthy` to `running`: it answers again; to `unauthenticated`, `auth_retrying`: it answers, and asks for a
    ///   login;
    /// - `unauthenticated` to `running`, `auth_retrying`, `unhealthy`: authentication recovers by itself, or the server
    ///   is gone meanwhile; `auth_retrying` to `unhealthy` likewise;
    /// - any state but `stopped` to `error`: a stop, a delete or a restart that gave up says so; from `stopped` it leads
    ///   over `starting`;
    /// - `stopping` to `unhealthy`: something that should be down still lives;
    /// - `unknown` to every state, for nothing is known that forbids it. `unknown` itself is never written over another.
    pub fn can_become(self, next: Self) -> bool {
        use WorkloadStatus as S;
        if self == next {
            return true;
        }
        match self {
            S::Starting => matches!(
                next,
                S::Running
                    | S::Error
                    | S::Stopping
                    | S::Stopped
                    | S::Removing
                    | S::Unhealthy
                    | S::Unauthenticated
                    | S::AuthRetrying
                    | S::PolicyStopped
            ),
            S::Running => matches!(
                next,
                S::Stopping
                    | S::Unhealthy
                    | S::Unauthenticated
                    | S::AuthRetrying
                    | S::Stopped
                    | S::Starting
                    | S::Error
                    | S::Removing
                    | S::PolicyStopped
            ),
            S::Stopping => matches!(
                next,
                S::Stopped | S::Starting | S::Removing | S::Error | S::Unhealthy
            ),
            S::Stopped => matches!(next, S::Starting | S::Removing | S::PolicyStopped),
            S::Error | S::PolicyStopped => matches!(
                next,
                S::Starting | S::Removing | S::Stopping | S::Stopped | S::PolicyStopped | S::Error
            ),
            S::Unhealthy => matches!(
                next,
                S::Running
                    | S::Starting
                    | S::Stopping
                    | S::Stopped
                    | S::Removing
                    | S::Error
                    | S::Unauthenticated
                    | S::AuthRetrying
                    | S::PolicyStopped
            ),
            S::Unauthenticated | S::AuthRetrying => matches!(
                next,
                S::Running
                    | S::Starting
                    | S::Stopping
                    | S::Stopped
                    | S::Removing
                    | S::Error
                    | S::Unhealthy
                    | S::Unauthenticated
                    | S::AuthRetrying
                    | S::PolicyStopped
            ),
            S::Removing => next == S::Error,
            S::Unknown => true,
        }
    }
}

/// A text that is no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown workload status \"{shown}\"")]
pub struct ParseStatusError {
    shown: String,
}

impl FromStr for WorkloadStatus {
    type Err = ParseStatusError;

    fn from_str(text: &str) -> Result<Self, ParseStatusError> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| ParseStatusError {
                shown: text.chars().take(40).flat_map(char::escape_debug).collect(),
            })
    }
}

impl fmt::Display for WorkloadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::WorkloadStatus as S;

    /// The diagram of the document that this project implements.
    const DIAGRAM: [(S, S); 16] = [
        (S::Starting, S::Running),
        (S::Starting, S::Error),
        (S::Running, S::Stopping),
        (S::Running, S::Unhealthy),
        (S::Running, S::Unauthenticated),
        (S::Running, S::AuthRetrying),
        (S::Running, S::Stopped),
        (S::Stopping, S::Stopped),
        (S::Stopped, S::Starting),
        (S::Stopped, S::Removing),
        (S::Unauthenticated, S::Starting),
        (S::Unauthenticated, S::Removing),
        (S::AuthRetrying, S::Running),
        (S::AuthRetrying, S::Unauthenticated),
        (S::Error, S::Starting),
        (S::Error, S::Removing),
    ];

    #[test]
    fn every_edge_of_the_diagram_is_there() {
        for (from, to) in DIAGRAM {
            assert!(from.can_become(to), "{from} -> {to}");
        }
    }

    #[test]
    fn the_documented_rules_hold_for_every_pair() {
        for from in S::ALL {
            assert!(from.can_become(from));
            assert!(from.can_become(S::Removing), "{from}: delete is always possible");
            if from != S::Removing {
                assert!(from.can_become(S::Starting), "{from}: start is always possible");
                assert!(
                    from.can_become(S::Stopped) || from == S::Stopped,
                    "{from}: stop means stopped"
                );
            }
            if from != S::Unknown {
                assert!(!from.can_become(S::Unknown), "{from}: unknown is not written");
            }
            if !matches!(from, S::Removing | S::Stopping) {
                assert!(from.can_become(S::PolicyStopped), "{from}");
            }
            assert_eq!(from.can_become(S::Error), from != S::Stopped, "{from} -> error");
        }
    }

    #[test]
    fn nothing_runs_without_having_been_started() {
        for from in [S::Stopped, S::Stopping, S::Removing, S::Error, S::PolicyStopped] {
            assert!(!from.can_become(S::Running), "{from}");
        }
        for next in S::ALL {
            assert_eq!(
                S::Removing.can_become(next),
                matches!(next, S::Removing | S::Error),
                "removing -> {next}"
            );
        }
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for status in S::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
        assert!("Running".parse::<S>().is_err());
        assert!("".parse::<S>().is_err());
    }
}
