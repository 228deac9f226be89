use thv_core::PermissionProfile;

use super::super::MemoryFiles;
use super::*;
use crate::MemoryPorts;

mod access;
mod proxy;

fn build_with(request: &RunRequest, env: &[(&str, &str)], files: MemoryFiles) -> Result<Built> {
    let env = Env::from_vars(env.iter().copied());
    build(
        request,
        &Sources {
            env: &env,
            dirs: &Dirs::under("/base"),
            files: &files,
            ports: &MemoryPorts::default()
                .with_host("box", ["fe80::1", "192.0.2.7"])
                .with_host("six", ["::1"]),
        },
    )
}

fn built(request: &RunRequest) -> Built {
    build_with(request, &[], MemoryFiles::default()).unwrap()
}

/// The error's text, which must be about a part of the request.
fn refused(request: &RunRequest) -> String {
    let error = build_with(request, &[], MemoryFiles::default()).unwrap_err();
    assert!(matches!(error.code(), "invalid" | "invalid_name"), "{error}");
    error.to_string()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn image() -> RunRequest {
    RunRequest::new("docker.io/mcp/everything:1.4.0")
}

#[test]
fn a_stdio_configuration_is_what_toolhive_writes_byte_for_byte() {
    let request = RunRequest {
        name: Some("everything".into()),
        transport: Some(TransportType::Stdio),
        env: strings(&["LOG_LEVEL=debug"]),
        secrets: strings(&["everything-key,target=API_KEY"]),
        ..image()
    };
    let mut built = built(&request);
    set_ports(&mut built.config, 34127, None);
    let expected = r#"{
  "schema_version": "v0.1.0",
  "image": "docker.io/mcp/everything:1.4.0",
  "name": "everything",
  "container_name": "everything",
  "base_name": "everything",
  "transport": "stdio",
  "host": "127.0.0.1",
  "port": 34127,
  "target_host": "127.0.0.1",
  "permission_profile": {
    "name": "network",
    "network": {
      "outbound": {
        "insecure_allow_all": true
      },
      "inbound": {}
    }
  },
  "env_vars": {
    "LOG_LEVEL": "debug",
    "MCP_TRANSPORT": "stdio"
  },
  "container_labels": {
    "toolhive": "true",
    "toolhive-basename": "everything",
    "toolhive-name": "everything",
    "toolhive-port": "34127",
    "toolhive-transport": "stdio"
  },
  "secrets": [
    "everything-key,target=API_KEY"
  ],
  "isolate_network": true,
  "proxy_mode": "streamable-http",
  "group": "default",
  "ignore_config": {
    "LoadGlobal": true,
    "PrintOverlays": false
  },
  "middleware_configs": [
    {
      "type": "auth",
      "parameters": {}
    },
    {
      "type": "mcp-parser",
      "parameters": {}
    },
    {
      "type": "recovery",
      "parameters": null
    }
  ]
}
"#;
    assert_eq!(built.config.to_json(), expected);
    assert_eq!(built.runtime, RuntimeChoice::DefaultEngine);
}

#[test]
fn ports_stand_in_configuration_label_and_environment() {
    let mut built = built(&image());
    set_ports(&mut built.config, 28733, Some(8080));
    let config = &built.config;
    assert_eq!((config.port, config.target_port), (28733, 8080));
    assert_eq!(config.container_labels["toolhive-port"], "28733");
    let env: Vec<_> = config
        .env_vars
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(
        env,
        [
            "FASTMCP_PORT=8080",
            "MCP_PORT=8080",
            "MCP_TRANSPORT=streamable-http"
        ]
    );
}

#[test]
fn ports_that_were_asked_for_stand_in_the_configuration() {
    let config = built(&RunRequest {
        proxy_port: Some(28733),
        target_port: Some(8080),
        ..image()
    })
    .config;
    assert_eq!((config.port, config.target_port), (28733, 8080));
    assert_eq!(config.container_labels["toolhive-port"], "28733");
}

