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
//!
//! # Features
//! - `catalog`: the public catalogue as part of the program, `EmbeddedRegistry`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod registry;

mod config;

mod catalogue;
mod entry;
mod raw_json;
mod source;

mod document;
mod json;

mod api_registry;
#[cfg(feature = "catalog")]
mod embedded_registry;
mod file_registry;
mod memory_registry;
mod url_registry;

mod cache;
mod detect;
mod net;

mod error;

pub use api_registry::ApiRegistry;
#[doc(no_inline)]
pub use async_trait::async_trait;
pub use catalogue::Catalogue;
pub use config::{RegistryConfig, open};
pub use detect::detect;
pub use document::{Accept, MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_SERVERS, parse_document};
#[cfg(feature = "catalog")]
pub use embedded_registry::EmbeddedRegistry;
pub use entry::{Attestation, Entry, EntryInfo, ImageEntry, Metadata, OAuthConfig, Provenance, RemoteEntry};
pub use error::{Error, Result};
pub use file_registry::FileRegistry;
pub use memory_registry::MemoryRegistry;
pub use raw_json::RawJson;
pub use registry::Registry;
pub use source::Source;
pub use url_registry::UrlRegistry;
