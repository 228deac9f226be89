//! What loading repairs in memory.

use super::observability::sampling_rate_to_text;
use super::{RunConfig, SCHEMA_VERSION};
use crate::gojson::Json;

/// A repair that [`RunConfig::normalize`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Normalization {
    /// An empty schema version was filled in.
    SchemaVersion,
    /// The proxy mode was set to the one that counts.
    ProxyMode,
    /// A built-in profile that was only named was filled in.
    Profile,
    /// Isolation was switched off because the network mode of the profile excludes it.
    IsolationOff,
    /// A sampling rate of telemetry middleware became text.
    SamplingRate,
}

impl RunConfig {
    /// Repairs what ToolHive repairs when it loads a configuration, and says what that was.
    ///
    /// Idempotent. Credentials in plain text are not touched: see [`plain_text_secrets`](Self::plain_text_secrets).
    pub fn normalize(&mut self) -> Vec<Normalization> {
        let mut made = Vec::new();
        if self.schema_version.is_empty() {
            SCHEMA_VERSION.clone_into(&mut self.schema_version);
            made.push(Normalization::SchemaVersion);
        }
        let mode = Some(self.effective_proxy_mode());
        if self.proxy_mode != mode {
            self.proxy_mode = mode;
            made.push(Normalization::ProxyMode);
        }
        if let Some(profile) = self.named_profile() {
            self.permission_profile = Some(profile);
            made.push(Normalization::Profile);
        }
        let excluded = self
            .permission_profile
            .as_ref()
            .is_some_and(|profile| !profile.has_bridge_mode());
        if self.isolate_network && excluded {
            self.isolate_network = false;
            made.push(Normalization::IsolationOff);
        }
        if self.repair_telemetry_middleware() {
            made.push(Normalization::SamplingRate);
        }
        made
    }

    /// The configuration with [`normalize`](Self::normalize) applied.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.normalize();
        self
    }

    fn repair_telemetry_middleware(&mut self) -> bool {
        let mut changed = false;
        for middleware in &mut self.middleware_configs {
            if middleware.kind == "telemetry"
                && let Some(Json::Object(pairs)) = middleware.parameters.get_mut("config")
            {
                changed |= sampling_rate_to_text(pairs);
            }
        }
        changed
    }
}