#[test]
fn a_stdio_server_is_told_no_port() {
    let mut config = RunConfig::from_json(br#"{"transport": "stdio", "target_port": 8080}"#).unwrap();
    set_ports(&mut config, 28733, Some(8080));
    assert_eq!(config.env_vars.keys().collect::<Vec<_>>(), ["MCP_TRANSPORT"]);
    assert_eq!(config.target_port, 8080);
}

#[test]
fn a_remote_server_needs_no_runtime_and_keeps_its_url() {
    let url = "https://mcp.example.com/v1/mcp?tenant=a&region=eu";
    let request = RunRequest {
        forward_headers: strings(&["x-team=platform"]),
        ..RunRequest::new(url)
    };
    let Built { config, runtime, .. } = build_with(
        &request,
        &[("TOOLHIVE_RUNTIME", "docker")],
        MemoryFiles::default(),
    )
    .unwrap();
    assert_eq!(runtime, RuntimeChoice::Remote);
    assert_eq!((config.image.as_str(), config.remote_url.as_str()), (url, url));
    assert_eq!(
        (config.name.as_str(), config.target_host.as_str()),
        ("example", "mcp.example.com")
    );
    assert_eq!(config.transport, TransportType::StreamableHttp);
    assert_eq!(
        config.header_forward.unwrap().add_plaintext_headers["X-Team"],
        "platform"
    );
}

#[test]
fn what_has_no_effect_on_a_server_is_refused_by_name() {
    let remote = || RunRequest::new("https://example.com/mcp");
    for (field, request) in [
        (
            "args",
            RunRequest {
                args: strings(&["x"]),
                ..remote()
            },
        ),
        (
            "env",
            RunRequest {
                env: strings(&["A=b"]),
                ..remote()
            },
        ),
        (
            "volumes",
            RunRequest {
                volumes: strings(&["/a:/b"]),
                ..remote()
            },
        ),
        (
            "isolate_network",
            RunRequest {
                isolate_network: Some(true),
                ..remote()
            },
        ),
        (
            "runtime",
            RunRequest {
                runtime: Some("docker".into()),
                ..remote()
            },
        ),
        (
            "transport",
            RunRequest {
                transport: Some(TransportType::Stdio),
                ..remote()
            },
        ),
        (
            "forward_headers",
            RunRequest {
                forward_headers: strings(&["A=b"]),
                ..image()
            },
        ),
        (
            "target_port",
            RunRequest {
                transport: Some(TransportType::Stdio),
                target_port: Some(1),
                ..image()
            },
        ),
        (
            "target_host",
            RunRequest {
                target_host: Some("192.0.2.1".into()),
                ..image()
            },
        ),
    ] {
        let text = refused(&request);
        assert!(text.starts_with(&format!("invalid {field}")), "{text}");
    }
}

#[test]
fn programs_run_locally_and_packages_only_when_told_so() {
    let local = Some(RuntimeKind::new("local"));
    assert_eq!(
        built(&RunRequest::new("exec:///bin/server")).runtime,
        RuntimeChoice::Local
    );
    for server in ["uvx://mcp-server-time", "npx://@scope/server"] {
        let text = refused(&RunRequest::new(server));
        assert!(
            text.contains("local runtime only") && text.contains("without a container"),
            "{text}"
        );
        assert!(
            refused(&RunRequest {
                runtime: Some("docker".into()),
                ..RunRequest::new(server)
            })
            .contains("local")
        );
        let request = RunRequest {
            runtime: local.clone(),
            ..RunRequest::new(server)
        };
        assert_eq!(built(&request).runtime, RuntimeChoice::Local);
        let from_env = build_with(
            &RunRequest::new(server),
            &[("TOOLHIVE_RUNTIME", " local ")],
            MemoryFiles::default(),
        );
        assert_eq!(from_env.unwrap().runtime, RuntimeChoice::Local);
    }
    assert!(
        refused(&RunRequest {
            runtime: local,
            ..image()
        })
        .contains("runs no images")
    );
    refused(&RunRequest {
        runtime: Some("docker".into()),
        ..RunRequest::new("exec:///bin/server")
    });
    let docker = RunRequest {
        runtime: Some("docker".into()),
        ..image()
    };
    assert_eq!(built(&docker).runtime, RuntimeChoice::Named("docker".into()));
}

#[test]
fn a_name_is_refused_with_its_rule_not_changed() {
    for name in ["../x", "a\0b", "-x", ".x", "", "x.json", &"a".repeat(101)] {
        assert!(
            refused(&RunRequest {
                name: Some(name.into()),
                ..image()
            })
            .contains("a name "),
            "{name:?}"
        );
    }
    assert_eq!(built(&image()).config.name, "mcp-everything");
}

#[test]
fn an_environment_that_is_not_there_is_not_empty() {
    let missing = |env_file: Option<&str>, env_file_dir: Option<&str>| {
        let request = RunRequest {
            env_file: env_file.map(Into::into),
            env_file_dir: env_file_dir.map(Into::into),
            ..image()
        };
        build_with(&request, &[], MemoryFiles::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(missing(Some("env"), None), "cannot read the env file /here/env");
    assert_eq!(missing(None, Some("dir")), "cannot list the env folder /here/dir");
}

#[test]
fn the_environment_is_merged_from_files_and_flags() {
    let files = MemoryFiles::default()
        .with("/here/env", "# comment\n\nexport A=file\nB = x=y \n")
        .with("/here/dir/.hidden", "bad line")
        .with("/here/dir/one", "C=dir\nA=dir\n");
    let request = RunRequest {
        env_file: Some("env".into()),
        env_file_dir: Some("dir".into()),
        env: strings(&["C=flag", "D=", "E= =\n"]),
        ..image()
    };
    assert!(
        build_with(&request, &[], files)
            .unwrap_err()
            .to_string()
            .contains("line 4"),
        "white space in a name"
    );

    let files = MemoryFiles::default()
        .with("/here/env", "export A=file\nB=x=y\n")
        .with("/here/dir/one", "C=dir\nA=dir");
    let env = build_with(&request, &[], files).unwrap().config.env_vars;
    let expected = [
        ("A", "dir"),
        ("B", "x=y"),
        ("C", "flag"),
        ("D", ""),
        ("E", " =\n"),
    ];
    for (key, value) in expected {
        assert_eq!(env[key], value, "{key}");
    }
}

#[test]
fn bad_variables_and_secrets_are_refused_without_their_values() {
    for text in [
        "s3cret",
        "=s3cret",
        "A\0=s3cret",
        "A\n=s3cret",
        "A=s3cret\0",
        "MCP_TRANSPORT=s3cret",
        "MCP_PORT=1",
    ] {
        let shown = refused(&RunRequest {
            env: strings(&[text]),
            ..image()
        });
        assert!(
            shown.starts_with("invalid env") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
    for secrets in [
        &["s3cret"][..],
        &["a,target="],
        &["a,target=MCP_HOST"],
        &["a,target=X", "b,target=X"],
    ] {
        let shown = refused(&RunRequest {
            secrets: strings(secrets),
            ..image()
        });
        assert!(
            shown.starts_with("invalid secrets") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
    let stdio = RunRequest {
        transport: Some(TransportType::Stdio),
        env: strings(&["MCP_PORT=1"]),
        ..image()
    };
    assert_eq!(
        built(&stdio).config.env_vars["MCP_PORT"],
        "1",
        "a stdio server's own affair"
    );
}

#[test]
fn the_rest_is_checked_and_stored_in_its_form() {
    let request = RunRequest {
        group: Some("my team".into()),
        session_ttl: Some("30m".into()),
        publish: strings(&["19090:9090"]),
        ignore_globally: Some(false),
        ..image()
    };
    let config = built(&request).config;
    assert_eq!(
        (config.group.as_str(), config.session_ttl.as_str()),
        ("my team", "30m0s")
    );
    assert!(!config.ignore_config.unwrap().load_global);
    for request in [
        RunRequest {
            group: Some("Team".into()),
            ..image()
        },
        RunRequest {
            group: Some(" team".into()),
            ..image()
        },
        RunRequest {
            session_ttl: Some("-1s".into()),
            ..image()
        },
        RunRequest {
            session_ttl: Some("soon".into()),
            ..image()
        },
        RunRequest {
            publish: strings(&["http"]),
            ..image()
        },
        RunRequest {
            target_host: Some("a b".into()),
            ..image()
        },
        RunRequest {
            args: strings(&["a\0"]),
            ..image()
        },
        RunRequest {
            transport: Some(TransportType::Inspector),
            ..image()
        },
    ] {
        refused(&request);
    }
}
