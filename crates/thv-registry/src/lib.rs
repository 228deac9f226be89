//! Registries of MCP servers: who knows a server by its name, and what is known of it.
//!
//! A [`Registry`] gives an [`Entry`] for a name: an image with its transport, arguments, variables, permissions and
//! provenance, or a server that runs elsewhere. Entries come from outside and are checked when they are read; one that
//! must not be used is an error of its own, never "not found".
//!
//! ```
//! use thv_registry::{Entry, EntryInfo, MemoryRegistry, Registry, RemoteEntry};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> thv_registry::Result<()> {
//! let info = EntryInfo { name: "com.example/search".into(), ..EntryInfo::default() };
//! let entry = RemoteEntry { info, url: "https://mcp.example.com/mcp".into(), ..RemoteEntry::default() };
//! let registry: Box<dyn Registry> = Box::new(MemoryRegistry::new([Entry::Remote(entry)]));
//!
//! assert_eq!(registry.get("search").await?.as_remote().unwrap().url, "https://mcp.example.com/mcp");
//! assert!(registry.get("fetch").await.unwrap_err().is_not_found());
//! # Ok(())
//! # }
//! ```

mod registry;

mod catalogue;
mod entry;
mod raw_json;
mod source;

mod memory_registry;

mod error;

pub use catalogue::Catalogue;
pub use entry::{Attestation, Entry, EntryInfo, ImageEntry, Metadata, OAuthConfig, Provenance, RemoteEntry};
pub use error::{Error, Result};
pub use memory_registry::MemoryRegistry;
pub use raw_json::RawJson;
pub use registry::Registry;
pub use source::Source;
