//! The processes of a Linux machine: `/proc`, pidfds and `fork`.

mod code_pages;
mod forked_memory;
mod handle;
mod keeper;
mod proc_table;
mod sleep;
mod spawn;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::processes::{PortHolder, ProcessHandle, Processes};
use crate::{DetachedSpec, ProcessError, ProcessFacts, ProcessIdentity, Result, Snapshot};

use handle::LinuxHandle;
use proc_table::ProcTable;
pub(crate) use proc_table::environment;

/// The processes of this machine, as far as this process's pid namespace shows them.
#[derive(Clone)]
pub struct LinuxProcesses {
    current: ProcessIdentity,
    table: ProcTable,
    pid_namespaces: bool,
}

impl LinuxProcesses {
    /// Reads the boot id and the identity of this process.
    pub fn new() -> Result<Self> {
        let path = "/proc/sys/kernel/random/boot_id";
        let boot_id =
            std::fs::read_to_string(path).map_err(|e| ProcessError::from_io(format!("read {path}"), e))?;
        Self::with_boot_id(boot_id.trim())
    }

    /// As [`new`](Self::new), under another boot id: what was recorded before looks as after a restart of the
    /// machine. For drills.
    pub fn with_boot_id(boot_id: impl Into<String>) -> Result<Self> {
        let table = ProcTable::new(boot_id.into())?;
        let own = std::process::id();
        let current = table
            .facts(own)?
            .ok_or_else(|| ProcessError::from_io(format!("read /proc/{own}"), Errno::NOENT))?
            .identity;
        Ok(Self {
            current,
            table,
            pid_namespaces: true,
        })
    }

    /// Contains programs without a pid namespace also where one is allowed: they see the processes of the machine.
    pub fn without_pid_namespaces(mut self) -> Self {
        self.pid_namespaces = false;
        self
    }
}

impl fmt::Debug for LinuxProcesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinuxProcesses")
            .field("boot_id", &self.boot_id())
            .finish_non_exhaustive()
    }
}

impl Processes for LinuxProcesses {
    fn boot_id(&self) -> String {
        self.table.boot_id().to_owned()
    }

    fn uid(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn current(&self) -> ProcessIdentity {
        self.current.clone()
    }

    fn facts(&self, pid: u32) -> Result<Option<ProcessFacts>> {
        self.table.facts(pid)
    }

    fn is_alive(&self, identity: &ProcessIdentity) -> Result<bool> {
        if identity.boot_id != self.table.boot_id() {
            return Ok(false);
        }
        let stat = proc_table::stat(identity.pid)?;
        Ok(stat.is_some_and(|stat| stat.is_alive() && stat.start_time == identity.start_time))
    }

    fn open(&self, identity: &ProcessIdentity) -> Result<Option<Box<dyn ProcessHandle>>> {
        if identity.boot_id != self.table.boot_id() {
            return Ok(None);
        }
        let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        // First the reference, then the question who it is: not the other way round.
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            // INVAL, NOENT on newer kernels: the id is a thread's, so it is not the process that was meant.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(None),
            Err(error) => {
                return Err(ProcessError::from_io(
                    format!("open process {}", identity.pid),
                    error,
                ));
            }
        };
        match proc_table::stat(identity.pid)? {
            Some(stat) if stat.is_alive() && stat.start_time == identity.start_time => {
                Ok(Some(Box::new(LinuxHandle::of_stranger(identity.clone(), pidfd))))
            }
            _ => Ok(None),
        }
    }

    fn port_holder(&self, port: u16) -> Result<Option<PortHolder>> {
        self.table.port_holder(port)
    }

    fn spawn_detached(&self, spec: DetachedSpec) -> Result<Box<dyn ProcessHandle>> {
        spawn::spawn(spec, self.table.boot_id(), self.pid_namespaces)
    }

    fn find_by_env(&self, name: &str, value: &str) -> Result<Vec<ProcessIdentity>> {
        self.table.find_by_env(name, value, self.uid())
    }

    fn snapshot(&self) -> Result<Snapshot> {
        self.table.snapshot()
    }

    fn at_rest(&self) {
        if let Err(error) = code_pages::give_back() {
            tracing::debug!(%error, "pages of code are kept");
        }
    }

    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(sleep::sleep(time))
    }
}
