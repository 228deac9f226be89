//! The run configuration: everything that is needed to start a workload again.
//!
//! The format is ToolHive's `runconfigs/<name>.json`, byte for byte, with one more key at its end, `thv`.

mod auth;
mod config;
mod document;
mod error;
mod normalize;
mod observability;
mod proxy;
mod remote_auth;
mod thv_section;
mod url;

pub use auth::{AwsStsConfig, OidcConfig, RoleMapping, TokenExchangeConfig, UpstreamSwapConfig};
pub use config::RunConfig;
pub use document::{MAX_DOCUMENT_SIZE, SCHEMA_VERSION};
pub(crate) use document::{document, parse_document};
pub use error::RunConfigError;
pub use normalize::Normalization;
pub use observability::{AuditConfig, TelemetryConfig};
pub use proxy::{
    HeaderForwardConfig, IgnoreConfig, MiddlewareConfig, RateLimitBucket, RateLimitConfig, RuntimeConfig,
    ScalingConfig, SessionRedis, ToolOverride, ToolRateLimit, WebhookConfig, WebhookTimeout, WebhookTls,
};
pub use remote_auth::{DEFAULT_CALLBACK_PORT, EnvVarSpec, HeaderSpec, PlainTextSecret, RemoteAuthConfig};
pub use thv_section::{IsolationIntent, LimitsSection, ProxySection, ThvSection};
