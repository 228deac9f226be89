//! The check.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::feature::{Enforcement, Feature, Field, MiddlewareType};
use super::parameters::{is_implied, is_without_effect};
use crate::{IsolationIntent, MiddlewareConfig, RunConfig, ToolOverride, TransportType};

/// Everything that a configuration asks for and that would not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    refused: Vec<Refused>,
}

/// One thing that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Key of the field or type of the middleware, as in the configuration; of an unknown one escaped and cut.
    pub key: String,
    /// Why.
    pub reason: Reason,
}

/// Why something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It is known, and not built.
    NotBuiltYet,
    /// Nobody knows what it is.
    Unknown,
    /// Its value means nothing.
    Invalid,
    /// It names something that has to be looked up before the configuration is saved, and was not.
    Unresolved,
}

impl Refusal {
    /// What is refused, each once.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// The keys and types that are refused.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.refused.iter().map(|refused| refused.key.as_str())
    }

    /// Whether all of it says something that means nothing, rather than asking for what is not there.
    pub fn is_invalid(&self) -> bool {
        self.refused
            .iter()
            .all(|refused| matches!(refused.reason, Reason::Invalid | Reason::Unresolved))
    }

    /// A stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        "not_enforced"
    }

    /// Whether the same configuration could be accepted later. Only by another version.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the run configuration asks for what would not be enforced: ")?;
        for (at, Refused { key, reason }) in self.refused.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            let reason = match reason {
                Reason::NotBuiltYet => "not built yet",
                Reason::Unknown => "unknown",
                Reason::Invalid => "invalid",
                Reason::Unresolved => "not resolved",
            };
            write!(f, "{separator}{key} ({reason})")?;
        }
        f.write_str("; remove it, or run the workload with a program that enforces it")
    }
}

impl std::error::Error for Refusal {}

/// The first override that says nothing, or gives a tool a name that another one has by then.
pub fn unclear_override(overrides: &BTreeMap<String, ToolOverride>) -> Option<&str> {
    let mut visible = BTreeSet::new();
    let mut all = overrides.iter();
    let unclear = all.find(|(tool, shown)| {
        let name = if shown.name.is_empty() { *tool } else { &shown.name };
        (shown.name.is_empty() && shown.description.is_empty()) || !visible.insert(name.clone())
    });
    unclear.map(|(tool, _)| tool.as_str())
}

/// Whether everything that `config` asks for is there. Otherwise names all that is not.
pub fn check(config: &RunConfig) -> Result<(), Refusal> {
    check_with(config, |_| false)
}

/// As [`check`], for a program that makes middleware of further types, or other ones of those that are known: the types
/// that `makes` says it does are there, whatever their parameters are.
pub fn check_with(config: &RunConfig, makes: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    let mut refused = Vec::new();
    let mut refuse = |key: &str, reason| {
        let item = Refused {
            key: key.chars().take(40).flat_map(char::escape_debug).collect(),
            reason,
        };
        if !refused.contains(&item) {
            refused.push(item);
        }
    };
    for field in Field::ALL.iter().copied() {
        if is_asked_for(config, field) && Feature::Field(field).enforcement() == Enforcement::NotBuiltYet {
            refuse(field.key(), Reason::NotBuiltYet);
        }
    }
    if config.session_ttl().is_err() {
        refuse(Field::SessionTtl.key(), Reason::Invalid);
    }
    if config.stateless && config.transport != TransportType::StreamableHttp {
        refuse(Field::Stateless.key(), Reason::Invalid);
    }
    if !config.endpoint_prefix.is_empty()
        && (!config.endpoint_prefix.starts_with('/') || config.endpoint_prefix.starts_with("//"))
    {
        refuse(Field::EndpointPrefix.key(), Reason::Invalid);
    }
    if unclear_override(&config.tools_override).is_some() {
        refuse(Field::ToolsOverride.key(), Reason::Invalid);
    }
    if config.has_unresolved_profile() {
        refuse("permission_profile_name_or_path", Reason::Unresolved);
    }
    // Keys of ours exist to be kept: what this version does not know is a promise that it cannot keep.
    if let Some(IsolationIntent::Unknown(_)) = config.thv.isolation {
        refuse("thv.isolation", Reason::Unknown);
    }
    for key in config.thv.extra.keys() {
        refuse(&format!("thv.{key}"), Reason::Unknown);
    }
    for key in config.thv.proxy.extra.keys() {
        refuse(&format!("thv.proxy.{key}"), Reason::Unknown);
    }
    for key in config.thv.limits.extra.keys() {
        refuse(&format!("thv.limits.{key}"), Reason::Unknown);
    }
    if let Some(key) = config.thv.limits.invalid_key() {
        refuse(&format!("thv.limits.{key}"), Reason::Invalid);
    }
    for middleware in config
        .middleware_configs
        .iter()
        .chain(&config.additional_middleware_configs)
        .filter(|middleware| !makes(&middleware.kind))
    {
        if let Some(reason) = judge(config, middleware) {
            refuse(&middleware.kind, reason);
        }
    }
    if refused.is_empty() {
        Ok(())
    } else {
        Err(Refusal { refused })
    }
}

