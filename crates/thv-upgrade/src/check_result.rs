//! What a check found out about one workload.

use std::fmt;

use serde::Serialize;

/// What a check found out about one workload. Its JSON has ToolHive's keys in ToolHive's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckResult {
    /// The workload.
    pub workload_name: String,
    /// The registry entry that it was made from; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registry_server: String,
    /// Whether there is a newer version.
    pub status: UpgradeStatus,
    /// The image that it has.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub current_image: String,
    /// The image that the registry has; empty where that is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub candidate_image: String,
    /// Why the status is unknown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Variables that the newer version declares and the workload does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_var_drift: Option<EnvVarDrift>,
    /// What the registry says otherwise about how the workload runs. An upgrade leaves it as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_drift: Option<ConfigDrift>,
}

impl CheckResult {
    pub(crate) fn new(workload_name: &str, status: UpgradeStatus) -> Self {
        Self {
            workload_name: workload_name.to_owned(),
            registry_server: String::new(),
            status,
            current_image: String::new(),
            candidate_image: String::new(),
            reason: String::new(),
            env_var_drift: None,
            config_drift: None,
        }
    }

    /// Whether there is a newer version.
    pub fn is_available(&self) -> bool {
        self.status == UpgradeStatus::UpgradeAvailable
    }
}

/// Whether there is a newer version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum UpgradeStatus {
    /// The registry has the same version, or an older one.
    UpToDate,
    /// The registry has a newer version.
    UpgradeAvailable,
    /// The workload was not made from a registry entry.
    NotRegistrySourced,
    /// The registry has no such entry any more.
    ServerNotFound,
    /// It cannot be told; the reason says why.
    Unknown,
}

impl UpgradeStatus {
    /// The text in JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "up-to-date",
            Self::UpgradeAvailable => "upgrade-available",
            Self::NotRegistrySourced => "not-registry-sourced",
            Self::ServerNotFound => "server-not-found",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for UpgradeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Variables that a newer version declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EnvVarDrift {
    /// Those that the workload has neither as a variable nor as a secret, in the registry's order.
    pub added: Vec<EnvVarInfo>,
}

/// A variable that a registry entry declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EnvVarInfo {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether the server needs it.
    pub required: bool,
    /// Whether its value is a secret.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// The value when none is given; never that of a secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub default: String,
}

/// What the registry says otherwise about how the workload runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConfigDrift {
    /// How the server is spoken to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Change>,
    /// The permission profile's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission_profile: Option<Change>,
}

/// What the workload has, and what the registry has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// What the workload has.
    pub from: String,
    /// What the registry has.
    pub to: String,
}
