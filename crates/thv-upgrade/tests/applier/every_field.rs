//! What an upgrade keeps: everything. The literals have no `..`, so that a field that is added does not compile here before
//! somebody thought of what an upgrade does with it.

use thv_core::*;
use thv_registry::Source;
use thv_upgrade::ApplyOptions;

use crate::support::{applier, name, script};

fn extra() -> ExtraKeys {
    ExtraKeys(vec![("unknown".into(), Json::Bool(true))])
}

#[expect(clippy::too_many_lines, reason = "one literal, on purpose")]
fn everything() -> RunConfig {
    RunConfig {
        schema_version: "schema_version".into(),
        mcpserver_generation: 3,
        image: "a.example/work:1".into(),
        remote_url: "remote_url".into(),
        registry_api_url: "registry_api_url".into(),
        registry_url: "registry_url".into(),
        registry_server_name: "a/work".into(),
        remote_auth_config: Some(RemoteAuthConfig {
            client_id: "client_id".into(),
            client_secret: "client_secret".into(),
            client_secret_file: "client_secret_file".into(),
            scopes: vec!["scopes".into()],
            skip_browser: true,
            timeout: "30s".parse().unwrap(),
            callback_port: 18,
            use_pkce: true,
            resource: "resource".into(),
            issuer: "issuer".into(),
            authorize_url: "authorize_url".into(),
            token_url: "token_url".into(),
            headers: vec![HeaderSpec {
                name: "name".into(),
                description: "description".into(),
                required: true,
                default: "default".into(),
                secret: true,
                choices: vec!["choices".into()],
                extra: extra(),
            }],
            env_vars: vec![EnvVarSpec {
                name: "name".into(),
                description: "description".into(),
                required: true,
                default: "default".into(),
                secret: true,
                extra: extra(),
            }],
            oauth_params: [("oauth_params".to_owned(), "oauth_params".into())].into(),
            scope_param_name: "scope_param_name".into(),
            bearer_token: "bearer_token".into(),
            bearer_token_file: "bearer_token_file".into(),
            cached_refresh_token_ref: "cached_refresh_token_ref".into(),
            cached_token_expiry: "2026-08-21T10:12:13Z".parse().unwrap(),
            cached_client_id: "cached_client_id".into(),
            cached_client_secret_ref: "cached_client_secret_ref".into(),
            cached_secret_expiry: "2026-08-21T10:12:13Z".parse().unwrap(),
            cached_reg_token_ref: "cached_reg_token_ref".into(),
            cached_cimd_client_id: "cached_cimd_client_id".into(),
            cached_reg_client_uri: "cached_reg_client_uri".into(),
            cached_token_auth_method: "cached_token_auth_method".into(),
            cached_dcr_callback_port: 54,
            extra: extra(),
        }),
        cmd_args: vec!["cmd_args".into()],
        name: "name".into(),
        container_name: "container_name".into(),
        base_name: "base_name".into(),
        transport: TransportType::StreamableHttp,
        host: "host".into(),
        port: 62,
        target_port: 63,
        target_host: "target_host".into(),
        allowed_origins: vec!["allowed_origins".into()],
        publish: vec!["publish".into()],
        permission_profile_name_or_path: "permission_profile_name_or_path".into(),
        permission_profile: Some(PermissionProfile {
            name: "name".into(),
            read: vec!["read".into()],
            write: vec!["write".into()],
            network: Some(NetworkPermissions {
                mode: "mode".into(),
                outbound: Some(OutboundPermissions {
                    insecure_allow_all: true,
                    allow_host: vec!["allow_host".into()],
                    allow_port: vec![86],
                    extra: extra(),
                }),
                inbound: Some(InboundPermissions {
                    allow_host: vec!["allow_host".into()],
                    extra: extra(),
                }),
                extra: extra(),
            }),
            privileged: true,
            extra: extra(),
        }),
        env_vars: [("env_vars".to_owned(), "env_vars".into())].into(),
        env_file_dir: "env_file_dir".into(),
        debug: true,
        volumes: vec!["volumes".into()],
        container_labels: [("container_labels".to_owned(), "container_labels".into())].into(),
        oidc_config: Some(OidcConfig {
            issuer: "issuer".into(),
            audience: "audience".into(),
            jwks_url: "jwks_url".into(),
            client_id: "client_id".into(),
            client_secret: "client_secret".into(),
            ca_cert_path: "ca_cert_path".into(),
            auth_token_file: "auth_token_file".into(),
            allow_private_ip: true,
            insecure_allow_http: true,
            introspection_url: "introspection_url".into(),
            resource_url: "resource_url".into(),
            scopes: Some(vec!["scopes".into()]),
            extra: extra(),
        }),
        token_exchange_config: Some(TokenExchangeConfig {
            token_url: "token_url".into(),
            client_id: "client_id".into(),
            client_secret: "client_secret".into(),
            audience: "audience".into(),
            scopes: vec!["scopes".into()],
            subject_token_type: "subject_token_type".into(),
            header_strategy: "header_strategy".into(),
            external_token_header_name: "external_token_header_name".into(),
            extra: extra(),
        }),
        upstream_swap_config: Some(UpstreamSwapConfig {
            header_strategy: "header_strategy".into(),
            custom_header_name: "custom_header_name".into(),
            provider_name: "provider_name".into(),
            extra: extra(),
        }),
        aws_sts_config: Some(AwsStsConfig {
            region: "region".into(),
            service: "service".into(),
            fallback_role_arn: "fallback_role_arn".into(),
            role_mappings: vec![RoleMapping {
                claim: "claim".into(),
                matcher: "matcher".into(),
                role_arn: "role_arn".into(),
                priority: Some(143),
                extra: extra(),
            }],
            role_claim: "role_claim".into(),
            session_duration: 145,
            session_name_claim: "session_name_claim".into(),
            subject_provider_name: "subject_provider_name".into(),
            extra: extra(),
        }),
        authz_config: Json::from("authz_config"),
        authz_config_path: "authz_config_path".into(),
        audit_config: Some(AuditConfig {
            enabled: true,
            component: "component".into(),
            event_types: vec!["event_types".into()],
            exclude_event_types: vec!["exclude_event_types".into()],
            include_request_data: true,
            include_response_data: true,
            detect_application_errors: Some(true),
            max_data_size: 162,
            max_delegation_depth: Some(164),
            log_file: "log_file".into(),
            extra: extra(),
        }),
        audit_config_path: "audit_config_path".into(),
        telemetry_config: Some(TelemetryConfig {
            endpoint: "endpoint".into(),
            service_name: "service_name".into(),
            service_version: "service_version".into(),
            tracing_enabled: true,
            metrics_enabled: true,
            sampling_rate: "sampling_rate".into(),
            headers: [("headers".to_owned(), "headers".into())].into(),
            insecure: true,
            enable_prometheus_metrics_path: true,
            prometheus_port: 179,
            metrics_on_transport_port: Some(true),
            environment_variables: vec!["environment_variables".into()],
            custom_attributes: [("custom_attributes".to_owned(), "custom_attributes".into())].into(),
            use_legacy_attributes: true,
            ca_cert_path: "ca_cert_path".into(),
            extra: extra(),
        }),
        rate_limit_config: Some(RateLimitConfig {
            shared: Some(RateLimitBucket {
                max_tokens: 192,
                refill_period: "refill_period".into(),
                extra: extra(),
            }),
            per_user: Some(RateLimitBucket {
                max_tokens: 196,
                refill_period: "refill_period".into(),
                extra: extra(),
            }),
            tools: vec![ToolRateLimit {
                name: "name".into(),
                shared: Some(RateLimitBucket {
                    max_tokens: 203,
                    refill_period: "refill_period".into(),
                    extra: extra(),
                }),
                per_user: Some(RateLimitBucket {
                    max_tokens: 207,
                    refill_period: "refill_period".into(),
                    extra: extra(),
                }),
                extra: extra(),
            }],
            extra: extra(),
        }),
        rate_limit_namespace: "rate_limit_namespace".into(),
        secrets: vec!["token,target=TOKEN".into()],
        k8s_pod_template_patch: "k8s_pod_template_patch".into(),
        isolate_network: true,
        allow_docker_gateway: true,
        trust_proxy_headers: true,
        strict_protocol_validation: true,
        stateless: true,
        session_ttl: "session_ttl".into(),
        proxy_mode: Some(ProxyMode::StreamableHttp),
        thv_ca_bundle: "thv_ca_bundle".into(),
        jwks_auth_token_file: "jwks_auth_token_file".into(),
        group: "group".into(),
        tools_filter: vec!["tools_filter".into()],
        tools_override: [(
            "tools_override".to_owned(),
            ToolOverride {
                name: "name".into(),
                description: "description".into(),
                extra: extra(),
            },
        )]
        .into(),
        ignore_config: Some(IgnoreConfig {
            load_global: true,
            print_overlays: true,
            extra: extra(),
        }),
        middleware_configs: vec![MiddlewareConfig {
            kind: "kind".into(),
            parameters: Json::from("parameters"),
            extra: extra(),
        }],
        additional_middleware_configs: vec![MiddlewareConfig {
            kind: "kind".into(),
            parameters: Json::from("parameters"),
            extra: extra(),
        }],
        validating_webhooks: vec![WebhookConfig {
            name: "name".into(),
            url: "url".into(),
            timeout: WebhookTimeout::default(),
            failure_policy: "failure_policy".into(),
            tls_config: Some(WebhookTls {
                ca_bundle_path: "ca_bundle_path".into(),
                client_cert_path: "client_cert_path".into(),
                client_key_path: "client_key_path".into(),
                insecure_skip_verify: true,
                extra: extra(),
            }),
            hmac_secret_ref: "hmac_secret_ref".into(),
            extra: extra(),
        }],
        mutating_webhooks: vec![WebhookConfig {
            name: "name".into(),
            url: "url".into(),
            timeout: WebhookTimeout::default(),
            failure_policy: "failure_policy".into(),
            tls_config: Some(WebhookTls {
                ca_bundle_path: "ca_bundle_path".into(),
                client_cert_path: "client_cert_path".into(),
                client_key_path: "client_key_path".into(),
                insecure_skip_verify: true,
                extra: extra(),
            }),
            hmac_secret_ref: "hmac_secret_ref".into(),
            extra: extra(),
        }],
        endpoint_prefix: "endpoint_prefix".into(),
        runtime_config: Some(RuntimeConfig {
            builder_image: "builder_image".into(),
            additional_packages: vec!["additional_packages".into()],
            build_with: Json::from("build_with"),
            runtime_env: Json::from("runtime_env"),
            extra: extra(),
        }),
        header_forward: Some(HeaderForwardConfig {
            add_plaintext_headers: [("add_plaintext_headers".to_owned(), "add_plaintext_headers".into())]
                .into(),
            add_headers_from_secret: [(
                "add_headers_from_secret".to_owned(),
                "add_headers_from_secret".into(),
            )]
            .into(),
            extra: extra(),
        }),
        embedded_auth_server_config: Json::from("embedded_auth_server_config"),
        scaling_config: Some(ScalingConfig {
            backend_replicas: Some(286),
            session_redis: Some(SessionRedis {
                address: "address".into(),
                db: 290,
                key_prefix: "key_prefix".into(),
                extra: extra(),
            }),
            extra: extra(),
        }),
        thv: ThvSection {
            isolation: Some(IsolationIntent::Required),
            proxy: ProxySection {
                max_body_bytes: 296,
                max_line_bytes: 297,
                allowed_hosts: vec!["allowed_hosts".into()],
                extra: extra(),
            },
            limits: LimitsSection {
                memory: 1 << 30,
                cpus: "0.5".into(),
                pids: 64,
                extra: extra(),
            },
            read_only: true,
            extra: extra(),
        },
        extra: extra(),
    }
}

