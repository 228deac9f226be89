//! What an image reference means, and whether what it names is what its author published.
//!
//! A [`Reference`] is resolved to a [`Digest`] by whoever implements [`Resolve`], and its provenance is looked at by
//! whoever implements [`Verify`]; a [`Gate`] puts both together under a [`Policy`]. Nothing here talks to an engine.
//!
//! ```
//! use std::sync::Arc;
//! use thv_image::{Digest, ExpectedIdentity, Gate, ImageGate, MemoryImageRegistry, Policy, Reference};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), thv_image::Error> {
//! let images = Arc::new(MemoryImageRegistry::new());
//! let image: Reference = "ghcr.io/acme/echo:1".parse()?;
//! images.tag(&image, Digest::of(b"a manifest"));
//!
//! let gate = Gate::new(images.clone(), images);
//! let admitted = gate.admit(&image, Some(&ExpectedIdentity::default()), Policy::Warn).await?;
//! assert!(admitted.warning.is_some(), "nobody signed it");
//! println!("pull {}", image.at(admitted.digest));
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! - `client` (default): registries of images over the network, and verification of signatures. Without it: references,
//!   policies and the seams.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
mod client;
mod digest;
mod error;
mod gate;
mod identity;
mod memory_image_registry;
mod policy;
#[cfg(feature = "client")]
mod provenance;
mod reference;
mod resolve;
mod verify;

#[doc(no_inline)]
pub use async_trait::async_trait;
#[cfg(feature = "client")]
pub use client::{ClientConfig, RegistryClient};
pub use digest::Digest;
pub use error::{Error, Result};
pub use gate::{Admitted, Gate, ImageGate};
pub use identity::{ExpectedAttestation, ExpectedIdentity, Signer};
pub use memory_image_registry::MemoryImageRegistry;
pub use policy::Policy;
#[cfg(feature = "client")]
pub use provenance::{ProvenanceVerifier, TrustRoots};
pub use reference::Reference;
pub use resolve::Resolve;
pub use verify::{Verdict, Verify};
