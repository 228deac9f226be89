//! Whether a newer version of a workload exists, and the way to it.
//!
//! A [`Checker`] compares what a workload was made from with what a registry has now, by words alone:
//!
//! ```
//! use std::sync::Arc;
//! use thv_core::RunConfig;
//! use thv_registry::{Entry, EntryInfo, ImageEntry, MemoryRegistry};
//! use thv_upgrade::{Checker, UpgradeStatus};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let info = EntryInfo { name: "com.example/time".into(), ..EntryInfo::default() };
//! let entry = ImageEntry { info, image: "example/time:1.10".into(), ..ImageEntry::default() };
//! let checker = Checker::new(Arc::new(MemoryRegistry::new([Entry::Image(entry)])));
//!
//! let config = RunConfig {
//!     name: "time".into(),
//!     image: "example/time:v1.9".into(),
//!     registry_server_name: "com.example/time".into(),
//!     ..RunConfig::default()
//! };
//! let result = checker.check(&config).await;
//! assert_eq!(result.status, UpgradeStatus::UpgradeAvailable);
//! assert_eq!(result.candidate_image, "example/time:1.10");
//! # }
//! ```
//!
//! An [`Applier`] is the only path to it: it asks again, resolves and verifies the image, makes the new configuration, asks
//! a policy, pulls what was verified, and only then replaces the old version. Registry, verifier, policy and manager are
//! seams; an application may bring its own, as it does with its manager here:
//!
//! ```
//! use std::sync::Arc;
//! use async_trait::async_trait;
//! use thv_core::{RunConfig, WorkloadName};
//! use thv_manager::{Result, RunOutcome, UpdateOptions};
//! # use thv_image::{Digest, Gate, MemoryImageRegistry, Reference};
//! # use thv_registry::{Entry, EntryInfo, ImageEntry, MemoryRegistry};
//! use thv_upgrade::{Applier, ApplyOptions, Upgrade, Workloads};
//!
//! #[derive(Debug)]
//! struct Mine;
//!
//! #[async_trait]
//! impl Workloads for Mine {
//!     async fn settle(&self, _: &WorkloadName) -> Result<()> { Ok(()) }
//!     async fn config(&self, _: &WorkloadName) -> Result<RunConfig> { Ok(saved()) }
//!     async fn prepare(&self, _: &RunConfig, _: RunConfig, _: UpdateOptions) -> Result<Box<dyn Upgrade>> {
//!         Ok(Box::new(Mine)) // the image is pulled here
//!     }
//! }
//!
//! #[async_trait]
//! impl Upgrade for Mine {
//!     async fn check(&self) -> Result<()> { Ok(()) }
//!     async fn carry_out(self: Box<Self>) -> Result<RunOutcome> {
//!         Ok(RunOutcome::ready("time".parse()?, "http://127.0.0.1:8080/mcp")) // and replaced here
//!     }
//! }
//! # fn saved() -> RunConfig {
//! #     let (image, server) = ("example/time:v1.9".into(), "com.example/time".into());
//! #     RunConfig { name: "time".into(), image, registry_server_name: server, ..RunConfig::default() }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! # let info = EntryInfo { name: "com.example/time".into(), ..EntryInfo::default() };
//! # let entry = ImageEntry { info, image: "example/time:1.10".into(), ..ImageEntry::default() };
//! # let registry = Arc::new(MemoryRegistry::new([Entry::Image(entry)]));
//! # let images = Arc::new(MemoryImageRegistry::new());
//! # images.tag(&"example/time:1.10".parse::<Reference>()?, Digest::of(b"a manifest"));
//! # let gate = Arc::new(Gate::new(images.clone(), images));
//!
//! let applier = Applier::new(registry, gate, Arc::new(Mine));
//! let applied = applier.apply(&"time".parse()?, ApplyOptions::default()).await?;
//! assert!(applied.outcome.is_some_and(|outcome| outcome.ready));
//! # Ok(())
//! # }
//! ```

mod applier;
mod checker;

mod check_result;
mod compare;
mod drift;
mod semver;
mod tag_order;

mod merge;

mod policy_gate;
mod workloads;

mod error;

pub use applier::{Applied, Applier, ApplyOptions};
#[doc(no_inline)]
pub use async_trait::async_trait;
pub use check_result::{Change, CheckResult, ConfigDrift, EnvVarDrift, EnvVarInfo, UpgradeStatus};
pub use checker::Checker;
pub use compare::compare;
pub use error::{Error, Result};
pub use merge::Additions;
pub use policy_gate::{AllowAll, PolicyGate, Proposed};
pub use workloads::{Upgrade, Workloads};
