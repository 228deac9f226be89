//! What of a run configuration is enforced, and what is refused because it is not.
//!
//! A configuration asks for protection: an audit log, a filter of tools, authentication. What is not built must not be
//! swallowed: a workload that looks protected and is not is worse than one that does not start. So every middleware
//! type and every field with an effect stands in one table, [`Feature::enforcement`], and [`check`] refuses by name what
//! a configuration asks for and what is not there.
//!
//! Not decided here, because it depends on the runtime: network isolation
//! ([`RunConfig::requires_isolation`](crate::RunConfig::requires_isolation)), mounts and ignore files, and whatever else
//! a runtime's capabilities say.
//!
//! ```
//! use thv_core::{RunConfig, enforcement};
//!
//! let config = RunConfig::from_json(br#"{"name": "fetch", "oidc_config": {}}"#)?;
//! let refusal = enforcement::check(&config).unwrap_err();
//! assert_eq!(refusal.keys().collect::<Vec<_>>(), ["oidc_config"]);
//! # Ok::<(), thv_core::RunConfigError>(())
//! ```

mod check;
mod feature;
mod parameters;

pub use check::{Reason, Refusal, Refused, check, check_with, unclear_override};
pub use feature::{Enforcement, Feature, Field, MiddlewareType, UnknownMiddleware};
pub use parameters::{is_implied, is_without_effect};
