//! The seam to the operating system's processes.

use std::fmt::{self, Debug};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Contained, DetachedSpec, Exit, ProcessFacts, ProcessIdentity, Result, Signal, Snapshot};

/// The processes of a machine.
///
/// The methods are synchronous: they ask the kernel, which answers within microseconds; those that look at every
/// process say so and take some milliseconds. Answers are a moment's truth, except a [`ProcessHandle`], which
/// stays the same process for ever.
///
/// A wrapper passes every method on, those with a default too: `#[deny(clippy::missing_trait_methods)]` finds what is
/// forgotten.
pub trait Processes: Debug + Send + Sync + 'static {
    /// The id of the current boot; another one means that the machine was restarted in between.
    fn boot_id(&self) -> String;

    /// The effective user of this process.
    fn uid(&self) -> u32;

    /// The process that asks.
    fn current(&self) -> ProcessIdentity;

    /// What is known about the process that has this pid now; `None` when there is none. A zombie is reported, as
    /// a zombie.
    fn facts(&self, pid: u32) -> Result<Option<ProcessFacts>>;

    /// Whether exactly this process runs: it is there, is no zombie, and its pid is not another's by now.
    ///
    /// The cheapest question about a process, for those who ask it of hundreds.
    fn is_alive(&self, identity: &ProcessIdentity) -> Result<bool> {
        let facts = self.facts(identity.pid)?;
        Ok(facts.is_some_and(|facts| facts.identity == *identity && facts.is_alive()))
    }

    /// A handle on exactly this process; `None` when it is gone, is a zombie, or its pid is another's by now.
    ///
    /// The reference is taken before the identity is checked, so there is no moment in between at which the pid
    /// could change hands.
    fn open(&self, identity: &ProcessIdentity) -> Result<Option<Box<dyn ProcessHandle>>>;

    /// Who listens on this TCP port, on any address; `None` when nobody does. Looks at every process.
    fn port_holder(&self, port: u16) -> Result<Option<PortHolder>>;

    /// Starts a program in a session of its own that outlives this process.
    ///
    /// It inherits nothing but what `spec` names. While this process lives, the child is collected when the handle
    /// is awaited ([`ProcessHandle::exited`]) or dropped, so that no zombie stays. Dropping the handle ends nobody.
    ///
    /// Of a [contained](DetachedSpec::contained) program the handle's process is its keeper, which ends as the program
    /// did, after everything that the program left behind has ended. SIGKILL alone reaches a keeper; the program
    /// itself is in [`ProcessHandle::contained`].
    ///
    /// # Errors
    /// `NotFound` when the program is not there, `Invalid` when `spec` is unusable or no async runtime is entered.
    fn spawn_detached(&self, spec: DetachedSpec) -> Result<Box<dyn ProcessHandle>>;

    /// This user's living processes whose environment, as they were started, has exactly `name=value`, by
    /// ascending start time. Looks at every process.
    fn find_by_env(&self, name: &str, value: &str) -> Result<Vec<ProcessIdentity>>;

    /// All processes at one moment, the dead that nobody has collected included. Looks at every process.
    fn snapshot(&self) -> Result<Snapshot>;

    /// Says that this process, which is there for one workload alone, has started and from now on mostly waits: memory
    /// that can be had again may be given back. Nothing changes but that.
    fn at_rest(&self) {}

    /// Waits this long. Where the machine can do that, it costs one wake-up; the async runtime's own timer, which is
    /// what waits otherwise, takes up to one for each power of 64 milliseconds. For what is waited for again and again
    /// while nothing else happens. Cancel-safe.
    ///
    /// Only the runtime's own timer follows a clock that a test has paused.
    ///
    /// # Panics
    /// The future, outside an async runtime with time and I/O enabled.
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(time))
    }
}

/// A reference to one process that stays that process, also when it is gone and its pid is given away.
#[async_trait]
pub trait ProcessHandle: Debug + Send + Sync + 'static {
    /// Who it is.
    fn identity(&self) -> &ProcessIdentity;

    /// What is kept, where this is the keeper of a program that was started with this handle.
    fn contained(&self) -> Option<&Contained> {
        None
    }

    /// What it has done so far, and whether it waits for the machine: this tells a process that is slow from one that
    /// hangs. `None` where that is not known, or when it is gone.
    fn effort(&self) -> Option<Effort> {
        None
    }

    /// Sends a signal to it and to nobody else. `false` when it is gone already.
    fn signal(&self, signal: Signal) -> Result<bool>;

    /// Waits until it has ended (a zombie has). The way it ended is known to its parent only, so it is
    /// [`Exit::Unknown`] for a handle of [`Processes::open`].
    ///
    /// Cancel-safe: dropping the future loses nothing, it can be awaited again, also by several at a time.
    async fn exited(&self) -> Result<Exit>;
}

/// What a process has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// A number that grows as it works; of no meaning but that.
    pub done: u64,
    /// Whether one of its threads waits for a processor or a disk, or has one, at this moment.
    pub busy: bool,
}

impl Effort {
    /// Whether a process that had done `before` some time ago has done something since, or is about to.
    pub fn goes_on(self, before: Self) -> bool {
        self.busy || self.done != before.done
    }
}

/// Who listens on a TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    /// The port.
    pub port: u16,
    /// The user that opened the socket.
    pub uid: u32,
    /// The processes that hold a listening socket and that this user may look at, the oldest first; empty when the
    /// holder is another user's (or lives where it cannot be seen).
    pub processes: Vec<ProcessFacts>,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.processes.first() {
            Some(facts) if facts.argv.is_empty() => write!(f, "process {}", facts.identity.pid),
            Some(facts) => write!(f, "process {} ({})", facts.identity.pid, facts.command()),
            None => write!(f, "another user's process (user {})", self.uid),
        }
    }
}

/// The processes of this machine.
///
/// # Errors
/// `Unsupported` where there is no implementation (all but Linux), `Unavailable` when `/proc` cannot be read.
pub fn system() -> Result<Arc<dyn Processes>> {
    #[cfg(target_os = "linux")]
    return Ok(Arc::new(crate::LinuxProcesses::new()?));
    #[cfg(not(target_os = "linux"))]
    return Err(crate::ProcessError::Unsupported {
        os: std::env::consts::OS,
    });
}

/// The environment that a process of this machine was started with: `name=value`, and a zero byte behind each. `None` where
/// there is no such process, it is another user's, or this is not Linux.
///
/// A process that becomes another program at this moment is waited for, 100 ms at most; the thread is blocked meanwhile.
pub fn environment(pid: u32) -> Option<Vec<u8>> {
    #[cfg(target_os = "linux")]
    return crate::linux::environment(pid);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        None
    }
}
