//! What stands between client and server: middleware, tools, headers, limits, webhooks, scaling.

use std::collections::BTreeMap;

use crate::gojson::{GoDuration, Json};
use crate::record::{Field, FieldError, go_struct, go_struct_field};

go_struct! {
    /// One middleware of the proxy, by its type string.
    pub struct MiddlewareConfig {
        /// The type string, `auth` for example.
        kind: String = "type" [always];
        /// Its parameters, kept as they are; `null` when it has none.
        parameters: Json = "parameters" [always secret];
    }
}

go_struct! {
    /// What a tool is called towards clients.
    pub struct ToolOverride {
        /// The name that clients see.
        name: String = "name";
        /// The description that clients see.
        description: String = "description";
    }
}

go_struct! {
    /// `header_forward`: headers that the proxy adds to requests to a remote server.
    pub struct HeaderForwardConfig {
        /// Headers with their values.
        add_plaintext_headers: BTreeMap<String, String> = "add_plaintext_headers" [secret];
        /// Headers with the names of the secrets that hold their values.
        add_headers_from_secret: BTreeMap<String, String> = "add_headers_from_secret";
    }
}

go_struct! {
    /// `ignore_config`: which ignore files hide paths inside mounts. Both keys are always written.
    pub struct IgnoreConfig {
        /// Whether the user's global ignore file counts.
        load_global: bool = "LoadGlobal" [always];
        /// Whether the hidden paths are printed.
        print_overlays: bool = "PrintOverlays" [always];
    }
}

go_struct! {
    /// `rate_limit_config`: how often tools may be called.
    pub struct RateLimitConfig {
        /// One bucket for all callers.
        shared: Option<RateLimitBucket> = "shared";
        /// One bucket for each caller.
        per_user: Option<RateLimitBucket> = "perUser";
        /// Buckets of single tools.
        tools: Vec<ToolRateLimit> = "tools";
    }
}

go_struct! {
    /// A token bucket.
    pub struct RateLimitBucket {
        /// Its size.
        max_tokens: i32 = "maxTokens" [always];
        /// How long an empty one takes to fill, as a Go duration.
        refill_period: String = "refillPeriod" [always];
    }
}

go_struct! {
    /// The buckets of one tool.
    pub struct ToolRateLimit {
        /// The tool's name.
        name: String = "name" [always];
        /// One bucket for all callers.
        shared: Option<RateLimitBucket> = "shared";
        /// One bucket for each caller.
        per_user: Option<RateLimitBucket> = "perUser";
    }
}

go_struct! {
    /// A webhook that sees (and may change or refuse) calls.
    pub struct WebhookConfig {
        /// A name for messages.
        name: String = "name" [always];
        /// Where it is.
        url: String = "url" [always url];
        /// How long it may take.
        timeout: WebhookTimeout = "timeout" [always];
        /// `fail` or `ignore`: what its failure means.
        failure_policy: String = "failure_policy" [always];
        /// How it is reached over TLS.
        tls_config: Option<WebhookTls> = "tls_config";
        /// Secret for signing requests.
        hmac_secret_ref: String = "hmac_secret_ref";
    }
}

go_struct! {
    /// TLS settings of a webhook.
    pub struct WebhookTls {
        /// File with certificate authorities.
        ca_bundle_path: String = "ca_bundle_path";
        /// File with the client's certificate.
        client_cert_path: String = "client_cert_path";
        /// File with the client's key.
        client_key_path: String = "client_key_path";
        /// Whether the server's certificate is not checked.
        insecure_skip_verify: bool = "insecure_skip_verify";
    }
}

go_struct! {
    /// `scaling_config`: replicas in a cluster and the session store that they share.
    pub struct ScalingConfig {
        /// How many backends; absent leaves it to the cluster.
        backend_replicas: Option<i32> = "backend_replicas";
        /// The session store.
        session_redis: Option<SessionRedis> = "session_redis";
    }
}

go_struct! {
    /// A Redis that holds sessions. Its password comes from the environment.
    pub struct SessionRedis {
        /// Host and port.
        address: String = "address";
        /// Database number.
        db: i32 = "db";
        /// Prefix of its keys.
        key_prefix: String = "key_prefix";
    }
}

go_struct! {
    /// `runtime_config`: how images of the schemes `uvx://`, `npx://` and `go://` are built.
    pub struct RuntimeConfig {
        /// Image that the build starts from.
        builder_image: String = "builder_image" [always];
        /// Packages of the distribution to add.
        additional_packages: Vec<String> = "additional_packages";
        /// What else to install (`uvx://` only), as it was found.
        build_with: Json = "build_with";
        /// Environment of the built image, as it was found.
        runtime_env: Json = "runtime_env" [secret];
    }
}

go_struct_field!(
    MiddlewareConfig,
    ToolOverride,
    HeaderForwardConfig,
    IgnoreConfig,
    RateLimitConfig,
    RateLimitBucket,
    ToolRateLimit,
    WebhookConfig,
    WebhookTls,
    ScalingConfig,
    SessionRedis,
    RuntimeConfig,
);

/// How long a webhook may take: nanoseconds in the file, where a Go duration as text is read too. By default 10 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookTimeout(pub GoDuration);

impl Default for WebhookTimeout {
    fn default() -> Self {
        Self(GoDuration::from_secs(10))
    }
}

impl Field for WebhookTimeout {
    fn read(json: Json) -> Result<Self, FieldError> {
        match &json {
            Json::String(text) => text
                .parse()
                .map(Self)
                .map_err(|error: crate::gojson::ParseDurationError| FieldError::new(error.to_string())),
            _ => GoDuration::read(json).map(Self),
        }
    }

    fn write(&self) -> Json {
        self.0.write()
    }

    fn is_empty(&self) -> bool {
        false
    }
}