#[tokio::test]
async fn only_image_environment_secrets_and_registry_urls_change() {
    let old = everything();
    let (script, _steps) = script(|script| script.config = everything());
    let mut options = ApplyOptions::default();
    options.additions.env.insert("NEW".into(), "new".into());
    options.additions.secrets.push("new,target=NEW_TOKEN".into());
    applier(&script).apply(&name(), options).await.unwrap();

    let (new, _) = script.updates.lock().unwrap().pop().unwrap();
    assert_eq!(new.image, "a.example/work:2");
    let source = Source::Url("https://registry.example/r.json".into());
    assert_eq!(
        (new.registry_url.as_str(), new.registry_api_url.as_str()),
        (source.registry_url(), "")
    );
    assert_eq!(new.env_vars.len(), old.env_vars.len() + 1);
    assert_eq!(
        new.secrets,
        [old.secrets.clone(), vec!["new,target=NEW_TOKEN".into()]].concat()
    );
    let rest = RunConfig {
        image: old.image.clone(),
        registry_url: old.registry_url.clone(),
        registry_api_url: old.registry_api_url.clone(),
        env_vars: old.env_vars.clone(),
        secrets: old.secrets.clone(),
        ..new
    };
    assert_eq!(rest, old);
}

#[test]
fn nothing_is_left_at_its_default() {
    let text = everything().to_json();
    let keys = Json::parse(text.as_bytes()).unwrap();
    // Every field, and the unknown key.
    assert_eq!(keys.as_object().map(<[_]>::len), Some(63), "{text}");
}
