//! The run configuration's format.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail loudly")]

use thv_core::gojson::MAX_VALUES;
use thv_core::{
    IsolationIntent, Json, MAX_DOCUMENT_SIZE, Normalization, PlainTextSecret, ProxyMode, RunConfig,
    RunConfigError, TransportType,
};

const STDIO: &str = include_str!("data/stdio-container.json");
const HTTP: &str = include_str!("data/http-container.json");
const REMOTE: &str = include_str!("data/remote-oauth.json");
const EVERY_FIELD: &str = include_str!("data/every-field.json");

fn read(text: &str) -> RunConfig {
    RunConfig::from_json(text.as_bytes()).unwrap()
}

fn error(text: &str) -> String {
    RunConfig::from_json(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn what_toolhive_writes_comes_back_byte_for_byte() {
    for text in [STDIO, HTTP, REMOTE] {
        let config = read(text);
        assert_eq!(config.to_json(), text);
        assert_eq!(
            RunConfig::from_json(config.to_json_compact().as_bytes()),
            Ok(config.clone())
        );
        assert_eq!(config.clone().normalized(), config, "it is normal already");
        assert!(config.extra.is_empty() && config.thv.is_default());
        assert_eq!(serde_json::from_str::<RunConfig>(text).unwrap(), config);
    }
    assert_eq!(read(HTTP).transport, TransportType::StreamableHttp);
}

/// Each field of the format and of its sections is set, in the order of the format. An empty list and a null of a section
/// that is passed on are kept as they are.
#[test]
fn every_field_comes_back_in_its_place() {
    let config = read(EVERY_FIELD);
    assert_eq!(config.to_json(), EVERY_FIELD);
    assert!(config.extra.is_empty());
    let sections = format!("{config:?}");
    assert!(
        !sections.contains("extra"),
        "no key of a section is unknown: {sections}"
    );
    assert_eq!(read(&config.to_json_compact()), config);
    // All of the format; the section that is ours is not among them.
    let keys = Json::parse(EVERY_FIELD.as_bytes()).unwrap();
    assert_eq!(keys.as_object().map(<[_]>::len), Some(61));
}

#[test]
fn unknown_keys_stay_on_their_level_in_their_order() {
    let text = r#"{
  "schema_version": "v0.1.0",
  "image": "",
  "name": "x",
  "transport": "sse",
  "host": "",
  "port": 0,
  "permission_profile": {
    "name": "p",
    "zeta": 1,
    "alpha": [
      1.50,
      {
        "b": null,
        "a": "\u003c"
      }
    ]
  },
  "thv": {
    "isolation": "required",
    "memory": "64MiB"
  },
  "zeta": 1e3,
  "alpha": 123456789012345678901234567890
}
"#;
    let config = read(text);
    assert_eq!(config.to_json(), text);
    assert_eq!(config.thv.isolation, Some(IsolationIntent::Required));
    assert_eq!(config.extra.keys().collect::<Vec<_>>(), ["zeta", "alpha"]);
    // Through any other JSON writer the order stays too.
    let value = serde_json::to_string(&config).unwrap();
    assert!(value.find("zeta").unwrap() < value.find("alpha").unwrap());
}

#[test]
fn an_unknown_key_never_shadows_a_known_one() {
    let mut config = read("{}");
    config.extra.0.push(("Isolate_Network".into(), Json::Bool(true)));
    assert!(!read(&config.to_json()).isolate_network);
}

#[test]
fn keys_match_as_go_matches_them() {
    let config = read(
        r#"{"IMAGE": "a", "Remote_Auth_Config": {"USE_PKCE": true}, "name": "x", "name": null, "hoſt": "h"}"#,
    );
    assert_eq!(
        (config.image.as_str(), config.name.as_str(), config.host.as_str()),
        ("a", "x", "h")
    );
    assert!(config.remote_auth_config.unwrap().use_pkce);
    assert_eq!(read(r#"{"port": 1, "port": 2}"#).port, 2, "the last one counts");
    assert_eq!(read(r#"{"name": "x"} trailing {"name": "y"}"#).name, "x");
    assert_eq!(read(r#"{"transport": "STDIO"}"#).to_json(), read("{}").to_json());
    assert_eq!(
        RunConfig::from_json(b"{\"name\": \"a\xff\xfe\"}").unwrap().name,
        "a\u{fffd}\u{fffd}"
    );
}

#[test]
fn repeated_keys_mean_what_they_mean_in_go() {
    let config = read(
        r#"{"secrets": ["a,target=B"], "secrets": null,
            "cmd_args": ["a", "b"], "cmd_args": ["c", null], "volumes": ["a", "b"], "volumes": ["c"],
            "env_vars": {"A": "1", "B": "2"}, "env_vars": {"B": "3"},
            "container_labels": {"a": "b"}, "container_labels": null,
            "permission_profile": {"name": "p", "read": ["/a"], "network": {"mode": "none"}},
            "permission_profile": {"privileged": true, "network": {"outbound": {}}},
            "audit_config": {"component": "c"}, "audit_config": null,
            "oidc_config": {"Issuer": "i"}, "oidc_config": {"Audience": "a", "Scopes": ["x"]},
            "tools_override": {"t": {"name": "n"}}, "tools_override": {"t": {"description": "d"}},
            "authz_config": {"a": 1}, "authz_config": {"b": 2},
            "remote_auth_config": {"use_pkce": true, "timeout": 3}, "remote_auth_config": {"scopes": ["s"], "timeout": null},
            "validating_webhooks": [{"name": "w", "timeout": "2s"}], "validating_webhooks": [{"url": "u"}],
            "thv": {"isolation": "required"}, "thv": {"x": 1},
            "proxy_mode": "sse", "proxy_mode": null, "port": 7, "port": null}"#,
    );
    assert!(config.secrets.is_empty() && config.container_labels.is_empty() && config.audit_config.is_none());
    assert_eq!(config.cmd_args, ["c", "b"], "null leaves an item that is there");
    assert_eq!(config.volumes, ["c"]);
    let env: Vec<_> = config.env_vars.iter().collect();
    assert_eq!(format!("{env:?}"), r#"[("A", "1"), ("B", "3")]"#);
    let profile = config.permission_profile.unwrap();
    assert_eq!(
        (profile.name.as_str(), profile.read.len(), profile.privileged),
        ("p", 1, true)
    );
    let network = profile.network.unwrap();
    assert!(network.mode == "none" && network.outbound.is_some());
    let oidc = config.oidc_config.unwrap();
    assert_eq!((oidc.issuer.as_str(), oidc.audience.as_str()), ("i", "a"));
    let tool = &config.tools_override["t"];
    assert_eq!(
        (tool.name.as_str(), tool.description.as_str()),
        ("", "d"),
        "a map's values are new"
    );
    assert_eq!(
        config.authz_config.as_object().map(<[_]>::len),
        Some(1),
        "a raw section is replaced"
    );
    let auth = config.remote_auth_config.unwrap();
    assert_eq!(
        (auth.use_pkce, auth.timeout.as_nanos(), auth.scopes.len()),
        (true, 3, 1)
    );
    let webhook = &config.validating_webhooks[0];
    assert_eq!(
        (
            webhook.name.as_str(),
            webhook.url.as_str(),
            webhook.timeout.0.as_nanos()
        ),
        ("w", "u", 2_000_000_000)
    );
    assert_eq!(config.thv.isolation, Some(IsolationIntent::Required));
    assert_eq!((config.proxy_mode, config.port), (Some(ProxyMode::Sse), 7));
}

#[test]
fn a_zero_below_zero_is_zero() {
    let config = read(
        r#"{"port": -0, "mcpserver_generation": -0, "remote_auth_config": {"timeout": -0},
            "validating_webhooks": [{"timeout": -0}]}"#,
    );
    assert_eq!((config.port, config.mcpserver_generation), (0, 0));
    assert_eq!(config.validating_webhooks[0].timeout.0.as_nanos(), 0);
}

#[test]
fn raw_sections_keep_their_escapes() {
    let raw =
        r#"{"\u00e9\/":"\u00e9\/\ud83d","k":["\u003c","\t\u0009",{"\u0041":null,"b":1.50}],"plain":"é/"}"#;
    let config = read(&format!(
        r#"{{"schema_version": "v0.1.0", "authz_config": {raw}, "middleware_configs": [{{"type": "\u0061udit", "parameters": {raw}}}]}}"#
    ));
    let text = config.to_json_compact();
    assert!(text.contains(&format!(r#""authz_config":{raw}"#)), "{text}");
    assert!(
        text.contains(&format!(r#"{{"type":"audit","parameters":{raw}}}"#)),
        "{text}"
    );
    assert_eq!(read(&config.to_json()), config);
    assert_eq!(
        config.authz_config.get("é/").and_then(Json::as_str),
        Some("é/\u{fffd}")
    );
    // What Go escapes on the way is escaped here too.
    let config = read("{\"schema_version\": \"v0.1.0\", \"authz_config\": \"\\/<&>\u{2028}\"}");
    assert!(
        config
            .to_json_compact()
            .contains(r#""authz_config":"\/\u003c\u0026\u003e\u2028""#)
    );
    assert_eq!(read(&config.to_json()), config);
}

#[test]
fn old_spellings_of_remote_authentication_are_read() {
    let config = read(
        r#"{"schema_version": "v0.1.0", "remote_auth_config": {"ClientID": "id", "ClientSecret": "s3cret", "Scopes": ["a"], "SkipBrowser": true,
            "Timeout": 5, "CallbackPort": 8666, "UsePKCE": true, "AuthorizeURL": "u", "OAuthParams": {"k": "v"},
            "client_id": "ignored", "Other": 1}}"#,
    );
    let auth = config.remote_auth_config.clone().unwrap();
    assert_eq!(
        (auth.client_id.as_str(), auth.client_secret.as_str()),
        ("id", "s3cret")
    );
    assert_eq!(
        (auth.timeout.as_nanos(), auth.callback_port, auth.use_pkce),
        (5, 8666, true)
    );
    assert_eq!(auth.extra.keys().collect::<Vec<_>>(), ["Other"]);
    assert_eq!(read(&config.to_json()), config);
    // Without the key that marks an old object, its spellings mean nothing.
    let new = read(r#"{"remote_auth_config": {"ClientSecret": "x"}}"#)
        .remote_auth_config
        .unwrap();
    assert_eq!(new.client_secret, "");
}

#[test]
fn old_sampling_rates_become_text() {
    let mut config = read(
        r#"{"proxy_mode": "streamable-http", "schema_version": "v0.1.0",
            "telemetry_config": {"endpoint": "e", "samplingRate": 0.10},
            "middleware_configs": [{"type": "telemetry", "parameters": {"config": {"samplingRate": 0.05}}}]}"#,
    );
    assert_eq!(config.telemetry_config.as_ref().unwrap().sampling_rate, "0.10");
    assert_eq!(config.normalize(), [Normalization::SamplingRate]);
    assert!(
        config
            .to_json_compact()
            .contains(r#""config":{"samplingRate":"0.05"}"#)
    );
    assert!(config.normalize().is_empty(), "once is enough");
}

#[test]
fn loading_repairs_what_toolhive_repairs() {
    let mut config = read(
        r#"{"transport": "sse", "proxy_mode": "streamable-http", "isolate_network": true,
            "permission_profile": {"network": {"mode": "none"}}}"#,
    );
    let made = [
        Normalization::SchemaVersion,
        Normalization::ProxyMode,
        Normalization::IsolationOff,
    ];
    assert_eq!(config.normalize(), made);
    assert_eq!(
        (config.proxy_mode, config.isolate_network),
        (Some(ProxyMode::Sse), false)
    );
    for mode in ["", "bridge", "default"] {
        let text = format!(
            r#"{{"isolate_network": true, "permission_profile": {{"network": {{"mode": "{mode}"}}}}}}"#
        );
        assert!(read(&text).normalized().isolate_network, "{mode}");
    }
}

#[test]
fn a_proxy_mode_that_means_nothing_is_the_default() {
    for mode in ["inspector", "brand-new", "SSE"] {
        let config = read(&format!(r#"{{"proxy_mode": "{mode}", "transport": "stdio"}}"#));
        assert_eq!(config.effective_proxy_mode(), ProxyMode::StreamableHttp, "{mode}");
    }
    assert!(error(r#"{"proxy_mode": 1}"#).starts_with("proxy_mode: "));
}

#[test]
fn webhook_timeouts_are_read_in_every_form() {
    for (timeout, nanos) in [
        (r#""2s""#, 2_000_000_000),
        ("3000000000", 3_000_000_000),
        ("null", 10_000_000_000),
    ] {
        let config = read(&format!(
            r#"{{"validating_webhooks": [{{"name": "w", "timeout": {timeout}}}]}}"#
        ));
        assert_eq!(config.validating_webhooks[0].timeout.0.as_nanos(), nanos);
        assert!(
            config
                .to_json_compact()
                .contains(&format!(r#""timeout":{nanos}"#))
        );
    }
    assert_eq!(
        read(r#"{"mutating_webhooks": [{}]}"#).mutating_webhooks[0]
            .timeout
            .0
            .as_nanos(),
        10_000_000_000
    );
}

#[test]
fn credentials_in_the_file_are_found() {
    let plain = |secret: &str, token: &str| {
        let text = format!(
            r#"{{"remote_auth_config": {{"client_secret": "{secret}", "bearer_token": "{token}"}}}}"#
        );
        read(&text).plain_text_secrets()
    };
    assert_eq!(
        plain("s3cret", "tok"),
        [PlainTextSecret::ClientSecret, PlainTextSecret::BearerToken]
    );
    assert_eq!(
        plain("A,target=oauth_secret", "tok"),
        [PlainTextSecret::BearerToken]
    );
    assert!(plain("", "").is_empty());
    assert!(read(REMOTE).plain_text_secrets().is_empty());
    assert_eq!(PlainTextSecret::BearerToken.secret_name("x"), "BEARER_TOKEN_x");
}

#[test]
fn debug_and_errors_show_no_secret() {
    let text = r#"{"env_vars": {"KEY": "s3cret"}, "unknown": "s3cret", "authz_config": {"a": "s3cret"},
        "remote_auth_config": {"client_secret": "s3cret", "bearer_token": "s3cret", "oauth_params": {"p": "s3cret"}},
        "oidc_config": {"ClientSecret": "s3cret"}, "token_exchange_config": {"client_secret": "s3cret"},
        "telemetry_config": {"headers": {"Authorization": "s3cret"}}, "k8s_pod_template_patch": "s3cret",
        "header_forward": {"add_plaintext_headers": {"X-Key": "s3cret"}},
        "middleware_configs": [{"type": "header-forward", "parameters": {"add_headers": {"X-Key": "s3cret"}}}],
        "embedded_auth_server_config": {"a": ["s3cret"]}, "runtime_config": {"runtime_env": {"A": "s3cret"}},
        "cmd_args": ["--token=s3cret"], "image": "https://me:s3cret@host/x?key=s3cret#s3cret",
        "remote_url": "https://s3cret@host/mcp?key=s3cret", "secrets": ["s3cret", "shown,target=NAME"],
        "mutating_webhooks": [{"name": "w", "url": "https://hook.example/x?token=s3cret"}],
        "validating_webhooks": [{"name": "w", "url": "https://u:s3cret@hook.example/x"}]}"#;
    let config = read(text);
    let telemetry = read(
        r#"{"telemetry_config": {"endpoint": "https://s3cret@otel", "customAttributes": {"team": "s3cret"}}}"#,
    );
    let shown = format!("{config:?} {config:#?} {telemetry:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    for known in [
        "KEY",
        "client_secret",
        "https://…@host/x?…",
        "https://…@host/mcp?…",
        "shown,target=NAME",
        "https://hook.example/x?…",
        "team",
    ] {
        assert!(shown.contains(known), "{known}: {shown}");
    }
    assert!(format!("{:?}", read(STDIO)).contains("docker.io/mcp/everything:1.4.0"));
    let digest = r#"{"image": "ghcr.io/a/b@sha256:0123"}"#;
    assert!(format!("{:?}", read(digest)).contains("ghcr.io/a/b@sha256:0123"));
    for hostile in [
        r#"{"port": "s3cret"}"#,
        r#"{"env_vars": ["s3cret"]}"#,
        r#"{"remote_auth_config": {"cached_token_expiry": "s3cret"}}"#,
        r#"{"secrets": "s3cret"}"#,
        r#"{"name": "s3cret" "#,
    ] {
        assert!(!error(hostile).contains("s3cret"));
    }
}

#[test]
fn a_wrong_value_is_an_error_that_says_where() {
    for (text, expected) in [
        (
            r#"{"port": 70000}"#,
            "port: expected an integer from 0 to 65535, found 70000",
        ),
        (
            r#"{"port": 1.5}"#,
            "port: expected an integer from 0 to 65535, found 1.5",
        ),
        (
            r#"{"cmd_args": ["a", 1]}"#,
            "cmd_args[1]: expected a string, found a number",
        ),
        (
            r#"{"env_vars": {"A": 1}}"#,
            "env_vars.A: expected a string, found a number",
        ),
        (
            r#"{"middleware_configs": [{"type": []}]}"#,
            "middleware_configs[0].type: expected a string, found an array",
        ),
        (
            r#"{"transport": "carrier-pigeon"}"#,
            "transport: unknown transport \"carrier-pigeon\": use stdio, sse or streamable-http",
        ),
        ("[]", "expected an object, found an array"),
        ("null", "expected an object, found null"),
        ("", "invalid JSON at line 1, column 1: unexpected end"),
        (
            "{\n \"a\": tru}",
            "invalid JSON at line 2, column 7: expected a value",
        ),
    ] {
        assert_eq!(error(text), expected);
    }
}

#[test]
fn errors_show_hostile_text_escaped_and_cut() {
    let long = "9".repeat(100_000);
    let key = format!("\\u001b[2J{}", "x".repeat(100_000));
    for text in [
        format!(r#"{{"port": {long}}}"#),
        format!(r#"{{"env_vars": {{"{key}": 1}}}}"#),
        format!(r#"{{"tools_override": {{"{key}": {{"name": 1}}}}}}"#),
        format!(r#"{{"transport": "{key}"}}"#),
        format!(r#"{{"remote_auth_config": {{"cached_token_expiry": "{key}"}}}}"#),
        format!(r#"{{"validating_webhooks": [{{"timeout": "{key}"}}]}}"#),
    ] {
        let error = error(&text);
        assert!(
            error.len() < 250 && !error.contains('\u{1b}'),
            "{} bytes: {error:.300}",
            error.len()
        );
    }
}

#[test]
fn a_document_of_too_many_values_is_refused() {
    let many = |count: usize| format!(r#"{{"authz_config": [{}0]}}"#, "0,".repeat(count - 1));
    read(&many(MAX_VALUES - 2));
    assert!(error(&many(MAX_VALUES - 1)).contains("more values"));
}

#[test]
fn hostile_documents_end_in_errors() {
    let deep = "[".repeat(1_000_000);
    assert_eq!(
        error(&format!("{{\"authz_config\": {deep}")),
        "invalid JSON at line 1, column 145: nested too deeply"
    );
    let large = vec![b' '; MAX_DOCUMENT_SIZE + 1];
    assert!(matches!(
        RunConfig::from_json(&large),
        Err(RunConfigError::TooLarge { .. })
    ));
    for text in [
        "{",
        "{\"a\"",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u+123\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":NaN}",
        "{a:1}",
        "{\"a\" 1}",
        "\u{feff}{}",
        "{\"a\":[1 2]}",
        "{\"a\":\"",
        "{\"a\":nul}",
    ] {
        assert!(RunConfig::from_json(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn clients_find_the_workload_where_toolhive_says() {
    for (text, url) in [
        (r#"{"port": 1, "base_name": "a"}"#, "http://127.0.0.1:1/mcp"),
        (
            r#"{"port": 1, "base_name": "a", "proxy_mode": "sse"}"#,
            "http://127.0.0.1:1/sse#a",
        ),
        (
            r#"{"port": 1, "base_name": "a b", "transport": "sse"}"#,
            "http://127.0.0.1:1/sse#a%20b",
        ),
        // The mode of an HTTP server is its transport, whatever an old file says.
        (
            r#"{"port": 1, "transport": "streamable-http", "proxy_mode": "sse"}"#,
            "http://127.0.0.1:1/mcp",
        ),
        (
            r#"{"port": 1, "transport": "streamable-http", "remote_url": "https://me@h:1/v1/a%2Fb/ü?q=1#f"}"#,
            "http://127.0.0.1:1/v1/a%2Fb/%C3%BC",
        ),
        (
            r#"{"port": 1, "transport": "streamable-http", "remote_url": "https://h/"}"#,
            "http://127.0.0.1:1",
        ),
        (
            r#"{"port": 1, "transport": "streamable-http", "remote_url": "https://h?a=/b"}"#,
            "http://127.0.0.1:1",
        ),
        (
            r#"{"port": 1, "transport": "sse", "base_name": "r", "remote_url": "https://h"}"#,
            "http://127.0.0.1:1/sse#r",
        ),
        (
            r#"{"port": 1, "transport": "sse", "base_name": "r", "remote_url": "https://h/x"}"#,
            "http://127.0.0.1:1/x#r",
        ),
    ] {
        assert_eq!(read(text).client_url("127.0.0.1").as_deref(), Some(url), "{text}");
    }
    assert_eq!(read("{}").client_url("127.0.0.1"), None);
    assert_eq!(
        read(r#"{"port": 1}"#).client_url("::1").as_deref(),
        Some("http://[::1]:1/mcp")
    );
}

#[test]
fn session_ttl_is_a_go_duration() {
    let ttl = |text: &str| read(&format!(r#"{{"session_ttl": "{text}"}}"#)).session_ttl();
    assert_eq!(ttl("30m0s").unwrap(), Some(std::time::Duration::from_mins(30)));
    assert_eq!(ttl("").unwrap(), None);
    assert_eq!(ttl("0s").unwrap(), None);
    assert!(ttl("-1s").is_err() && ttl("soon").is_err());
}

#[test]
fn isolation_is_required_by_the_user_or_by_the_profile() {
    let required = |text: &str| read(text).requires_isolation();
    assert!(
        !read(STDIO).requires_isolation(),
        "the default is an intent, not a demand"
    );
    assert!(read(HTTP).requires_isolation(), "its profile limits outbound");
    assert!(!read(REMOTE).requires_isolation());
    assert!(required(r#"{"thv": {"isolation": "required"}}"#));
    assert!(required(r#"{"permission_profile": {"network": {}}}"#));
    assert!(!required(r#"{"permission_profile": {}}"#));
    assert!(
        !required(r#"{"permission_profile": {"network": {"mode": "none"}}}"#),
        "the engine enforces it itself"
    );
}

#[test]
fn the_name_falls_back() {
    assert_eq!(
        read(r#"{"name": "n", "container_name": "c", "base_name": "b"}"#)
            .workload_name()
            .unwrap()
            .as_str(),
        "b"
    );
    assert_eq!(read(r#"{"name": "n"}"#).workload_name().unwrap().as_str(), "n");
    assert!(read(r#"{"base_name": "../x"}"#).workload_name().is_err());
}
