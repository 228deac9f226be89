//! A process behind a pidfd.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use rustix::io::Errno;
use rustix::process::pidfd_send_signal;
use tokio::process::Child;

use crate::linux::proc_table;
use crate::watched::Watched;
use crate::{Contained, Effort, Exit, ProcessError, ProcessHandle, ProcessIdentity, Result, Signal};

/// A pidfd, and the duty to collect the process if it is a child of ours.
pub(super) struct LinuxHandle {
    identity: ProcessIdentity,
    pidfd: OwnedFd,
    /// Dropped before its end, tokio collects it when it ends.
    child: Option<Mutex<Child>>,
    contained: Option<Contained>,
}

impl LinuxHandle {
    pub(super) fn of_stranger(identity: ProcessIdentity, pidfd: OwnedFd) -> Self {
        Self {
            identity,
            pidfd,
            child: None,
            contained: None,
        }
    }

    pub(super) fn of_child(
        identity: ProcessIdentity,
        pidfd: OwnedFd,
        child: Child,
        contained: Option<Contained>,
    ) -> Self {
        Self {
            identity,
            pidfd,
            child: Some(Mutex::new(child)),
            contained,
        }
    }

    fn failed(&self, what: &str, error: impl Into<std::io::Error>) -> ProcessError {
        ProcessError::from_io(format!("{what} {}", self.identity), error)
    }

    fn collect(&self) -> Result<Exit> {
        let Some(child) = &self.child else {
            return Ok(Exit::Unknown);
        };
        let status = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
        Ok(status
            .map_err(|e| self.failed("collect", e))?
            .map_or(Exit::Unknown, exit_of))
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

fn raw(signal: Signal) -> rustix::process::Signal {
    match signal {
        Signal::Hup => rustix::process::Signal::HUP,
        Signal::Int => rustix::process::Signal::INT,
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Usr1 => rustix::process::Signal::USR1,
        Signal::Usr2 => rustix::process::Signal::USR2,
    }
}

#[async_trait]
impl ProcessHandle for LinuxHandle {
    fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    fn contained(&self) -> Option<&Contained> {
        self.contained.as_ref()
    }

    fn effort(&self) -> Option<Effort> {
        proc_table::effort(self.identity.pid)
    }

    fn signal(&self, signal: Signal) -> Result<bool> {
        match pidfd_send_signal(&self.pidfd, raw(signal)) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(error) => Err(self.failed("signal", error)),
        }
    }

    async fn exited(&self) -> Result<Exit> {
        // A duplicate for each wait: epoll takes a descriptor once only.
        let watched = self
            .pidfd
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| self.failed("wait for", e))?;
        let watched = Watched::readable(watched).map_err(|e| self.failed("wait for", e))?;
        // A pidfd is readable from the moment its process is dead, zombie or not.
        let _ready = watched.ready().await.map_err(|e| self.failed("wait for", e))?;
        self.collect()
    }
}

impl fmt::Debug for LinuxHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LinuxHandle").field(&self.identity).finish()
    }
}