/// Why a middleware is refused, if it is.
fn judge(config: &RunConfig, middleware: &MiddlewareConfig) -> Option<Reason> {
    let Ok(kind) = middleware.kind.parse::<MiddlewareType>() else {
        return Some(Reason::Unknown);
    };
    let honoured = match Feature::Middleware(kind).enforcement() {
        Enforcement::Enforced => is_implied(kind, &middleware.parameters, config),
        Enforcement::NoEffectOnSafety => true,
        Enforcement::NotBuiltYet => is_without_effect(kind, &middleware.parameters),
    };
    (!honoured).then_some(Reason::NotBuiltYet)
}

/// Whether a configuration says anything with `field`.
fn is_asked_for(config: &RunConfig, field: Field) -> bool {
    match field {
        Field::RemoteAuth => config
            .remote_auth_config
            .as_ref()
            .is_some_and(|auth| !auth.is_without_effect()),
        Field::TargetHost => {
            let here = ["", "127.0.0.1", "localhost"];
            !config.is_remote()
                && !here
                    .iter()
                    .any(|host| config.target_host.eq_ignore_ascii_case(host))
        }
        Field::AllowedOrigins => !config.allowed_origins.is_empty(),
        Field::Oidc => config.oidc_config.is_some(),
        Field::TokenExchange => config.token_exchange_config.is_some(),
        Field::UpstreamSwap => config.upstream_swap_config.is_some(),
        Field::AwsSts => config.aws_sts_config.is_some(),
        Field::Authz => !config.authz_config.is_null(),
        Field::AuthzPath => !config.authz_config_path.is_empty(),
        Field::Audit => config.audit_config.is_some(),
        Field::AuditPath => !config.audit_config_path.is_empty(),
        Field::Telemetry => config
            .telemetry_config
            .as_ref()
            .is_some_and(crate::TelemetryConfig::has_exporter),
        Field::RateLimit => config.rate_limit_config.is_some(),
        Field::Secrets => !config.secrets.is_empty(),
        Field::PodTemplatePatch => !config.k8s_pod_template_patch.is_empty(),
        Field::AllowDockerGateway => config.allow_docker_gateway,
        Field::TrustProxyHeaders => config.trust_proxy_headers,
        Field::StrictProtocolValidation => config.strict_protocol_validation,
        Field::Stateless => config.stateless,
        Field::SessionTtl => !config.session_ttl.is_empty(),
        Field::ToolsFilter => !config.tools_filter.is_empty(),
        Field::ToolsOverride => !config.tools_override.is_empty(),
        Field::PrintOverlays => config
            .ignore_config
            .as_ref()
            .is_some_and(|ignore| ignore.print_overlays),
        Field::ValidatingWebhooks => !config.validating_webhooks.is_empty(),
        Field::MutatingWebhooks => !config.mutating_webhooks.is_empty(),
        Field::EndpointPrefix => !config.endpoint_prefix.is_empty(),
        Field::RuntimeConfig => config.runtime_config.is_some(),
        // There is no request that could carry them.
        Field::StreamHeaders => {
            !config.is_remote()
                && config.transport == TransportType::Stdio
                && is_asked_for(config, Field::PlaintextHeaders)
        }
        Field::PlaintextHeaders => config
            .header_forward
            .as_ref()
            .is_some_and(|headers| !headers.add_plaintext_headers.is_empty()),
        Field::SecretHeaders => config
            .header_forward
            .as_ref()
            .is_some_and(|headers| !headers.add_headers_from_secret.is_empty()),
        Field::EmbeddedAuthServer => !config.embedded_auth_server_config.is_null(),
        Field::Scaling => config
            .scaling_config
            .as_ref()
            .is_some_and(|scaling| !scaling.is_default()),
    }
}
