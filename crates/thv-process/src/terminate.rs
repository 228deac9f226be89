//! Ending a process within a bounded time.

use std::time::Duration;

use tokio::time::timeout;

use crate::{ProcessHandle, Result, Signal};

/// How long a killed process may take to vanish. One that hangs in the kernel (dead disk, NFS) takes longer.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// What came of [`terminate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminateOutcome {
    /// It is gone.
    Exited {
        /// Whether SIGKILL was needed.
        killed: bool,
    },
    /// It was killed and is still there after five seconds: it hangs in the kernel.
    StillAlive,
}

/// Asks a process to end (SIGTERM), and kills it (SIGKILL) when it has not ended after `grace`.
///
/// Takes at most `grace` and five seconds. When the future is dropped no further signal is sent.
///
/// # Errors
/// What the system says to a signal, or to the wait for the end. A process that is gone is no error.
pub async fn terminate(process: &dyn ProcessHandle, grace: Duration) -> Result<TerminateOutcome> {
    if !process.signal(Signal::Term)? {
        return Ok(TerminateOutcome::Exited { killed: false });
    }
    if let Ok(exit) = timeout(grace, process.exited()).await {
        exit?;
        return Ok(TerminateOutcome::Exited { killed: false });
    }
    tracing::warn!(
        pid = process.identity().pid,
        ?grace,
        "process ignored SIGTERM, killing it"
    );
    let killed = process.signal(Signal::Kill)?;
    match timeout(AFTER_KILL, process.exited()).await {
        Ok(exit) => exit.map(|_| TerminateOutcome::Exited { killed }),
        Err(_) => Ok(TerminateOutcome::StillAlive),
    }
}
