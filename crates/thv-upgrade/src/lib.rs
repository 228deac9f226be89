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

mod applier;
mod checker;

mod check_result;
mod compare;
mod drift;
mod semver;
mod tag_order;

mod identity;
mod merge;

mod policy_gate;
mod workloads;

mod error;

pub use applier::{Applied, Applier, ApplyOptions};
pub use check_result::{Change, CheckResult, ConfigDrift, EnvVarDrift, EnvVarInfo, UpgradeStatus};
pub use checker::Checker;
pub use compare::compare;
pub use error::{Error, Result};
pub use identity::expected_identity;
pub use merge::Additions;
pub use policy_gate::{AllowAll, PolicyGate, Proposed};
pub use workloads::{Upgrade, Workloads};
