//! The fields of a run configuration.

use std::collections::BTreeMap;

use super::{
    AuditConfig, AwsStsConfig, HeaderForwardConfig, IgnoreConfig, MiddlewareConfig, OidcConfig,
    PlainTextSecret, RateLimitConfig, RemoteAuthConfig, RuntimeConfig, ScalingConfig, TelemetryConfig,
    ThvSection, TokenExchangeConfig, ToolOverride, UpstreamSwapConfig, WebhookConfig,
};
use crate::gojson::{GoDuration, Json, ParseDurationError};
use crate::record::go_struct;
use crate::{InvalidName, PermissionProfile, ProxyMode, SecretReference, TransportType, WorkloadName};

go_struct! {
    /// Everything that is needed to start a workload again: the content of `runconfigs/<base_name>.json`.
    ///
    /// The fields stand in the order in which they are written. Empty texts, lists and maps mean "not given" and are
    /// left out, as in ToolHive's files. `Debug` leaves out what is empty and hides credentials and values of the
    /// environment.
    ///
    /// ```
    /// use thv_core::{RunConfig, TransportType};
    ///
    /// let config = RunConfig::from_json(br#"{"image": "mcp/time", "name": "time", "base_name": "time",
    ///     "transport": "stdio", "host": "127.0.0.1", "port": 34127}"#)?;
    /// assert_eq!(config.transport, TransportType::Stdio);
    /// assert_eq!(config.client_url("127.0.0.1").as_deref(), Some("http://127.0.0.1:34127/mcp"));
    /// assert!(config.to_json().starts_with("{\n  \"schema_version\": \"v0.1.0\",\n"));
    /// # Ok::<(), thv_core::RunConfigError>(())
    /// ```
    pub struct RunConfig {
        /// Version of the format; written as [`SCHEMA_VERSION`](crate::SCHEMA_VERSION) when empty.
        schema_version: String = "schema_version" [always];
        /// Generation of the Kubernetes resource that this came from; 0 means none.
        mcpserver_generation: i64 = "mcpserver_generation";
        /// Image reference; of a remote workload its URL or nothing.
        image: String = "image" [always url];
        /// URL of a remote server. Not empty means that the workload is remote.
        remote_url: String = "remote_url" [url];
        /// Registry API that the server was found in.
        registry_api_url: String = "registry_api_url" [url];
        /// Registry document that the server was found in.
        registry_url: String = "registry_url" [url];
        /// Name of the registry entry; empty means that the server does not come from a registry.
        registry_server_name: String = "registry_server_name";
        /// How the proxy logs in to the remote server.
        remote_auth_config: Option<RemoteAuthConfig> = "remote_auth_config";
        /// Arguments of the server.
        cmd_args: Vec<String> = "cmd_args" [secret];
        /// Name as it was given or derived.
        name: String = "name" [always];
        /// Name of the container.
        container_name: String = "container_name";
        /// The workload's identity, and the name of its files.
        base_name: String = "base_name";
        /// How the server is spoken to. Absent counts as stdio.
        transport: TransportType = "transport" [always];
        /// Address that the proxy binds.
        host: String = "host" [always];
        /// Port that the proxy binds.
        port: u16 = "port" [always];
        /// Port of the server; 0 for stdio.
        target_port: u16 = "target_port";
        /// Host of the server.
        target_host: String = "target_host";
        /// Values of the `Origin` header that are accepted; empty means those of loopback.
        allowed_origins: Vec<String> = "allowed_origins";
        /// Further ports to publish; see [`PublishSpec`](crate::PublishSpec).
        publish: Vec<String> = "publish";
        /// Name or path of the profile, as it was given.
        permission_profile_name_or_path: String = "permission_profile_name_or_path";
        /// The profile itself; always written.
        permission_profile: Option<PermissionProfile> = "permission_profile" [always];
        /// Environment of the server.
        env_vars: BTreeMap<String, String> = "env_vars" [secret];
        /// Deprecated and unused.
        env_file_dir: String = "env_file_dir";
        /// Whether the proxy logs more.
        debug: bool = "debug";
        /// Mounts as `host:container[:ro]`.
        volumes: Vec<String> = "volumes";
        /// Labels of the container, standard ones and the user's.
        container_labels: BTreeMap<String, String> = "container_labels";
        /// How clients of the proxy are authenticated.
        oidc_config: Option<OidcConfig> = "oidc_config";
        /// Exchange of the caller's token.
        token_exchange_config: Option<TokenExchangeConfig> = "token_exchange_config";
        /// Replacement of the caller's token.
        upstream_swap_config: Option<UpstreamSwapConfig> = "upstream_swap_config";
        /// AWS credentials for the caller.
        aws_sts_config: Option<AwsStsConfig> = "aws_sts_config";
        /// Authorization, kept as it is.
        authz_config: Json = "authz_config";
        /// File with the authorization.
        authz_config_path: String = "authz_config_path";
        /// Audit log.
        audit_config: Option<AuditConfig> = "audit_config";
        /// File with the settings of the audit log.
        audit_config_path: String = "audit_config_path";
        /// Traces and metrics.
        telemetry_config: Option<TelemetryConfig> = "telemetry_config";
        /// Rate limits.
        rate_limit_config: Option<RateLimitConfig> = "rate_limit_config";
        /// Prefix that keeps the rate limits of installations apart.
        rate_limit_namespace: String = "rate_limit_namespace";
        /// References to secrets; see [`SecretReference`](crate::SecretReference).
        secrets: Vec<String> = "secrets" [references];
        /// Patch of the Kubernetes pod template, as JSON text.
        k8s_pod_template_patch: String = "k8s_pod_template_patch" [secret];
        /// Whether network isolation is wanted. It is the default, and not a demand; see [`ThvSection`].
        isolate_network: bool = "isolate_network";
        /// Whether the engine's gateway address may be reached from an isolated container.
        allow_docker_gateway: bool = "allow_docker_gateway";
        /// Whether forwarded headers of a proxy in front are believed.
        trust_proxy_headers: bool = "trust_proxy_headers";
        /// Whether unknown protocol versions are refused.
        strict_protocol_validation: bool = "strict_protocol_validation";
        /// Whether the server keeps no sessions.
        stateless: bool = "stateless";
        /// How long an unused session lives, as a Go duration; empty means two hours.
        session_ttl: String = "session_ttl";
        /// How the proxy speaks to clients. Files of old versions may lack it or contradict the transport:
        /// [`effective_proxy_mode`](Self::effective_proxy_mode) is what counts.
        proxy_mode: Option<ProxyMode> = "proxy_mode";
        /// Deprecated.
        thv_ca_bundle: String = "thv_ca_bundle";
        /// Deprecated.
        jwks_auth_token_file: String = "jwks_auth_token_file";
        /// Group that the workload belongs to.
        group: String = "group";
        /// Names of the tools that clients see; empty means all.
        tools_filter: Vec<String> = "tools_filter";
        /// What tools are called towards clients, by their real names.
        tools_override: BTreeMap<String, ToolOverride> = "tools_override";
        /// Ignore files.
        ignore_config: Option<IgnoreConfig> = "ignore_config";
        /// Middleware of the proxy, the outermost first.
        middleware_configs: Vec<MiddlewareConfig> = "middleware_configs";
        /// Middleware that is added to a derived list.
        additional_middleware_configs: Vec<MiddlewareConfig> = "additional_middleware_configs";
        /// Webhooks that may refuse calls.
        validating_webhooks: Vec<WebhookConfig> = "validating_webhooks";
        /// Webhooks that may change calls.
        mutating_webhooks: Vec<WebhookConfig> = "mutating_webhooks";
        /// Path prefix of the proxy's endpoints.
        endpoint_prefix: String = "endpoint_prefix";
        /// How an image is built.
        runtime_config: Option<RuntimeConfig> = "runtime_config";
        /// Headers that the proxy adds towards a remote server.
        header_forward: Option<HeaderForwardConfig> = "header_forward";
        /// Embedded authorization server, kept as it is.
        embedded_auth_server_config: Json = "embedded_auth_server_config";
        /// Replicas and their session store.
        scaling_config: Option<ScalingConfig> = "scaling_config";
        /// Keys that ToolHive does not have; left out when it says nothing.
        thv: ThvSection = "thv";
    }
}

