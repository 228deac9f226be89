//! Whether a newer version of a workload exists, and the way to it.

mod checker;

mod check_result;
mod compare;

mod drift;
mod semver;
mod tag_order;

pub use check_result::{Change, CheckResult, ConfigDrift, EnvVarDrift, EnvVarInfo, UpgradeStatus};
pub use checker::Checker;
pub use compare::compare;
