use thv_core::{NetworkPermissions, OutboundPermissions};
use thv_registry::{EntryInfo, OAuthConfig};

use super::*;
use crate::MemoryPorts;
use crate::request::{Built, MemoryFiles, build};

fn info(transport: TransportType) -> EntryInfo {
    EntryInfo {
        name: "io.example/tool".into(),
        transport,
        ..EntryInfo::default()
    }
}

fn variable(name: &str, required: bool, default: &str, secret: bool) -> EnvVarSpec {
    EnvVarSpec {
        name: name.into(),
        required,
        default: default.into(),
        secret,
        ..EnvVarSpec::default()
    }
}

fn image() -> ImageEntry {
    ImageEntry {
        info: info(TransportType::StreamableHttp),
        image: "ghcr.io/example/tool:1.4.0".into(),
        target_port: 8080,
        args: vec!["--from".into(), "entry".into()],
        ..ImageEntry::default()
    }
}

fn remote() -> RemoteEntry {
    RemoteEntry {
        info: info(TransportType::Sse),
        url: "https://mcp.example.com/sse".into(),
        ..RemoteEntry::default()
    }
}

fn sources(test: impl FnOnce(&Sources<'_>)) {
    let (env, dirs) = (thv_core::Env::default(), thv_core::Dirs::under("/base"));
    let (files, ports) = (MemoryFiles::default(), MemoryPorts::default());
    test(&Sources {
        env: &env,
        dirs: &dirs,
        files: &files,
        ports: &ports,
    });
}

fn planned(request: RunRequest, entry: Entry) -> Result<EntryPlan> {
    let mut result = None;
    sources(|sources| {
        let given = given_names(&request, &entry, sources).unwrap();
        let source = Source::Url("https://registry.example.com/r.json".into());
        result = Some(plan(request, &Arc::new(entry), &source, &given));
    });
    result.unwrap()
}

fn built(request: RunRequest, entry: Entry) -> Built {
    let request = planned(request, entry).unwrap().into_request().unwrap();
    let mut result = None;
    sources(|sources| result = Some(build(&request, sources).unwrap()));
    result.unwrap()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn an_entry_says_what_the_user_does_not() {
    let config = built(RunRequest::new("tool"), Entry::Image(image())).config;
    assert_eq!(config.name, "io-example-tool");
    assert_eq!(config.image, "ghcr.io/example/tool:1.4.0");
    assert_eq!(config.transport, TransportType::StreamableHttp);
    assert_eq!(config.target_port, 8080);
    assert_eq!(config.cmd_args, ["--from", "entry"]);
    assert_eq!(config.registry_server_name, "io.example/tool");
    assert_eq!(config.registry_url, "https://registry.example.com/r.json");
    assert_eq!(config.registry_api_url, "");
    assert_eq!(config.permission_profile.unwrap().name, "network");
}

#[test]
fn what_the_user_says_counts() {
    let request = RunRequest {
        name: Some("mine".into()),
        args: strings(&["--mine"]),
        target_port: Some(9),
        transport: Some(TransportType::Sse),
        ..RunRequest::new("tool")
    };
    let config = built(request, Entry::Image(image())).config;
    assert_eq!((config.name.as_str(), config.target_port), ("mine", 9));
    assert_eq!(config.cmd_args, ["--mine"]);
    assert_eq!(config.transport, TransportType::Sse);
}

#[test]
fn a_stdio_server_gets_no_ports_of_an_entry() {
    let entry = ImageEntry {
        info: info(TransportType::Stdio),
        proxy_port: 1234,
        ..image()
    };
    let config = built(RunRequest::new("tool"), Entry::Image(entry)).config;
    assert_eq!((config.port, config.target_port), (0, 0));
}

#[test]
fn variables_have_defaults_and_all_that_are_missing_are_named_at_once() {
    let entry = ImageEntry {
        env_vars: vec![
            variable("GIVEN", true, "", false),
            variable("KEY", true, "", true),
            variable("URL", true, "", false),
            variable("MODE", false, "fast", false),
            variable("TIMEOUT", true, "5", false),
            variable("OPTIONAL", false, "", false),
            variable("TOKEN", true, "", true),
            variable("MCP_PORT", true, "", false),
        ],
        ..image()
    };
    let request = RunRequest {
        env: strings(&["GIVEN=1", "MODE=slow"]),
        secrets: strings(&["mine,target=TOKEN"]),
        ..RunRequest::new("tool")
    };
    let plan = planned(request.clone(), Entry::Image(entry.clone())).unwrap();
    let names: Vec<_> = plan
        .missing()
        .iter()
        .map(|missing| missing.name.as_str())
        .collect();
    assert_eq!(names, ["KEY", "URL"]);
    let error = plan.into_request().unwrap_err();
    assert_eq!(error.code(), "missing_values");
    assert!(error.to_string().ends_with("needs KEY, URL"), "{error}");

    let mut plan = planned(request, Entry::Image(entry)).unwrap();
    assert!(
        plan.supply("KEY", "s3cret").is_err(),
        "a secret is not kept as plain text"
    );
    plan.supply_secret("KEY", "registry-user-key").unwrap();
    plan.supply("URL", "https://a.example").unwrap();
    assert!(plan.supply("URL", "again").is_err());
    let mut config = None;
    let request = plan.into_request().unwrap();
    sources(|sources| config = Some(build(&request, sources).unwrap().config));
    let config = config.unwrap();
    let env = |name: &str| config.env_vars.get(name).map(String::as_str);
    assert_eq!(
        (env("GIVEN"), env("MODE"), env("TIMEOUT")),
        (Some("1"), Some("slow"), Some("5"))
    );
    assert_eq!(
        (env("URL"), env("OPTIONAL"), env("KEY")),
        (Some("https://a.example"), None, None)
    );
    assert_eq!(
        config.secrets,
        ["mine,target=TOKEN", "registry-user-key,target=KEY"]
    );
}

#[test]
fn permissions_beyond_the_built_in_profiles_have_to_be_accepted() {
    let network = |mode: &str| NetworkPermissions {
        mode: mode.into(),
        ..NetworkPermissions::default()
    };
    let profile = |change: &dyn Fn(&mut PermissionProfile)| {
        let mut profile = PermissionProfile::network();
        change(&mut profile);
        Entry::Image(ImageEntry {
            permissions: Some(profile),
            ..image()
        })
    };
    for (entry, grant) in [
        (profile(&|p| p.privileged = true), "privileged"),
        (
            profile(&|p| p.network = Some(network("host"))),
            "network mode host",
        ),
        (
            profile(&|p| p.network = Some(network("container:x"))),
            "network mode container:x",
        ),
        (profile(&|p| p.read = vec!["/etc".into()]), "read /etc"),
        (
            profile(&|p| p.write = vec!["/home/me:/data".into()]),
            "read and write /home/me:/data",
        ),
    ] {
        let error = planned(RunRequest::new("tool"), entry.clone())
            .unwrap()
            .into_request()
            .unwrap_err();
        assert_eq!(error.code(), "permissions_not_accepted");
        assert!(error.to_string().contains(grant), "{error}");
        let mut plan = planned(RunRequest::new("tool"), entry.clone()).unwrap();
        plan.accept_permissions();
        plan.into_request().unwrap();
        let chosen = RunRequest {
            permission_profile: Some("none".into()),
            ..RunRequest::new("tool")
        };
        assert_eq!(
            planned(chosen, entry).unwrap().grants(),
            [""; 0],
            "whoever names a profile has chosen"
        );
    }
    for entry in [
        profile(&|_| {}),
        profile(&|p| p.network = Some(network("none"))),
        Entry::Image(image()),
    ] {
        assert_eq!(planned(RunRequest::new("tool"), entry).unwrap().grants(), [""; 0]);
    }
}

#[test]
fn the_entrys_permissions_are_those_of_the_workload() {
    let outbound = OutboundPermissions {
        allow_host: strings(&["api.example.com"]),
        ..OutboundPermissions::default()
    };
    let entry = ImageEntry {
        permissions: Some(PermissionProfile {
            network: Some(NetworkPermissions {
                outbound: Some(outbound.clone()),
                ..NetworkPermissions::default()
            }),
            ..PermissionProfile::default()
        }),
        ..image()
    };
    let config = built(RunRequest::new("tool"), Entry::Image(entry)).config;
    assert!(
        config.requires_isolation(),
        "a limit of the registry is enforced or refused"
    );
    let profile = config.permission_profile.unwrap();
    assert_eq!(profile.network.unwrap().outbound, Some(outbound));
    assert_eq!(config.permission_profile_name_or_path, "");
}

#[test]
fn a_remote_entry_becomes_a_remote_workload() {
    let header = |name: &str, required: bool, default: &str, secret: bool| HeaderSpec {
        name: name.into(),
        required,
        default: default.into(),
        secret,
        ..HeaderSpec::default()
    };
    let entry = RemoteEntry {
        headers: vec![
            header("X-Region", true, "eu", false),
            header("X-Api-Key", true, "", true),
            header("X-Trace", false, "", false),
        ],
        ..remote()
    };
    let error = planned(RunRequest::new("tool"), Entry::Remote(entry.clone()))
        .unwrap()
        .into_request()
        .unwrap_err();
    assert!(error.to_string().contains("X-Api-Key"));
    let request = RunRequest {
        forward_headers: strings(&["x-api-key=k"]),
        ..RunRequest::new("tool")
    };
    let config = built(request, Entry::Remote(entry)).config;
    assert_eq!(config.remote_url, "https://mcp.example.com/sse");
    assert_eq!(config.transport, TransportType::Sse);
    assert_eq!(config.name, "io-example-tool");
    assert_eq!(config.registry_server_name, "io.example/tool");
    let headers = config.header_forward.unwrap().add_plaintext_headers;
    assert_eq!(headers.get("X-Region").map(String::as_str), Some("eu"));
    assert_eq!(headers.get("X-Api-Key").map(String::as_str), Some("k"));
    assert_eq!(config.remote_auth_config, None);
}

#[test]
fn how_to_log_in_to_a_remote_server_is_kept() {
    let entry = RemoteEntry {
        oauth_config: Some(OAuthConfig {
            issuer: "https://auth.example.com".into(),
            scopes: strings(&["openid"]),
            ..OAuthConfig::default()
        }),
        ..remote()
    };
    let auth = built(RunRequest::new("tool"), Entry::Remote(entry))
        .config
        .remote_auth_config
        .unwrap();
    assert_eq!(
        (auth.issuer.as_str(), auth.use_pkce),
        ("https://auth.example.com", true)
    );
    assert_eq!(auth.scopes, ["openid"]);
}

#[test]
fn whatever_registry_it_is_no_entry_runs_a_program() {
    for server in [
        "exec:///bin/sh",
        "uvx://x",
        "npx://x",
        "https://a.example",
        "/bin/sh",
    ] {
        let entry = ImageEntry {
            image: server.into(),
            ..image()
        };
        let error = planned(RunRequest::new("tool"), Entry::Image(entry)).unwrap_err();
        assert_eq!(error.code(), "registry_entry_unusable", "{server}");
    }
    for server in ["exec:///bin/sh", "mcp/time", "file:///etc"] {
        let entry = RemoteEntry {
            url: server.into(),
            ..remote()
        };
        let error = planned(RunRequest::new("tool"), Entry::Remote(entry)).unwrap_err();
        assert_eq!(error.code(), "registry_entry_unusable", "{server}");
    }
}

#[test]
fn a_tool_that_an_entry_does_not_list_is_not_filtered_or_renamed() {
    let entry = |tools: &[&str]| {
        Entry::Image(ImageEntry {
            info: EntryInfo {
                tools: Some(strings(tools)),
                ..info(TransportType::Stdio)
            },
            ..image()
        })
    };
    let config = |request: RunRequest, entry: Entry| {
        let request = planned(request, entry).unwrap().into_request().unwrap();
        let mut result = None;
        sources(|sources| result = Some(build(&request, sources)));
        result.unwrap()
    };
    let filter = |tools: &[&str]| RunRequest {
        tools: strings(tools),
        ..RunRequest::new("tool")
    };
    assert!(config(filter(&["get"]), entry(&["get", "put"])).is_ok());
    assert!(config(filter(&["anything"]), entry(&[])).is_ok());
    let error = config(filter(&["get", "drop"]), entry(&["get", "put"])).unwrap_err();
    assert!(error.to_string().contains("\"drop\""), "{error}");
    let renamed = |tool: &str, name: &str, seen: &str| RunRequest {
        tools_override: [(
            tool.to_owned(),
            thv_core::ToolOverride {
                name: name.into(),
                description: "changed".into(),
                ..thv_core::ToolOverride::default()
            },
        )]
        .into(),
        ..filter(&[seen])
    };
    assert!(config(renamed("get", "fetch", "fetch"), entry(&["get"])).is_ok());
    assert!(config(renamed("get", "", "get"), entry(&["get"])).is_ok());
    assert!(config(renamed("get", "fetch", "get"), entry(&["get"])).is_err());
    assert!(config(renamed("drop", "get", "get"), entry(&["get"])).is_err());
}

#[test]
fn a_server_without_sessions_is_run_as_one() {
    let stateless = |transport| {
        Entry::Image(ImageEntry {
            info: EntryInfo {
                stateless: true,
                ..info(transport)
            },
            ..image()
        })
    };
    assert!(
        built(RunRequest::new("tool"), stateless(TransportType::StreamableHttp))
            .config
            .stateless
    );
    assert!(
        !built(RunRequest::new("tool"), stateless(TransportType::Stdio))
            .config
            .stateless
    );
}
