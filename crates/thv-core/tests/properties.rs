//! Properties of the formats, over generated values and texts.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail loudly")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use thv_core::gojson::{self, GoDuration, GoTime, Json};
use thv_core::{
    ExtraKeys, InboundPermissions, IsolationIntent, MiddlewareConfig, Mount, NetworkPermissions,
    OutboundPermissions, PermissionProfile, ProxyMode, ProxySection, PublishSpec, RemoteAuthConfig,
    RunConfig, SecretReference, TelemetryConfig, ThvSection, ToolOverride, TransportType, WorkloadName,
    derive_name,
};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ -~]{0,12}", "\\PC{0,6}", any::<String>()]
}

fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(text(), text(), 0..4)
}

fn list() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..4)
}

fn json() -> impl Strategy<Value = Json> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
    ];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        number.prop_map(|n| Json::parse(n.as_bytes()).unwrap()),
        text().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::vec((text(), inner), 0..4).prop_map(Json::Object),
        ]
    })
}

/// Keys that no version knows.
fn extra() -> impl Strategy<Value = ExtraKeys> {
    prop::collection::vec(("x-[a-zA-Z]{1,8}", json()), 0..3).prop_map(ExtraKeys)
}

fn time() -> impl Strategy<Value = GoTime> {
    let parts = (
        1i32..9999,
        1u8..13,
        1u8..29,
        0u8..24,
        0u8..60,
        0u32..1_000_000_000,
        -719i32..720,
    );
    parts.prop_map(|(year, month, day, hour, minute, nanos, zone)| {
        let sign = if zone < 0 { '-' } else { '+' };
        let (hours, minutes) = (zone.abs() / 60, zone.abs() % 60);
        format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:07.{nanos:09}{sign}{hours:02}:{minutes:02}"
        )
        .parse()
        .unwrap()
    })
}

prop_compose! {
    fn profile()(
        name in text(), read in list(), write in list(), privileged in any::<bool>(),
        network in prop::option::of((text(), prop::option::of((any::<bool>(), list())), prop::option::of(list()))),
        ports in prop::collection::vec(any::<u16>(), 0..3), extra in extra(),
    ) -> PermissionProfile {
        let network = network.map(|(mode, outbound, inbound)| NetworkPermissions {
            mode,
            outbound: outbound.map(|(insecure_allow_all, allow_host)| OutboundPermissions {
                insecure_allow_all, allow_host, allow_port: ports, extra: ExtraKeys::default(),
            }),
            inbound: inbound.map(|allow_host| InboundPermissions { allow_host, extra: ExtraKeys::default() }),
            extra: ExtraKeys::default(),
        });
        PermissionProfile { name, read, write, network, privileged, extra }
    }
}

prop_compose! {
    fn remote_auth()(
        client_id in text(), client_secret in text(), scopes in list(), timeout in any::<i64>(), callback_port in any::<u16>(),
        use_pkce in any::<bool>(), oauth_params in map(), cached_token_expiry in time(), extra in extra(),
    ) -> RemoteAuthConfig {
        RemoteAuthConfig {
            client_id, client_secret, scopes, timeout: GoDuration::from_nanos(timeout), callback_port, use_pkce,
            oauth_params, cached_token_expiry, extra, ..RemoteAuthConfig::default()
        }
    }
}

