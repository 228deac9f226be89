//! The table.

use std::fmt;
use std::str::FromStr;

/// What becomes of a feature that a configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Enforcement {
    /// It does what it promises.
    Enforced,
    /// It is not there, and nobody is less safe without it.
    NoEffectOnSafety,
    /// It changes who may do what, or what is recorded, and is not there: refused.
    NotBuiltYet,
}

/// Something that a configuration can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// A middleware in the list.
    Middleware(MiddlewareType),
    /// A field with an effect of its own.
    Field(Field),
}

impl Feature {
    /// The enforcement table. What is said of a middleware holds where it has an effect at all
    /// ([`is_without_effect`](super::is_without_effect)), and of an enforced one where its parameters say what the
    /// configuration says besides ([`is_implied`](super::is_implied)).
    pub fn enforcement(self) -> Enforcement {
        use Enforcement::{Enforced, NoEffectOnSafety, NotBuiltYet};
        use Field as F;
        use MiddlewareType as M;
        match self {
            Self::Middleware(
                M::BodyLimit | M::Origin | M::HeaderForward | M::ToolFilter | M::ToolCallFilter,
            )
            | Self::Field(
                F::AllowedOrigins
                | F::PlaintextHeaders
                | F::Secrets
                | F::SessionTtl
                | F::TrustProxyHeaders
                | F::StrictProtocolValidation
                | F::Stateless
                | F::EndpointPrefix
                | F::ToolsFilter
                | F::ToolsOverride,
            ) => Enforced,

            Self::Middleware(M::McpParser | M::UsageMetrics | M::Recovery)
            | Self::Field(F::RuntimeConfig | F::AllowDockerGateway | F::PrintOverlays) => NoEffectOnSafety,

            Self::Middleware(
                M::Audit
                | M::Auth
                | M::UpstreamSwap
                | M::StripAuth
                | M::TokenExchange
                | M::Telemetry
                | M::RateLimit
                | M::MutatingWebhook
                | M::ValidatingWebhook
                | M::Authorization
                | M::AwsSts
                | M::Obo,
            )
            | Self::Field(
                F::RemoteAuth
                | F::Oidc
                | F::TokenExchange
                | F::UpstreamSwap
                | F::AwsSts
                | F::Authz
                | F::AuthzPath
                | F::Audit
                | F::AuditPath
                | F::Telemetry
                | F::RateLimit
                | F::PodTemplatePatch
                | F::ValidatingWebhooks
                | F::MutatingWebhooks
                | F::StreamHeaders
                | F::SecretHeaders
                | F::EmbeddedAuthServer
                | F::Scaling
                | F::TargetHost,
            ) => NotBuiltYet,
        }
    }

    /// What it is called in a configuration: the key of a field, the type string of a middleware.
    pub fn key(self) -> &'static str {
        match self {
            Self::Middleware(middleware) => middleware.as_str(),
            Self::Field(field) => field.key(),
        }
    }
}

/// Defines an enum whose variants have a spelling each.
macro_rules! spelled {
    ($(#[$meta:meta])* $name:ident, $spelling:ident { $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name { $( $(#[$variant_meta])* $variant, )* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The spelling in a run configuration.
            pub fn $spelling(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.$spelling())
            }
        }
    };
}

