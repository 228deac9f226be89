//! Documents of workloads by kind and name: run configurations and groups, on disk where ToolHive keeps them, or in
//! memory.
//!
//! ```
//! use thv_core::RunConfig;
//! use thv_state::{MemoryStateStore, StateStoreExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStateStore::new();
//! let name = "fetch".parse()?;
//! let config = RunConfig { name: "fetch".into(), ..RunConfig::default() };
//! store.create_run_config(&name, &config).await?;
//! assert!(store.read_run_config(&name).await?.is_some_and(|read| read.name == "fetch"));
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! - `contract`: the suite that every [`StateStore`] passes, for the tests of an implementation.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod state_store;
mod state_store_ext;

mod local_state_store;
mod memory_state_store;

#[cfg(feature = "contract")]
pub mod contract;
mod document;
mod error;

#[doc(no_inline)]
pub use async_trait::async_trait;
pub use document::{DocumentKind, DocumentName, InvalidDocumentName};
pub use error::{Error, Result};
pub use local_state_store::LocalStateStore;
pub use memory_state_store::MemoryStateStore;
pub use state_store::{Keep, MAX_DOCUMENT, StateStore, Visit};
pub use state_store_ext::StateStoreExt;
