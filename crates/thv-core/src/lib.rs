//! Vocabulary of MCP workloads, without I/O: names, the status machine, run configurations, permission
//! profiles, the workload view, and the values through which time, environment and directories enter a program.
//!
//! ```
//! use thv_core::{WorkloadName, WorkloadStatus};
//!
//! let name: WorkloadName = "fetch".parse()?;
//! assert_eq!(name.as_str(), "fetch");
//! assert!(WorkloadStatus::Starting.can_become(WorkloadStatus::Running));
//! assert!(!WorkloadStatus::Stopped.can_become(WorkloadStatus::Running));
//!
//! let config = thv_core::RunConfig::from_json(br#"{"name": "fetch", "transport": "sse", "port": 8080}"#)?;
//! assert_eq!(config.client_url("localhost").as_deref(), Some("http://localhost:8080/sse#fetch"));
//! assert!(thv_core::enforcement::check(&config).is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod name;
mod naming;
mod status;
mod transport;

mod run_config;

mod mount;
mod permission_profile;
mod publish;
mod secret_reference;

pub mod enforcement;

mod group;
mod image_record;
mod registry_credentials;
mod token_source;
mod workload;

pub mod gojson;
mod record;

mod clock;
mod dirs;
mod env;

pub use clock::{Clock, SystemClock};
pub use dirs::{Dirs, DirsError};
pub use env::{Env, InvalidVariable};
pub use gojson::{Json, JsonString};
pub use group::{GroupName, InvalidGroupName};
pub use image_record::{ImageRecord, ImageSigner, ProvenanceRecord, ProvenanceVerdict};
#[doc(no_inline)]
pub use jiff;
pub use mount::{InvalidMount, Mount, MountSource};
pub use name::{InvalidName, WorkloadName};
pub use naming::{
    derive_name, image_base_name, image_container_name, package_base_name, registry_base_name,
    remote_base_name, sanitize_name,
};
pub use permission_profile::{
    InboundPermissions, NetworkPermissions, OutboundPermissions, PermissionProfile,
};
pub use publish::{InvalidPublish, PublishSpec};
pub use record::{ExtraKeys, FieldError, WithoutCredentials};
pub use registry_credentials::RegistryCredentials;
pub use run_config::{
    AuditConfig, AwsStsConfig, DEFAULT_CALLBACK_PORT, EnvVarSpec, HeaderForwardConfig, HeaderSpec,
    IgnoreConfig, IsolationIntent, LimitsSection, MAX_DOCUMENT_SIZE, MiddlewareConfig, Normalization,
    OidcConfig, PlainTextSecret, ProxySection, RateLimitBucket, RateLimitConfig, RemoteAuthConfig,
    RoleMapping, RunConfig, RunConfigError, RuntimeConfig, SCHEMA_VERSION, ScalingConfig, SessionRedis,
    TelemetryConfig, ThvSection, TokenExchangeConfig, ToolOverride, ToolRateLimit, UpstreamSwapConfig,
    WebhookConfig, WebhookTimeout, WebhookTls,
};
pub use secret_reference::{InvalidSecretReference, SecretReference};
pub use status::{ParseStatusError, WorkloadStatus};
pub use token_source::{AccessToken, BoxFuture, TokenError, TokenSource};
pub use transport::{ParseTransportError, ProxyMode, TransportType};
pub use workload::{Workload, WorkloadDetails};