prop_compose! {
    fn config()(
        texts in prop::array::uniform8(text()),
        maps in prop::array::uniform2(map()),
        lists in prop::array::uniform4(list()),
        ports in any::<(u16, u16)>(),
        flags in any::<[bool; 4]>(),
        mcpserver_generation in any::<i64>(),
        transport in prop::sample::select(vec![TransportType::Stdio, TransportType::Sse, TransportType::StreamableHttp, TransportType::Inspector]),
        proxy_mode in prop::option::of(prop::sample::select(vec![ProxyMode::Sse, ProxyMode::StreamableHttp])),
        permission_profile in prop::option::of(profile()),
        remote_auth_config in prop::option::of(remote_auth()),
        authz_config in json(),
        middleware in prop::collection::vec((text(), json(), extra()), 0..3),
        sampling_rate in prop::option::of(text()),
        overrides in prop::collection::btree_map(text(), (text(), text()), 0..3),
        required in any::<bool>(),
        thv_extra in extra(),
        limits in any::<(i64, i64)>(),
        extra in extra(),
    ) -> RunConfig {
        let [schema_version, image, name, host, session_ttl, group, remote_url, endpoint_prefix] = texts;
        let [env_vars, container_labels] = maps;
        let [cmd_args, volumes, secrets, tools_filter] = lists;
        let [debug, isolate_network, stateless, trust_proxy_headers] = flags;
        RunConfig {
            schema_version: if schema_version.is_empty() { "v0.1.0".to_owned() } else { schema_version },
            mcpserver_generation, image, remote_url, remote_auth_config, cmd_args, name, transport, host,
            port: ports.0, target_port: ports.1, permission_profile, env_vars, debug, volumes, container_labels,
            authz_config, secrets, isolate_network, stateless, trust_proxy_headers, session_ttl, proxy_mode, group,
            telemetry_config: sampling_rate.map(|sampling_rate| TelemetryConfig { sampling_rate, ..TelemetryConfig::default() }),
            tools_filter,
            tools_override: overrides.into_iter()
                .map(|(tool, (name, description))| (tool, ToolOverride { name, description, extra: ExtraKeys::default() }))
                .collect(),
            middleware_configs: middleware.into_iter()
                .map(|(kind, parameters, extra)| MiddlewareConfig { kind, parameters, extra })
                .collect(),
            endpoint_prefix,
            thv: ThvSection {
                isolation: required.then_some(IsolationIntent::Required),
                proxy: ProxySection { max_body_bytes: limits.0, max_line_bytes: limits.1, ..ProxySection::default() },
                extra: thv_extra,
            },
            extra,
            ..RunConfig::default()
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(config in config()) {
        let text = config.to_json();
        prop_assert_eq!(RunConfig::from_json(text.as_bytes()), Ok(config.clone()));
        let compact = config.to_json_compact();
        prop_assert_eq!(RunConfig::from_json(compact.as_bytes()), Ok(config.clone()));
        // What we write is JSON to everybody else.
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok() || text.contains(['e', 'E']));
        let needs_escape = ['<', '>', '&', '\u{2028}', '\u{2029}'];
        prop_assert!(!text.contains(needs_escape));
        let normal = config.normalized();
        prop_assert!(normal.clone().normalize().is_empty());
    }

    #[test]
    fn json_keeps_order_and_digits(json in json()) {
        let pretty = gojson::to_string_pretty(&json).unwrap();
        prop_assert_eq!(Json::parse(pretty.as_bytes()), Ok(json.clone()));
        let compact = gojson::to_string(&json).unwrap();
        prop_assert_eq!(Json::parse(compact.as_bytes()), Ok(json));
        // A raw section is laid out like a value.
        let raw = serde_json::value::RawValue::from_string(compact.clone()).unwrap();
        prop_assert_eq!(gojson::to_string_pretty(&raw).unwrap(), pretty.clone());
        let raw = serde_json::value::RawValue::from_string(pretty).unwrap();
        prop_assert_eq!(gojson::to_string(&raw).unwrap(), compact);
    }

    #[test]
    fn profiles_are_read_as_they_are_written(profile in profile()) {
        prop_assert_eq!(PermissionProfile::from_json(profile.to_json().as_bytes()), Ok(profile));
    }

    #[test]
    fn times_and_durations_are_read_as_they_are_written(time in time(), nanos in any::<i64>()) {
        prop_assert_eq!(time.to_string().parse::<GoTime>().unwrap().to_string(), time.to_string());
        let duration = GoDuration::from_nanos(nanos);
        prop_assert_eq!(duration.to_string().parse::<GoDuration>(), Ok(duration));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[\\[\\]{}:,\"\\\\u0-9a-e.+ -]{0,40}") {
        let _ = RunConfig::from_json(&bytes);
        let _ = RunConfig::from_json(text.as_bytes());
    }

    #[test]
    fn our_parser_and_serde_json_agree(text in "[\\[\\]{}:,\"\\\\ntu0-9e.-]{0,16}") {
        // serde_json refuses trailing data, ours does not; and it knows no number beyond f64.
        if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
            prop_assert!(Json::parse(text.as_bytes()).is_ok(), "{}", text);
        }
    }

    #[test]
    fn no_text_makes_the_small_parsers_panic(text in any::<String>()) {
        let _ = (Mount::parse(&text), PublishSpec::parse(&text), SecretReference::parse(&text));
        let _ = (text.parse::<GoTime>(), text.parse::<GoDuration>());
        let _ = (thv_core::image_base_name(&text), thv_core::remote_base_name(&text), thv_core::package_base_name(&text));
        let name = derive_name(&text);
        prop_assert_eq!(WorkloadName::new(name.as_str()), Ok(name.clone()));
        if let Ok(valid) = WorkloadName::new(text.clone()) {
            prop_assert_eq!(derive_name(&text), valid);
        }
    }

    #[test]
    fn workload_names_are_always_safe(text in "[A-Za-z0-9._/\\\\-]{0,12}") {
        if let Ok(name) = WorkloadName::new(text) {
            let path = std::path::Path::new(name.as_str());
            prop_assert_eq!(path.components().count(), 1);
            prop_assert!(!name.as_str().starts_with(['-', '.']));
        }
    }
}
