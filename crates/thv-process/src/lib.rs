//! Processes that cannot be mistaken for others: identity, signals, detached spawn, port holders.
//!
//! A process id alone names nobody: the kernel gives it away again. Here a process is a [`ProcessIdentity`] (pid,
//! start time, boot id), and a signal goes only through a [`ProcessHandle`], which holds a reference that the
//! kernel cannot re-use. What the operating system knows is behind the trait [`Processes`]; [`system()`] is the
//! machine's own (Linux so far), [`MemoryProcesses`] a simulated one for tests. `handover` gives locks and sockets to
//! a child. A program that is started [contained](DetachedSpec::contained) takes all its descendants with it when it
//! ends, in a pid namespace where this process may make one.
//!
//! ```
//! use std::time::Duration;
//! use thv_process::{DetachedSpec, Exit, Processes, Signal, TerminateOutcome, terminate};
//!
//! # #[cfg(target_os = "linux")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> thv_process::Result<()> {
//! let processes = thv_process::system()?;
//! let child = processes.spawn_detached(DetachedSpec::new("/bin/sh").args(["-c", "read line"]))?;
//! let identity = child.identity().clone();
//! assert_eq!(child.exited().await?, Exit::Code(1)); // its stdin is /dev/null
//!
//! // Later, perhaps in another program: the pid may be somebody else's by now.
//! if let Some(process) = processes.open(&identity)? {
//!     terminate(&*process, Duration::from_secs(10)).await?;
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(target_os = "linux"))]
//! # fn main() {}
//! ```
//!
//! # Features
//! - `contract`: the suite that every [`Processes`] passes, for the tests of an implementation.
//! - `crash-points`: points at which a process kills itself when it is told to, for drills. Without it nothing of them is there.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod containment;
mod error;
mod evidence;
mod identity;
pub mod output;
mod processes;
mod snapshot;
mod spawn;
mod terminate;

#[cfg(feature = "crash-points")]
pub mod crash;

#[cfg(target_os = "linux")]
pub mod handover;

mod memory_processes;

#[cfg(feature = "contract")]
pub mod contract;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod watched;

#[doc(no_inline)]
pub use async_trait::async_trait;
pub use containment::{Contained, Containment};
pub use error::{ProcessError, Result};
pub use evidence::{ToolhiveEvidence, is_toolhive_proxy};
pub use identity::{Exit, ProcessFacts, ProcessIdentity, Signal};
#[cfg(target_os = "linux")]
pub use linux::LinuxProcesses;
pub use memory_processes::{MemoryProcess, MemoryProcesses};
pub use processes::{Effort, PortHolder, ProcessHandle, Processes, environment, system};
pub use snapshot::{Snapshot, SnapshotEntry};
pub use spawn::DetachedSpec;
pub use terminate::{TerminateOutcome, terminate};

/// Kills this process here if it was told so, with the feature `crash-points`; see `crash`.
#[cfg(feature = "crash-points")]
#[macro_export]
macro_rules! crash_point {
    ($point:ident) => {
        $crate::crash::reached($crate::crash::CrashPoint::$point)
    };
}

/// Nothing, without the feature `crash-points`.
#[cfg(not(feature = "crash-points"))]
#[macro_export]
macro_rules! crash_point {
    ($point:ident) => {};
}