impl RunConfig {
    /// Whether the server runs elsewhere and is reached by its URL. A URL of spaces is none, as in ToolHive.
    pub fn is_remote(&self) -> bool {
        !self.remote_url.trim().is_empty()
    }

    /// The workload's identity: `base_name`, and in files that lack it `container_name` or `name`.
    pub fn workload_name(&self) -> Result<WorkloadName, InvalidName> {
        let names = [&self.base_name, &self.container_name, &self.name];
        let name = names.into_iter().find(|name| !name.is_empty());
        WorkloadName::new(name.map_or("", |name| name.as_str()))
    }

    /// How the proxy speaks to clients: as configured in front of a stdio server (by default streamable HTTP), as the
    /// server does otherwise.
    pub fn effective_proxy_mode(&self) -> ProxyMode {
        match self.transport {
            TransportType::Sse => ProxyMode::Sse,
            TransportType::StreamableHttp => ProxyMode::StreamableHttp,
            TransportType::Stdio | TransportType::Inspector => self.proxy_mode.unwrap_or_default(),
        }
    }

    /// `session_ttl`, if one is given that is not zero. Negative ones are errors.
    pub fn session_ttl(&self) -> Result<Option<std::time::Duration>, ParseDurationError> {
        if self.session_ttl.is_empty() {
            return Ok(None);
        }
        let ttl: GoDuration = self.session_ttl.parse()?;
        let ttl = ttl
            .to_std()
            .ok_or_else(|| ParseDurationError::new(&self.session_ttl))?;
        Ok((!ttl.is_zero()).then_some(ttl))
    }

