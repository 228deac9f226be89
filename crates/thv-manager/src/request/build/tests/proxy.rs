//! What the proxy is told.

use super::*;

#[test]
fn the_proxy_binds_loopback_unless_asked() {
    for (host, bound, noticed) in [
        ("", "127.0.0.1", 0),
        ("localhost", "127.0.0.1", 0),
        ("127.0.0.2", "127.0.0.2", 0),
        ("0.0.0.0", "0.0.0.0", 1),
        ("box", "192.0.2.7", 1),
    ] {
        let built = built(&RunRequest {
            host: Some(host.into()),
            ..image()
        });
        assert_eq!(
            (built.config.host.as_str(), built.notices.len()),
            (bound, noticed),
            "{host}"
        );
    }
    for host in ["::1", "[::1]", "six", "gone.example", "127.0.0.1:80", "a b"] {
        assert!(
            refused(&RunRequest {
                host: Some(host.into()),
                ..image()
            })
            .contains("invalid host")
        );
    }
}

#[test]
fn the_proxy_mode_is_that_of_an_http_server() {
    for (transport, asked, mode, noticed) in [
        (TransportType::Stdio, None, ProxyMode::StreamableHttp, 0),
        (TransportType::Stdio, Some(ProxyMode::Sse), ProxyMode::Sse, 0),
        (TransportType::Sse, None, ProxyMode::Sse, 0),
        (
            TransportType::Sse,
            Some(ProxyMode::StreamableHttp),
            ProxyMode::Sse,
            1,
        ),
    ] {
        let built = built(&RunRequest {
            transport: Some(transport),
            proxy_mode: asked,
            ..image()
        });
        assert_eq!(
            (built.config.proxy_mode, built.notices.len()),
            (Some(mode), noticed)
        );
    }
}

#[test]
fn tools_are_filtered_and_renamed_as_toolhive_stores_it() {
    let files =
        MemoryFiles::default().with("/base/t.json", r#"{"toolsOverride": {"fetch": {"name": "get"}}}"#);
    let request = RunRequest {
        tools: strings(&["get", "other"]),
        tools_override_file: Some("/base/t.json".into()),
        ..image()
    };
    let config = build_with(&request, &[], files).unwrap().config;
    assert_eq!(config.tools_filter, ["get", "other"]);
    assert_eq!(config.tools_override["fetch"].name, "get");
    let list = &config.middleware_configs[..3];
    let kinds: Vec<_> = list.iter().map(|one| one.kind.as_str()).collect();
    assert_eq!(kinds, ["tool-filter", "tool-call-filter", "auth"]);
    assert_eq!(
        thv_core::gojson::to_string(&list[0].parameters).unwrap(),
        r#"{"filter_tools":["get","other"],"tools_override":{"fetch":{"name":"get","description":""}}}"#
    );
    thv_core::enforcement::check(&config).unwrap();
    for text in [
        "[]",
        "{}",
        r#"{"toolsOverride": {"a": {}}}"#,
        r#"{"tools_override": {"a": {"name": "b"}}}"#,
        r#"{"toolsOverride": {"a": {"name": "c"}, "b": {"name": "c"}}}"#,
    ] {
        let files = MemoryFiles::default().with("/base/t.json", text);
        let error = build_with(&request, &[], files).unwrap_err();
        assert_eq!(error.code(), "invalid", "{text}");
    }
}

#[test]
fn what_a_proxy_is_told_stands_in_the_configuration() {
    let request = RunRequest {
        endpoint_prefix: Some("/team".into()),
        trust_proxy_headers: true,
        strict_protocol_validation: true,
        stateless: true,
        transport: Some(TransportType::StreamableHttp),
        ..image()
    };
    let config = built(&request).config;
    assert_eq!(config.endpoint_prefix, "/team");
    assert!(config.trust_proxy_headers && config.strict_protocol_validation && config.stateless);
    for transport in [TransportType::Stdio, TransportType::Sse] {
        refused(&RunRequest {
            transport: Some(transport),
            ..request.clone()
        });
    }
    refused(&RunRequest {
        endpoint_prefix: Some("team".into()),
        ..image()
    });
}

#[test]
fn authorities_are_believed_for_a_remote_server_alone() {
    let request = RunRequest {
        server: "https://example.com/mcp".into(),
        ca_bundle: Some("ca.pem".into()),
        ..RunRequest::default()
    };
    let pem = "-----BEGIN CERTIFICATE-----";
    let files = MemoryFiles::default().with("/here/ca.pem", pem);
    let config = build_with(&request, &[], files).unwrap().config;
    assert_eq!(config.thv_ca_bundle, "/here/ca.pem");
    for files in [
        MemoryFiles::default(),
        MemoryFiles::default().with("/here/ca.pem", "text"),
    ] {
        assert_eq!(build_with(&request, &[], files).unwrap_err().code(), "invalid");
    }
    refused(&RunRequest {
        ca_bundle: Some("ca.pem".into()),
        ..image()
    });
}
