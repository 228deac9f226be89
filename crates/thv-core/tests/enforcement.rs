//! Which configurations start, and which are refused, by name.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail loudly")]

use thv_core::RunConfig;
use thv_core::enforcement::{self, Enforcement, Feature, Field, MiddlewareType, Reason};

fn refused(text: &str) -> Vec<String> {
    let config = RunConfig::from_json(text.as_bytes()).unwrap();
    match enforcement::check(&config) {
        Ok(()) => Vec::new(),
        Err(refusal) => refusal.keys().map(str::to_owned).collect(),
    }
}

#[test]
fn an_ordinary_container_starts() {
    assert!(refused(include_str!("data/stdio-container.json")).is_empty());
}

#[test]
fn audit_and_tool_filters_are_refused_by_name() {
    assert_eq!(
        refused(include_str!("data/http-container.json")),
        [
            "audit_config",
            "tools_filter",
            "tools_override",
            "audit",
            "tool-filter",
            "tool-call-filter"
        ]
    );
}

#[test]
fn remote_authentication_and_secret_headers_are_refused_by_name() {
    let config = RunConfig::from_json(include_bytes!("data/remote-oauth.json")).unwrap();
    let refusal = enforcement::check(&config).unwrap_err();
    assert_eq!(
        refusal.keys().collect::<Vec<_>>(),
        ["remote_auth_config", "header_forward.add_headers_from_secret"]
    );
    assert_eq!(
        refusal.to_string(),
        "the run configuration asks for what would not be enforced: remote_auth_config (not built yet), \
         header_forward.add_headers_from_secret (not built yet); remove it, or run the workload with a program that \
         enforces it"
    );
}

#[test]
fn what_has_no_effect_does_not_stand_in_the_way() {
    for text in [
        r#"{"remote_auth_config": {"callback_port": 8666}}"#,
        r#"{"middleware_configs": [{"type": "auth", "parameters": {"oidc_config": null}}]}"#,
        r#"{"middleware_configs": [{"type": "auth"}]}"#,
        r#"{"middleware_configs": [{"type": "telemetry", "parameters": {"config": {"tracingEnabled": true}}}]}"#,
        r#"{"telemetry_config": {"tracingEnabled": false}}"#,
        r#"{"stateless": false, "endpoint_prefix": "", "scaling_config": {}}"#,
        r#"{"session_ttl": "1h", "allowed_origins": ["http://localhost"], "secrets": ["a,target=B"]}"#,
        r#"{"header_forward": {"add_plaintext_headers": {"X-Team": "platform"}}}"#,
        r#"{"middleware_configs": [{"type": "bodylimit", "parameters": {"max_bytes": 8388608}}, {"type": "bodylimit"},
            {"type": "origin"}, {"type": "header-forward"}, {"type": "recovery"}]}"#,
    ] {
        assert!(refused(text).is_empty(), "{text}: {:?}", refused(text));
    }
}

#[test]
fn what_protects_and_is_not_there_is_refused() {
    for (text, key) in [
        (
            r#"{"remote_auth_config": {"callback_port": 9000}}"#,
            "remote_auth_config",
        ),
        (r#"{"remote_auth_config": {"new_key": 1}}"#, "remote_auth_config"),
        (
            r#"{"middleware_configs": [{"type": "auth", "parameters": {"oidc_config": {}}}]}"#,
            "auth",
        ),
        // Go does not care about the case of a key, so neither may we.
        (
            r#"{"middleware_configs": [{"type": "auth", "parameters": {"OIDC_Config": {"Issuer": "i"}}}]}"#,
            "auth",
        ),
        (
            r#"{"middleware_configs": [{"type": "auth", "parameters": {"oidc_config": {}, "oidc_config": null}}]}"#,
            "auth",
        ),
        (
            r#"{"middleware_configs": [{"type": "auth", "parameters": "what"}]}"#,
            "auth",
        ),
        (
            r#"{"middleware_configs": [{"type": "telemetry", "parameters": {"config": {"endpoint": "e"}}}]}"#,
            "telemetry",
        ),
        (
            r#"{"telemetry_config": {"enablePrometheusMetricsPath": true}}"#,
            "telemetry_config",
        ),
        (
            r#"{"additional_middleware_configs": [{"type": "authorization"}]}"#,
            "authorization",
        ),
        (r#"{"middleware_configs": [{"type": "brand-new"}]}"#, "brand-new"),
        (r#"{"middleware_configs": [{"type": "Auth"}]}"#, "Auth"),
        (r#"{"middleware_configs": [{}]}"#, ""),
        (r#"{"oidc_config": {}}"#, "oidc_config"),
        (r#"{"authz_config": {}}"#, "authz_config"),
        (r#"{"trust_proxy_headers": true}"#, "trust_proxy_headers"),
        (
            r#"{"strict_protocol_validation": true}"#,
            "strict_protocol_validation",
        ),
        (r#"{"stateless": true}"#, "stateless"),
        (r#"{"endpoint_prefix": "/x"}"#, "endpoint_prefix"),
        (r#"{"session_ttl": "soon"}"#, "session_ttl"),
        (r#"{"session_ttl": "-1s"}"#, "session_ttl"),
        (r#"{"thv": {"memory": "64MiB"}}"#, "thv.memory"),
        (
            r#"{"thv": {"proxy": {"max_body_bytes": 1, "speed": 9}}}"#,
            "thv.proxy.speed",
        ),
        (r#"{"scaling_config": {"backend_replicas": 2}}"#, "scaling_config"),
        (
            r#"{"embedded_auth_server_config": {"issuer": "i"}}"#,
            "embedded_auth_server_config",
        ),
    ] {
        assert_eq!(refused(text), [key], "{text}");
    }
}

#[test]
fn hostile_type_strings_are_shown_escaped_and_cut() {
    let text = format!(
        r#"{{"middleware_configs": [{{"type": "\u001b[2J{}"}}]}}"#,
        "x".repeat(1000)
    );
    let config = RunConfig::from_json(text.as_bytes()).unwrap();
    let refusal = enforcement::check(&config).unwrap_err();
    assert_eq!(refusal.refused()[0].reason, Reason::Unknown);
    assert!(!refusal.to_string().contains('\u{1b}') && refusal.to_string().len() < 300);
}

#[test]
fn the_table_names_everything_once() {
    let features = MiddlewareType::ALL
        .iter()
        .map(|kind| Feature::Middleware(*kind))
        .chain(Field::ALL.iter().map(|field| Feature::Field(*field)));
    let keys: Vec<_> = features.clone().map(Feature::key).collect();
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
    for kind in MiddlewareType::ALL {
        assert_eq!(kind.as_str().parse(), Ok(*kind));
    }
    assert!(
        features
            .clone()
            .any(|feature| feature.enforcement() == Enforcement::Enforced)
    );
}
