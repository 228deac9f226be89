//! Who a process is, and what can be known about it.

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for another, also after its pid was given away or the machine restarted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: u32,
    /// When it started, in the kernel's clock ticks since boot (field 22 of `/proc/<pid>/stat`).
    pub start_time: u64,
    /// The boot during which it lives (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
}

impl fmt::Display for ProcessIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

/// What is known about a process at one moment. What this user may not read is `None` or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Who it is.
    pub identity: ProcessIdentity,
    /// Its effective user.
    pub uid: Option<u32>,
    /// The executable. A deleted one keeps its path, without the kernel's ` (deleted)`.
    pub exe: Option<PathBuf>,
    /// The command line, the program first. Bytes that are not UTF-8 are replaced.
    pub argv: Vec<String>,
    /// Whether its environment has exactly `TOOLHIVE_DETACHED=1`; `None` when it cannot be read.
    pub detached_env: Option<bool>,
    /// Whether it has ended and only waits to be collected by its parent: a zombie is dead.
    pub zombie: bool,
    /// When it started, on the wall clock (exact to about a second).
    pub started_at: Timestamp,
}

impl ProcessFacts {
    /// Whether it runs: a zombie does not.
    pub fn is_alive(&self) -> bool {
        !self.zombie
    }

    /// Its command line on one line, for people; cut after 200 characters.
    pub fn command(&self) -> String {
        let line = self.argv.join(" ");
        let mut shown: String = line.chars().take(200).flat_map(char::escape_debug).collect();
        if line.chars().nth(200).is_some() {
            shown.push('…');
        }
        shown
    }
}

/// The signals that are sent to processes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// SIGHUP.
    Hup,
    /// SIGINT, as Ctrl-C sends it.
    Int,
    /// SIGKILL, which cannot be ignored.
    Kill,
    /// SIGTERM: please end.
    Term,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It ended itself with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It ended; only its parent learns how.
    Unknown,
}

impl Exit {
    /// Whether it is known to have ended with code 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::Unknown => f.write_str("ended"),
        }
    }
}
