//! What a registry client is told.

use std::time::Duration;

use thv_core::{Env, InvalidVariable};

/// Whose environment, which registries are trusted with what, and how long they may take.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The environment: where Docker's configuration is, proxies, and credentials of registries.
    pub env: Env,
    /// Registries (`host` or `host:port`) that may be talked to without TLS. Those on loopback may always.
    pub insecure: Vec<String>,
    /// Registries that may be shown `REGISTRY_USERNAME` and `REGISTRY_PASSWORD`. Nobody else is.
    pub global_credentials_for: Vec<String>,
    /// Certificates that are trusted besides the system's, as PEM.
    pub ca_certificates: Option<Vec<u8>>,
    /// The platform that images must be made for, such as `linux/amd64`.
    pub platform: String,
    /// How long a resolution, and how long the search for signatures may take, whatever a registry does.
    pub timeout: Duration,
}

/// Which registries may be talked to without TLS, separated by commas.
const INSECURE: &str = "THV_INSECURE_REGISTRIES";
/// Which registries may be shown the global credentials, separated by commas.
const GLOBAL_FOR: &str = "THV_REGISTRY_CREDENTIALS_FOR";
/// How long a registry may take, in seconds.
const TIMEOUT_VARIABLE: &str = "THV_REGISTRY_TIMEOUT";
const TIMEOUT: Duration = Duration::from_secs(10);

impl ClientConfig {
    /// What `env` says; this machine's architecture; ten seconds, or as many as `THV_REGISTRY_TIMEOUT` says.
    ///
    /// # Errors
    /// When that is no number of seconds.
    pub fn from_env(env: Env) -> Result<Self, InvalidVariable> {
        let list = |name: &str| -> Vec<String> {
            env.get(name)
                .unwrap_or_default()
                .split(',')
                .map(|host| host.trim().to_ascii_lowercase())
                .filter(|host| !host.is_empty())
                .collect()
        };
        Ok(Self {
            insecure: list(INSECURE),
            global_credentials_for: list(GLOBAL_FOR),
            ca_certificates: None,
            platform: host_platform(),
            timeout: env.seconds(TIMEOUT_VARIABLE)?.unwrap_or(TIMEOUT),
            env,
        })
    }
}

/// Images are for Linux, wherever the engine's client is.
fn host_platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    };
    format!("linux/{architecture}")
}
