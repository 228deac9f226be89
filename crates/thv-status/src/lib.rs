//! What is known of workloads between commands: ToolHive's status files, companion records beside them, the locks under
//! which they change, and [`observe`], which says what a workload is.
//!
//! A [`Companion`] holds what ToolHive's five keys have no room for: the claim of the one supervisor that may write, what
//! the user wants, the journal entry of the verb under way, and which instance is whose. Claims are fences: whoever holds an
//! old one changes nothing.
//!
//! ```
//! use std::time::Duration;
//! use thv_core::WorkloadStatus;
//! use thv_status::{Authority, MemoryStatusManager, Operation, StatusManager};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let status = MemoryStatusManager::new();
//! let name = "fetch".parse()?;
//! let op = status.lock_op(&name, Operation::Start, Duration::from_secs(5)).await?;
//! let change = Box::new(|draft: &mut thv_status::Draft| draft.set_status(WorkloadStatus::Starting, ""));
//! status.update(&name, Authority::Verb(&op), change).await?;
//! let snapshot = status.read(&name).await?;
//! assert_eq!(snapshot.status.map(|file| file.status), Some(WorkloadStatus::Starting));
//! # Ok(())
//! # }
//! ```
//!
//! # On disk
//!
//! | path | what | mode |
//! |---|---|---|
//! | `$XDG_DATA_HOME/toolhive/statuses/<name>.json` | status file, ToolHive's | 0600 |
//! | `$XDG_DATA_HOME/toolhive/statuses/<name>.lock` | ToolHive's lock for it | 0600 |
//! | `$XDG_STATE_HOME/toolhive/lifecycle/<name>.json` | companion record | 0600 |
//! | `…/lifecycle/<name>.op` | held by a changing verb from its first effect to its last | 0600 |
//! | `…/lifecycle/<name>.owner` | held by the supervisor as long as it owns the workload | 0600 |
//! | `…/lifecycle/<name>.guard` | held for one change of companion and status file | 0600 |
//! | `…/lifecycle/owner-id` | the id of this installation | 0600 |
//!
//! All locks are `flock(2)`: the kernel frees them when a process dies.
//!
//! # Features
//! - `contract`: the suite that every [`StatusManager`] passes, for the tests of an implementation.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod status_manager;

mod file_status_manager;
mod files;
mod memory_status_manager;

mod companion;
mod snapshot;
mod status_file;

mod foreign;
mod observe;
mod on_disk;
mod transaction;

#[cfg(feature = "contract")]
pub mod contract;
mod error;
mod guards;
mod listing;
mod watch;

#[doc(no_inline)]
pub use async_trait::async_trait;
pub use companion::{
    ClaimId, Companion, Described, Desired, LastStatus, Operation, Owner, OwnerKind, Pending, Previous,
    ResolvedImage, RuntimeRecord, StatusFileHashes, config_hash,
};
pub use error::{Error, Result};
pub use file_status_manager::FileStatusManager;
pub use foreign::{ForeignMeaning, Reading, interpret};
pub use guards::{OpGuard, OwnerGuard};
pub use memory_status_manager::MemoryStatusManager;
pub use observe::{INTERRUPTED, InstanceView, Observation, ProxyState, observe};
pub use snapshot::{OwnerState, PidFile, Snapshot};
pub use status_file::{StatusFile, StatusFileError};
pub use status_manager::{Authority, Change, Changes, StatusManager};
pub use transaction::Draft;
