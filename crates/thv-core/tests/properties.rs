//! Properties of the formats, over generated values and texts.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail loudly")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::string::{RegexGeneratorStrategy, string_regex};
use thv_core::gojson::{self, GoDuration, GoTime, Json};
use thv_core::{
    ExtraKeys, InboundPermissions, IsolationIntent, LimitsSection, MiddlewareConfig, Mount,
    NetworkPermissions, OutboundPermissions, PermissionProfile, ProxyMode, ProxySection, PublishSpec,
    RemoteAuthConfig, RunConfig, SecretReference, TelemetryConfig, ThvSection, ToolOverride, TransportType,
    WorkloadName, derive_name,
};

/// Parsed once: a pattern that is a strategy itself is parsed for each value.
fn like(pattern: &str) -> RegexGeneratorStrategy<String> {
    string_regex(pattern).unwrap()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        like("[ -~]{0,12}"),
        like("\\PC{0,6}"),
        any::<String>()
    ]
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
        like("-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?"),
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
            prop::collection::vec((text(), inner), 0..4).prop_map(Json::from_iter),
        ]
    })
}

/// A string literal with escapes of every kind, also such as nobody would choose.
fn literal() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        like("[ !#-\\[\\]-~]{1,4}"),
        like(r#"\\["\\/bfnrt]"#),
        like("\\\\u[0-9a-fA-F]{4}"),
        like("[é漢😀]{1,2}"),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

/// Keys that no version knows.
fn extra() -> impl Strategy<Value = ExtraKeys> {
    prop::collection::vec((like("x-[a-zA-Z]{1,8}"), json()), 0..3).prop_map(|pairs| {
        ExtraKeys(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    })
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
                limits: LimitsSection { memory: limits.0, pids: limits.1, ..LimitsSection::default() },
                read_only: required,
                extra: thv_extra,
            },
            extra,
            ..RunConfig::default()
        }
    }
}

/// A value with keys and items left out and with other values; text that has to be of a form stays as it is.
fn varied(json: &Json, key: &str, choices: &mut dyn Iterator<Item = (u8, &String)>) -> Option<Json> {
    const OF_A_FORM: [&str; 4] = [
        "transport",
        "proxy_mode",
        "cached_token_expiry",
        "cached_secret_expiry",
    ];
    let (choice, text) = choices.next()?;
    match json {
        _ if choice == 0 => None,
        Json::Object(pairs) => {
            let pairs = pairs.iter();
            Some(
                pairs
                    .filter_map(|(key, value)| Some((key.clone(), varied(value, key, choices)?)))
                    .collect(),
            )
        }
        Json::Array(items) => Some(
            items
                .iter()
                .filter_map(|item| varied(item, key, choices))
                .collect(),
        ),
        Json::String(_) if choice == 1 && !OF_A_FORM.contains(&key) => Some(text.clone().into()),
        Json::Bool(value) if choice == 1 => Some((!value).into()),
        Json::Number(_) if choice == 1 => Some(0_i64.into()),
        other => Some(other.clone()),
    }
}

fn begins_with_json(text: &str) -> bool {
    let mut ends = text.char_indices().map(|(at, _)| at).skip(1);
    ends.any(|end| serde_json::from_str::<&serde_json::value::RawValue>(&text[..end]).is_ok())
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(config in config()) {
        let text = config.to_json();
        prop_assert_eq!(RunConfig::from_json(text.as_bytes()), Ok(config.clone()));
        let compact = config.to_json_compact();
        prop_assert_eq!(RunConfig::from_json(compact.as_bytes()), Ok(config.clone()));
        // What we write is JSON to everybody else, who may know no number beyond f64.
        prop_assert!(serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok(), "{}", text);
        let needs_escape = ['<', '>', '&', '\u{2028}', '\u{2029}'];
        prop_assert!(!text.contains(needs_escape));
        let normal = config.normalized();
        prop_assert!(normal.clone().normalize().is_empty());
    }

    #[test]
    fn every_field_is_read_back_in_every_combination(
        choices in prop::collection::vec(0u8..6, 400), texts in prop::collection::vec(text(), 20),
    ) {
        let all = Json::parse(include_bytes!("data/every-field.json")).unwrap();
        let mut choices = choices.into_iter().zip(texts.iter().cycle());
        let pairs = all.as_object().unwrap().iter();
        let some: Json = pairs.filter_map(|(key, value)| Some((key.clone(), varied(value, key, &mut choices)?))).collect();
        let config = RunConfig::from_json(gojson::to_string(&some).unwrap().as_bytes()).unwrap();
        prop_assert!(config.extra.is_empty());
        let text = config.to_json();
        let again = RunConfig::from_json(text.as_bytes()).unwrap();
        prop_assert_eq!(again.to_json(), text);
        let schema_version = again.schema_version.clone();
        prop_assert_eq!(again, RunConfig { schema_version, ..config });
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
    fn our_parser_and_serde_json_agree(text in prop_oneof![
        "[\\[\\]{}:,\"\\\\ntu0-9e.-]{0,16}",
        json().prop_map(|json| gojson::to_string(&json).unwrap()),
        ("[\\[{\", ]{0,3}", "(-?[0-9]{0,3}(\\.[0-9]{0,2})?|\"[a-z\\\\u0-9]{0,8}\"|true|null)", "[\\]}\", ]{0,3}")
            .prop_map(|(before, value, after)| before + &value + &after),
    ]) {
        // Like ours, its stream reads one value and leaves the rest. It knows no number beyond f64 and no half of a
        // surrogate pair, so that a value has to be valid JSON first.
        let raw = serde_json::Deserializer::from_str(&text).into_iter::<&serde_json::value::RawValue>().next();
        let theirs = raw.and_then(Result::ok).map(serde_json::value::RawValue::get);
        let ours = Json::parse(text.as_bytes());
        match theirs {
            Some(theirs) => {
                prop_assert!(ours.is_ok(), "ours refuses {}", text);
                if let Ok(value) = serde_json::from_str::<serde_json::Value>(theirs) {
                    let ours: serde_json::Value = serde_json::from_str(&gojson::to_string(&ours.unwrap()).unwrap()).unwrap();
                    prop_assert_eq!(ours, value, "{}", text);
                }
            }
            // After a number serde_json wants no digit, which Go takes for what follows the value.
            None => prop_assert!(ours.is_err() || begins_with_json(&text), "ours takes {}", text),
        }
    }

    #[test]
    fn raw_sections_keep_their_literals(
        key in literal(), value in literal(), number in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
    ) {
        let raw = format!("{{{key}:[{value},{number},{{}}]}}");
        let text = format!(r#"{{"schema_version": "v0.1.0", "authz_config": {raw}, "middleware_configs": [{{"parameters": {raw}}}]}}"#);
        let config = RunConfig::from_json(text.as_bytes()).unwrap();
        // As Go writes it: untouched, but for what it escapes everywhere.
        let expected = raw.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        prop_assert!(config.to_json_compact().matches(&expected).count() == 2, "{}", config.to_json_compact());
        prop_assert_eq!(RunConfig::from_json(config.to_json().as_bytes()), Ok(config));
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
