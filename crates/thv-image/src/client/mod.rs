//! The registry protocol, as much as resolving and verifying need: manifests, small blobs, referrers. Everything that comes
//! from a registry is bounded in size and time, and what has a digest is compared with it.

mod challenge;
mod config;
mod credentials;
mod fault;
mod manifest;
mod registry_client;
mod tokens;
mod transport;

pub use config::ClientConfig;
pub(crate) use fault::Fault;
pub(crate) use manifest::{Descriptor, Index, Manifest};
pub use registry_client::RegistryClient;
