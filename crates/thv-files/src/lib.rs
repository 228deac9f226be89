//! Files that any number of processes share: there whole or not at all, also after a crash or on a full disk; locks that the
//! kernel frees; and reading many of them again, of which few have changed.
//!
//! Everything here blocks.
//!
//! ```
//! use thv_files::{atomic, lock};
//!
//! # fn main() -> std::io::Result<()> {
//! # let place = tempfile::tempdir()?;
//! let folder = place.path().join("records");
//! atomic::create_folder(&folder, 0o700)?;
//! let held = lock::try_exclusive(&folder.join("fetch.lock"))?;
//! assert!(held.is_some() && lock::is_held(&folder.join("fetch.lock"))?);
//! atomic::replace(&folder.join("fetch.json"), ".fetch-", b"{}")?;
//! assert_eq!(atomic::read(&folder.join("fetch.json"), 1024)?.as_deref(), Some(&b"{}"[..]));
//! # Ok(())
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod atomic;
mod folder;
mod in_the_way;
mod kept;
pub mod lock;
pub mod owner;
mod parsed;
mod shares;
pub mod spare;
mod temporary;

pub use folder::{Folder, FolderReader};
pub use in_the_way::why_no_file;
pub use parsed::Parsed;
pub use shares::in_shares;
