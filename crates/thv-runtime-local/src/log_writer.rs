//! Writes what a server says to its log, so that the log can be rotated while the server runs.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::pipe::{PipeFlags, pipe_with};
use thv_core::WorkloadName;
use thv_runtime::{BlockLog, LogRotation, Result, RotatingLog};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::error::{self, failed};

/// How much is written at once.
const BLOCK: usize = 8 << 10;

/// The log of a server that is about to start, and a pipe to it.
#[derive(Debug)]
pub(crate) struct LogWriter {
    log: RotatingLog,
    from: pipe::Receiver,
    to: OwnedFd,
}

impl LogWriter {
    pub(crate) fn open(path: &Path, rotation: LogRotation) -> Result<Self> {
        let log = rotation.open(path).map_err(|e| error::file("open", path, e))?;
        let (from, to) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed("make a pipe", e))?;
        let from = pipe::Receiver::from_owned_fd(from).map_err(|e| failed("watch a pipe", e))?;
        Ok(Self { log, from, to })
    }

    /// What the server writes to, twice: for its output and its errors.
    pub(crate) fn ends(&self) -> Result<(OwnedFd, OwnedFd)> {
        let copy = || self.to.try_clone().map_err(|e| failed("duplicate a pipe", e));
        Ok((copy()?, copy()?))
    }

    /// Writes until the server and all whom it left its streams have ended.
    pub(crate) fn start(self, name: WorkloadName) -> JoinHandle<()> {
        let Self { log, from, to } = self;
        drop(to);
        tokio::spawn(write(from, log, name))
    }
}

async fn write(from: pipe::Receiver, log: RotatingLog, name: WorkloadName) {
    let mut log = BlockLog::new(Some(log), BLOCK);
    loop {
        if let Err(error) = from.readable().await {
            tracing::warn!(workload = %name, %error, "the server's log ends");
            return;
        }
        match from.try_read(log.space()) {
            Ok(0) => return,
            Ok(length) => {
                if let Some(error) = log.write(length).await {
                    tracing::warn!(workload = %name, %error, "what the server says is lost");
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::warn!(workload = %name, %error, "the server's log ends");
                return;
            }
        }
    }
}
