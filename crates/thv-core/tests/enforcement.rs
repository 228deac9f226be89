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
fn an_audit_log_is_refused_by_name() {
    assert_eq!(
        refused(include_str!("data/http-container.json")),
        ["audit_config", "audit"]
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
        r#"{"transport": "streamable-http", "stateless": true, "endpoint_prefix": "/team",
            "trust_proxy_headers": true, "strict_protocol_validation": true}"#,
        r#"{"session_ttl": "1h", "allowed_origins": ["http://localhost"], "secrets": ["a,target=B"]}"#,
        r#"{"transport": "streamable-http", "header_forward": {"add_plaintext_headers": {"X-Team": "platform"}}}"#,
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
        (r#"{"transport": "stdio", "stateless": true}"#, "stateless"),
        (r#"{"transport": "sse", "stateless": true}"#, "stateless"),
        (r#"{"endpoint_prefix": "x"}"#, "endpoint_prefix"),
        (r#"{"tools_override": {"a": {}}}"#, "tools_override"),
        (
            r#"{"tools_override": {"a": {"name": "c"}, "b": {"name": "c"}}}"#,
            "tools_override",
        ),
        (r#"{"endpoint_prefix": "//evil.example"}"#, "endpoint_prefix"),
        (r#"{"session_ttl": "soon"}"#, "session_ttl"),
        (r#"{"session_ttl": "-1s"}"#, "session_ttl"),
        (r#"{"thv": {"memory": "64MiB"}}"#, "thv.memory"),
        (r#"{"thv": {"limits": {"disk": 1}}}"#, "thv.limits.disk"),
        (r#"{"thv": {"limits": {"memory": -1}}}"#, "thv.limits.memory"),
        (r#"{"thv": {"limits": {"cpus": "many"}}}"#, "thv.limits.cpus"),
        (r#"{"thv": {"limits": {"pids": -1}}}"#, "thv.limits.pids"),
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
fn stored_parameters_are_honoured_where_the_configuration_says_the_same() {
    for text in [
        r#"{"middleware_configs": [{"type": "bodylimit", "parameters": {}},
            {"type": "bodylimit", "parameters": {"max_bytes": 8388608}}]}"#,
        r#"{"port": 80, "middleware_configs": [{"type": "origin", "parameters": {"allowed_origins": null}},
            {"type": "origin", "parameters": {"allowed_origins": ["http://localhost:80", "http://127.0.0.1:80", "http://[::1]:80"]}}]}"#,
        r#"{"allowed_origins": ["https://A.example/x"],
            "middleware_configs": [{"type": "origin", "parameters": {"allowed_origins": ["https://a.example"]}}]}"#,
        r#"{"tools_filter": ["a"], "tools_override": {"b": {"name": "a"}},
            "middleware_configs": [{"type": "tool-filter", "parameters": {"filter_tools": ["a"],
                "tools_override": {"b": {"name": "a", "description": ""}}}}]}"#,
        r#"{"transport": "streamable-http", "header_forward": {"add_plaintext_headers": {"X-Team": "a"}},
            "middleware_configs": [{"type": "header-forward", "parameters": {"add_headers": {"x-team": "a"}}},
                {"type": "header-forward", "parameters": {"add_headers": {}}}]}"#,
    ] {
        assert!(refused(text).is_empty(), "{text}: {:?}", refused(text));
    }
}

#[test]
fn stored_parameters_that_nothing_else_says_are_refused_by_name() {
    for (kind, rest, parameters) in [
        ("bodylimit", "", r#"{"max_bytes": 1024}"#),
        ("bodylimit", "", r#"{"MAX_BYTES": 1024, "max_bytes": 8388608}"#),
        ("bodylimit", "", r#"{"other": 1}"#),
        ("bodylimit", "", r#""small""#),
        ("origin", "", r#"{"allowed_origins": ["https://a.example"]}"#),
        (
            "origin",
            r#""port": 80,"#,
            r#"{"allowed_origins": ["http://localhost:81"]}"#,
        ),
        (
            "origin",
            r#""port": 80,"#,
            r#"{"allowed_origins": ["http://localhost:80@a.example"]}"#,
        ),
        // Narrower than what the configuration lets in.
        (
            "origin",
            r#""allowed_origins": ["https://a.example", "https://b.example"],"#,
            r#"{"allowed_origins": ["https://a.example"]}"#,
        ),
        ("origin", "", r#"{"allowed_origins": "https://a.example"}"#),
        ("header-forward", "", r#"{"add_headers": {"X-Key": "s3cret"}}"#),
        (
            "header-forward",
            r#""transport": "streamable-http", "header_forward": {"add_plaintext_headers": {"X-Team": "a"}},"#,
            r#"{"add_headers": {"X-Team": "b"}}"#,
        ),
        ("header-forward", "", r#"{"add_headers": ["X-Key"]}"#),
        ("tool-filter", "", r#"{"filter_tools": ["a"]}"#),
        (
            "tool-call-filter",
            r#""tools_filter": ["a", "b"],"#,
            r#"{"filter_tools": ["a"]}"#,
        ),
        (
            "tool-call-filter",
            r#""tools_filter": ["a"],"#,
            r#"{"filter_tools": ["a"], "FILTER_TOOLS": ["b"]}"#,
        ),
        (
            "tool-filter",
            r#""tools_override": {"a": {"name": "b"}},"#,
            r#"{"filter_tools": null, "tools_override": {"a": {"name": "c"}}}"#,
        ),
        ("tool-filter", "", r#"{"other": 1}"#),
    ] {
        let text =
            format!(r#"{{{rest} "middleware_configs": [{{"type": "{kind}", "parameters": {parameters}}}]}}"#);
        assert_eq!(refused(&text), [kind], "{text}");
    }
}

/// As a running proxy of ToolHive saves it after a login: what it added at the start stands in the list.
#[test]
fn a_file_that_was_saved_while_it_ran_passes() {
    let text = r#"{"remote_url": "https://mcp.example.com/mcp", "transport": "streamable-http", "host": "127.0.0.1", "port": 41877,
        "allowed_origins": ["https://app.example"],
        "header_forward": {"add_plaintext_headers": {"X-Team": "platform"}},
        "middleware_configs": [
            {"type": "bodylimit", "parameters": {"max_bytes": 8388608}},
            {"type": "origin", "parameters": {"allowed_origins": ["https://app.example"]}},
            {"type": "auth", "parameters": {}}, {"type": "mcp-parser", "parameters": {}},
            {"type": "usagemetrics", "parameters": {}}, {"type": "recovery", "parameters": null},
            {"type": "header-forward", "parameters": {"add_headers": {"X-Team": "platform"}}},
            {"type": "header-forward", "parameters": {"add_headers": {"X-Team": "platform"}}}]}"#;
    assert!(refused(text).is_empty(), "{:?}", refused(text));
}

#[test]
fn what_only_loosens_is_no_reason_to_refuse() {
    assert!(refused(r#"{"allow_docker_gateway": true}"#).is_empty());
}

#[test]
fn headers_for_a_server_that_gets_no_requests_are_refused() {
    let with = |server: &str| {
        let forward = r#""header_forward": {"add_plaintext_headers": {"X-Team": "platform"}}"#;
        refused(&format!("{{{server}, {forward}}}"))
    };
    assert_eq!(with(r#""transport": "stdio""#), ["header_forward"]);
    assert!(with(r#""transport": "streamable-http""#).is_empty());
    assert!(with(r#""remote_url": "https://a.example/x""#).is_empty());
}

#[test]
fn another_target_host_is_refused_where_it_would_have_no_effect() {
    for host in ["", "127.0.0.1", "localhost", "LocalHost"] {
        assert!(
            refused(&format!(r#"{{"target_host": "{host}"}}"#)).is_empty(),
            "{host}"
        );
    }
    assert_eq!(refused(r#"{"target_host": "192.0.2.1"}"#), ["target_host"]);
    assert!(refused(r#"{"remote_url": "https://a.example/x", "target_host": "a.example"}"#).is_empty());
}

#[test]
fn a_profile_that_is_only_named_is_refused_unless_it_is_built_in() {
    let named = |name: &str| {
        RunConfig::from_json(
            format!(r#"{{"permission_profile_name_or_path": "{name}", "permission_profile": null}}"#)
                .as_bytes(),
        )
        .unwrap()
    };
    for name in ["none", "stdio"] {
        assert!(named(name).requires_isolation(), "{name}");
        let normal = named(name).normalized();
        assert_eq!(
            normal.permission_profile,
            Some(thv_core::PermissionProfile::none())
        );
        assert!(enforcement::check(&normal).is_ok());
    }
    assert!(!named("network").requires_isolation());
    let config = named("/etc/strict.json").normalized();
    assert!(config.requires_isolation(), "nobody knows what it limits");
    let refusal = enforcement::check(&config).unwrap_err();
    assert_eq!(
        refusal.keys().collect::<Vec<_>>(),
        ["permission_profile_name_or_path"]
    );
    assert_eq!(refusal.refused()[0].reason, Reason::Unresolved);
}

#[test]
fn what_a_newer_version_says_about_isolation_is_refused_and_kept() {
    let text = r#"{"thv": {"isolation": "strict"}}"#;
    let config = RunConfig::from_json(text.as_bytes()).unwrap();
    assert!(config.requires_isolation());
    assert_eq!(refused(text), ["thv.isolation"]);
    assert!(
        config
            .to_json_compact()
            .ends_with(r#""thv":{"isolation":"strict"}}"#)
    );
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