    /// Whether the workload must not start where network isolation cannot be enforced, because the user said so or
    /// because its profile limits what it may reach. A profile that is named and not there is taken to limit it.
    pub fn requires_isolation(&self) -> bool {
        let limits = |profile: &PermissionProfile| profile.has_bridge_mode() && profile.limits_outbound();
        self.thv.isolation.is_some()
            || (!self.is_remote()
                && (self.has_unresolved_profile()
                    || self.permission_profile.as_ref().is_some_and(limits)
                    || self.named_profile().as_ref().is_some_and(limits)))
    }

    /// Whether the profile is the path of a file that has not been read. Of remote workloads none is asked for.
    pub fn has_unresolved_profile(&self) -> bool {
        !self.is_remote()
            && self.permission_profile.is_none()
            && !self.permission_profile_name_or_path.is_empty()
            && self.named_profile().is_none()
    }

    /// The built-in profile that is named where none is written.
    pub(super) fn named_profile(&self) -> Option<PermissionProfile> {
        if self.permission_profile.is_some() {
            return None;
        }
        PermissionProfile::builtin(&self.permission_profile_name_or_path)
    }

    /// Credentials that stand in the configuration itself, where a reference to a secret belongs. They are to be moved
    /// to a secret store before anything else is done with the configuration.
    pub fn plain_text_secrets(&self) -> Vec<PlainTextSecret> {
        let Some(auth) = &self.remote_auth_config else {
            return Vec::new();
        };
        let is_plain = |text: &str| !text.is_empty() && SecretReference::parse(text).is_err();
        let mut found = Vec::new();
        if is_plain(&auth.client_secret) {
            found.push(PlainTextSecret::ClientSecret);
        }
        if is_plain(&auth.bearer_token) {
            found.push(PlainTextSecret::BearerToken);
        }
        found
    }
}
