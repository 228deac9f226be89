//! The keys that are read.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

/// The settings of `config.yaml` that this version reads. What is absent or null is at its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Settings {
    /// Where secrets are kept.
    #[serde(deserialize_with = "or_default")]
    pub secrets: SecretSettings,
    /// The clients whose configuration is kept up to date.
    #[serde(deserialize_with = "or_default")]
    pub clients: ClientSettings,
    /// URL of a registry document.
    #[serde(deserialize_with = "or_default")]
    pub registry_url: String,
    /// Base URL of a registry API.
    #[serde(deserialize_with = "or_default")]
    pub registry_api_url: String,
    /// Path of a registry document.
    #[serde(deserialize_with = "or_default")]
    pub local_registry_path: String,
    /// Whether a registry may be asked over plain HTTP and at private addresses.
    #[serde(deserialize_with = "or_default")]
    pub allow_private_registry_ip: bool,
    /// A file with further certificates to trust.
    #[serde(deserialize_with = "or_default")]
    pub ca_certificate_path: String,
    /// Whether anonymous usage counts are switched off in ToolHive. Here nothing is counted.
    #[serde(deserialize_with = "or_default")]
    pub disable_usage_metrics: bool,
}

/// The section `secrets`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SecretSettings {
    /// The provider: `encrypted`, `1password`, `environment` or nothing.
    #[serde(deserialize_with = "or_default")]
    pub provider_type: String,
    /// Whether it was set up.
    #[serde(deserialize_with = "or_default")]
    pub setup_completed: bool,
}

/// The section `clients`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ClientSettings {
    /// Their names.
    #[serde(deserialize_with = "or_default")]
    pub registered_clients: Vec<String>,
}

/// Which registry is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistrySetting {
    /// The one in the program.
    BuiltIn,
    /// A document on this machine.
    File(PathBuf),
    /// A document elsewhere.
    Url(String),
    /// An API.
    Api(String),
}

impl Settings {
    /// The registry that counts: an API before a URL before a file.
    pub fn registry(&self) -> RegistrySetting {
        if !self.registry_api_url.is_empty() {
            RegistrySetting::Api(self.registry_api_url.clone())
        } else if !self.registry_url.is_empty() {
            RegistrySetting::Url(self.registry_url.clone())
        } else if !self.local_registry_path.is_empty() {
            RegistrySetting::File(self.local_registry_path.clone().into())
        } else {
            RegistrySetting::BuiltIn
        }
    }
}

/// A value, or its default where `null` stands.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
