//! The comparison itself: a configuration beside a registry entry, and nothing else.

use std::cmp::Ordering;

use thv_core::RunConfig;
use thv_registry::Entry;

use crate::{CheckResult, UpgradeStatus, drift, tag_order};

/// Compares a workload's configuration with the registry entry that it was made from. Nothing is asked, read or written.
///
/// ```
/// use thv_core::RunConfig;
/// use thv_registry::{Entry, ImageEntry};
/// use thv_upgrade::{UpgradeStatus, compare};
///
/// let config = RunConfig { image: "acme/time:1.9".into(), registry_server_name: "time".into(), ..RunConfig::default() };
/// let entry = Entry::Image(ImageEntry { image: "acme/time:v1.10".into(), ..ImageEntry::default() });
/// assert_eq!(compare(&config, &entry).status, UpgradeStatus::UpgradeAvailable);
/// ```
pub fn compare(config: &RunConfig, entry: &Entry) -> CheckResult {
    if config.registry_server_name.is_empty() {
        return about(config, UpgradeStatus::NotRegistrySourced);
    }
    let Some(entry) = entry.as_image() else {
        return unknown(
            config,
            format!(
                "registry entry \"{}\" is not a container image (cannot determine upgrade)",
                config.registry_server_name
            ),
        );
    };
    let mut result = match tag_order::compare(&config.image, &entry.image) {
        Ok(Ordering::Less) => {
            let mut available = about(config, UpgradeStatus::UpgradeAvailable);
            available.env_var_drift = drift::env_vars(config, entry);
            available.config_drift = drift::posture(config, entry);
            available
        }
        Ok(_) => about(config, UpgradeStatus::UpToDate),
        Err(reason) => unknown(config, reason),
    };
    result.candidate_image.clone_from(&entry.image);
    result
}

/// What is known of a workload before any registry is asked.
pub(crate) fn about(config: &RunConfig, status: UpgradeStatus) -> CheckResult {
    let mut result = CheckResult::new(&config.name, status);
    result.registry_server.clone_from(&config.registry_server_name);
    result.current_image.clone_from(&config.image);
    result
}

pub(crate) fn unknown(config: &RunConfig, reason: impl Into<String>) -> CheckResult {
    let mut result = about(config, UpgradeStatus::Unknown);
    result.reason = reason.into();
    result
}