spelled! {
    /// The middleware types that ToolHive knows.
    MiddlewareType, as_str {
        /// Limits the size of request bodies.
        BodyLimit = "bodylimit",
        /// Writes the audit log.
        Audit = "audit",
        /// Authenticates clients.
        Auth = "auth",
        /// Replaces the caller's token by one of an upstream provider.
        UpstreamSwap = "upstreamswap",
        /// Removes the caller's credentials.
        StripAuth = "strip-auth",
        /// Exchanges the caller's token.
        TokenExchange = "tokenexchange",
        /// Filters lists of tools.
        ToolFilter = "tool-filter",
        /// Filters calls of tools.
        ToolCallFilter = "tool-call-filter",
        /// Parses requests for those behind it.
        McpParser = "mcp-parser",
        /// Traces and metrics.
        Telemetry = "telemetry",
        /// Limits rates.
        RateLimit = "ratelimit",
        /// Webhooks that may change calls.
        MutatingWebhook = "mutating-webhook",
        /// Webhooks that may refuse calls.
        ValidatingWebhook = "validating-webhook",
        /// ToolHive's anonymous usage counts.
        UsageMetrics = "usagemetrics",
        /// Decides who may do what.
        Authorization = "authorization",
        /// AWS credentials.
        AwsSts = "awssts",
        /// Adds headers.
        HeaderForward = "header-forward",
        /// Acts on behalf of the caller.
        Obo = "obo",
        /// Checks the origin of requests.
        Origin = "origin",
        /// Turns a panic into an answer.
        Recovery = "recovery",
    }
}

impl FromStr for MiddlewareType {
    type Err = UnknownMiddleware;
    fn from_str(text: &str) -> Result<Self, UnknownMiddleware> {
        Self::ALL
            .iter()
            .copied()
            .find(|known| known.as_str() == text)
            .ok_or(UnknownMiddleware)
    }
}

/// A text that names no middleware type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown middleware type")]
pub struct UnknownMiddleware;

spelled! {
    /// The fields that promise something by themselves, beside the list of middleware.
    Field, key {
        /// Login at a remote server.
        RemoteAuth = "remote_auth_config",
        /// Another host of the server than this one; of a remote server it says nothing new.
        TargetHost = "target_host",
        /// Accepted origins.
        AllowedOrigins = "allowed_origins",
        /// Authentication of clients.
        Oidc = "oidc_config",
        /// Exchange of the caller's token.
        TokenExchange = "token_exchange_config",
        /// Replacement of the caller's token.
        UpstreamSwap = "upstream_swap_config",
        /// AWS credentials.
        AwsSts = "aws_sts_config",
        /// Authorization.
        Authz = "authz_config",
        /// Authorization, in a file.
        AuthzPath = "authz_config_path",
        /// Audit log.
        Audit = "audit_config",
        /// Audit log, in a file.
        AuditPath = "audit_config_path",
        /// Traces and metrics that go somewhere.
        Telemetry = "telemetry_config",
        /// Rate limits.
        RateLimit = "rate_limit_config",
        /// Secrets in the server's environment.
        Secrets = "secrets",
        /// Patch of a pod.
        PodTemplatePatch = "k8s_pod_template_patch",
        /// A way out of isolation: without it a server reaches less.
        AllowDockerGateway = "allow_docker_gateway",
        /// Belief in forwarded headers.
        TrustProxyHeaders = "trust_proxy_headers",
        /// Refusal of unknown protocol versions.
        StrictProtocolValidation = "strict_protocol_validation",
        /// No sessions.
        Stateless = "stateless",
        /// Life of a session.
        SessionTtl = "session_ttl",
        /// Filter of tools.
        ToolsFilter = "tools_filter",
        /// Other names of tools.
        ToolsOverride = "tools_override",
        /// Printing what ignore files hide.
        PrintOverlays = "ignore_config.PrintOverlays",
        /// Webhooks that may refuse calls.
        ValidatingWebhooks = "validating_webhooks",
        /// Webhooks that may change calls.
        MutatingWebhooks = "mutating_webhooks",
        /// Prefix of endpoints.
        EndpointPrefix = "endpoint_prefix",
        /// How an image was built; of no effect once it is.
        RuntimeConfig = "runtime_config",
        /// Headers for a server that speaks over its standard streams.
        StreamHeaders = "header_forward",
        /// Headers with values.
        PlaintextHeaders = "header_forward.add_plaintext_headers",
        /// Headers from secrets.
        SecretHeaders = "header_forward.add_headers_from_secret",
        /// Embedded authorization server.
        EmbeddedAuthServer = "embedded_auth_server_config",
        /// Replicas and their session store.
        Scaling = "scaling_config",
    }
}
