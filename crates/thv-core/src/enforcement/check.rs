//! The check.

use std::fmt;

use super::feature::{Enforcement, Feature, Field, MiddlewareType};
use crate::RunConfig;
use crate::gojson::Json;
use crate::record::same_key;

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
            };
            write!(f, "{separator}{key} ({reason})")?;
        }
        f.write_str("; remove it, or run the workload with a program that enforces it")
    }
}

impl std::error::Error for Refusal {}

/// Whether everything that `config` asks for is there. Otherwise names all that is not.
pub fn check(config: &RunConfig) -> Result<(), Refusal> {
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
    // Keys of ours exist to be kept: one that this version does not know is a promise that it cannot keep.
    for key in config.thv.extra.keys() {
        refuse(&format!("thv.{key}"), Reason::Unknown);
    }
    for key in config.thv.proxy.extra.keys() {
        refuse(&format!("thv.proxy.{key}"), Reason::Unknown);
    }
    for middleware in config
        .middleware_configs
        .iter()
        .chain(&config.additional_middleware_configs)
    {
        match middleware.kind.parse::<MiddlewareType>() {
            Err(_) => refuse(&middleware.kind, Reason::Unknown),
            Ok(kind) => {
                let enforcement = Feature::Middleware(kind).enforcement();
                if enforcement == Enforcement::NotBuiltYet && !is_without_effect(kind, &middleware.parameters)
                {
                    refuse(kind.as_str(), Reason::NotBuiltYet);
                }
            }
        }
    }
    if refused.is_empty() {
        Ok(())
    } else {
        Err(Refusal { refused })
    }
}

/// Whether a configuration says anything with `field`.
fn is_asked_for(config: &RunConfig, field: Field) -> bool {
    match field {
        Field::RemoteAuth => config
            .remote_auth_config
            .as_ref()
            .is_some_and(|auth| !auth.is_without_effect()),
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
        Field::TrustProxyHeaders => config.trust_proxy_headers,
        Field::StrictProtocolValidation => config.strict_protocol_validation,
        Field::Stateless => config.stateless,
        Field::SessionTtl => !config.session_ttl.is_empty(),
        Field::ToolsFilter => !config.tools_filter.is_empty(),
        Field::ToolsOverride => !config.tools_override.is_empty(),
        Field::ValidatingWebhooks => !config.validating_webhooks.is_empty(),
        Field::MutatingWebhooks => !config.mutating_webhooks.is_empty(),
        Field::EndpointPrefix => !config.endpoint_prefix.is_empty(),
        Field::RuntimeConfig => config.runtime_config.is_some(),
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

/// Whether a middleware with these parameters changes nothing: `auth` without OIDC, `telemetry` without exporter.
///
/// Parameters that are not understood count as an effect.
pub fn is_without_effect(kind: MiddlewareType, parameters: &Json) -> bool {
    match kind {
        MiddlewareType::Auth => absent(parameters, "oidc_config"),
        MiddlewareType::Telemetry => {
            let Some(config) = values(parameters, "config") else {
                return false;
            };
            config.iter().all(|config| {
                config.is_null()
                    || (absent(config, "endpoint") && absent(config, "enablePrometheusMetricsPath"))
            })
        }
        _ => false,
    }
}

/// Whether an object (or null) lacks `key`, in every spelling that Go would take for it, or has Go's empty value there.
fn absent(json: &Json, key: &str) -> bool {
    values(json, key).is_some_and(|values| {
        values
            .iter()
            .all(|value| value.is_null() || value.as_str() == Some("") || value.as_bool() == Some(false))
    })
}

/// All values of `key` in an object, of null none; nothing if `json` is something else.
fn values<'a>(json: &'a Json, key: &str) -> Option<Vec<&'a Json>> {
    match json {
        Json::Null => Some(Vec::new()),
        Json::Object(pairs) => Some(
            pairs
                .iter()
                .filter(|(found, _)| same_key(found, key))
                .map(|(_, value)| value)
                .collect(),
        ),
        _ => None,
    }
}
