//! The runtime seam: what manages the instances of MCP servers, behind traits.
//!
//! A [`Runtime`] deploys, stops, removes, inspects and lists **instances** (a container, a process, a
//! StatefulSet). [`Runtimes`] is a routed set of them. [`MemoryRuntime`] is an implementation without any
//! process, for tests and simulations.
//!
//! ```
//! use std::sync::Arc;
//! use thv_runtime::{DeploySpec, MemoryRuntime, Runtime, Runtimes};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtimes = Runtimes::new().with(Arc::new(MemoryRuntime::new()));
//! let runtime = runtimes.get(&"memory".into())?;
//! let spec = DeploySpec::new("fetch".parse()?, "example.test/fetch:1");
//! let deployment = runtime.deploy(&spec).await?;
//! assert_eq!(runtime.inspect(&spec.name).await?.map(|i| i.id), Some(deployment.instance.id));
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! - `contract`: the suite that every [`Runtime`] passes, for the tests of an implementation.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod about;
mod appearance;
mod capabilities;
mod changes;
#[cfg(feature = "contract")]
pub mod contract;
mod deploy;
mod error;
mod events;
mod images;
mod instance;
mod log_file;
mod log_rotation;
mod logs;
mod memory_runtime;
mod runtime;
mod runtimes;

pub use about::{About, EngineIdentity};
pub use appearance::appearance;
#[doc(no_inline)]
pub use async_trait::async_trait;
pub use capabilities::Capabilities;
pub use deploy::{
    DeployOutcome, DeploySpec, Deployment, Egress, Endpoint, Expect, HiddenPath, Limits, MountBind,
    NamedVolume, NetworkMode, PortBinding,
};
pub use error::{Error, Result};
pub use events::{EventFilter, EventKind, RuntimeEvent};
pub use images::{Images, LocalImage, PullProgress, PullStep};
pub use instance::{Instance, InstanceId, InstanceRef, InstanceState};
pub use log_file::log_file;
pub use log_rotation::{BlockLog, LogRotation, RotatingLog, open_log, remove_logs};
pub use logs::{LogLine, LogOptions, LogSource};
pub use memory_runtime::{Call, MemoryImages, MemoryRuntime, MemoryServer};
pub use runtime::{Runtime, RuntimeKind, Stdio, StopOptions};
pub use runtimes::{Listing, Runtimes};
#[doc(no_inline)]
pub use tokio_util::sync::CancellationToken;
