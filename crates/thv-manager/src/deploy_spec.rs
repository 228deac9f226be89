//! From a run configuration to what a runtime deploys. Pure: secrets come in resolved.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use thv_core::{LimitsSection, Mount, MountSource, PublishSpec, RunConfig, TransportType, WorkloadName};
use thv_runtime::{
    Capabilities, DeploySpec, Egress, Expect, HiddenPath, Limits, MountBind, NamedVolume, NetworkMode,
    PortBinding, Runtime,
};

use crate::{Error, Result};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What the configuration alone does not say.
pub(crate) struct Surroundings<'a> {
    /// What the runtime can do.
    pub(crate) capabilities: &'a Capabilities,
    /// What to deploy instead of the configuration's image: what was resolved when it was saved.
    pub(crate) image: Option<&'a str>,
    /// Environment variables that carry secrets, resolved.
    pub(crate) secrets: BTreeMap<String, String>,
    /// What ignore files hide of the mounts.
    pub(crate) hidden: Vec<HiddenPath>,
    /// The installation that owns the instance.
    pub(crate) owner: &'a str,
    /// What must be there under the name.
    pub(crate) expect: Expect,
}

/// Whether `runtime` can do what `config` asks for, found out before anything is saved.
pub(crate) fn check(
    name: &WorkloadName,
    config: &RunConfig,
    hidden: &[HiddenPath],
    runtime: &dyn Runtime,
) -> Result<()> {
    let capabilities = runtime.capabilities();
    let around = Surroundings {
        capabilities: &capabilities,
        image: None,
        secrets: BTreeMap::new(),
        hidden: hidden.to_vec(),
        owner: "",
        expect: Expect::Absent,
    };
    // The port is chosen later, and says nothing about what can be done.
    let config = RunConfig {
        target_port: config.target_port.max(1),
        ..config.clone()
    };
    let spec = deploy_spec(name, &config, around)?;
    Ok(capabilities.check(runtime.kind(), &spec)?)
}

/// Builds what to deploy for `config`.
pub(crate) fn deploy_spec(
    name: &WorkloadName,
    config: &RunConfig,
    around: Surroundings<'_>,
) -> Result<DeploySpec> {
    let mut spec = DeploySpec::new(name.clone(), around.image.unwrap_or(&config.image));
    if !config.container_name.is_empty() {
        spec.instance_name.clone_from(&config.container_name);
    }
    spec.command.clone_from(&config.cmd_args);
    spec.transport = config.transport;
    spec.env = config.env_vars.clone();
    spec.env
        .insert("MCP_TRANSPORT".into(), config.transport.as_str().into());
    if matches!(
        config.transport,
        TransportType::Sse | TransportType::StreamableHttp
    ) {
        let port = config.target_port;
        if port == 0 {
            return Err(invalid("target_port", "an HTTP server needs one"));
        }
        // A container must listen on its own address to be reached; a process must not listen on others than ours.
        let host = if around.capabilities.images {
            "0.0.0.0"
        } else {
            "127.0.0.1"
        };
        spec.env.insert("MCP_HOST".into(), host.into());
        for variable in ["MCP_PORT", "FASTMCP_PORT"] {
            spec.env.insert(variable.into(), port.to_string());
        }
        spec.target = Some(PortBinding {
            container_port: port,
            host_ip: Some(LOOPBACK),
            host_port: port,
        });
    }
    spec.env.extend(around.secrets);
    spec.labels = config.container_labels.clone();
    spec.labels.insert(thv_labels::OWNER.into(), around.owner.into());
    for text in &config.publish {
        let publish = PublishSpec::parse(text).map_err(|e| invalid("publish", e.to_string()))?;
        spec.publish.push(PortBinding {
            container_port: publish.container_port,
            host_ip: None,
            host_port: publish.host_port.unwrap_or(0),
        });
    }
    if let Some(profile) = &config.permission_profile {
        spec.privileged = profile.privileged;
        spec.network = match profile.network_mode() {
            "" | "bridge" | "default" => NetworkMode::Bridge,
            "host" => NetworkMode::Host,
            "none" => NetworkMode::None,
            other => NetworkMode::Named(other.to_owned()),
        };
        (spec.mounts, spec.volumes) = mounts(&profile.read, &profile.write)?;
    }
    spec.hidden = around.hidden;
    spec.limits = limits(&config.thv.limits);
    spec.read_only = config.thv.read_only;
    // What a stdio server answers is its users' data: no engine need keep it.
    spec.private_output = spec.transport == TransportType::Stdio && around.capabilities.private_output;
    spec.isolate_network = isolates(config, around.capabilities);
    if spec.isolate_network {
        spec.egress = egress(config);
    }
    check_inbound(config)?;
    spec.expect = around.expect;
    Ok(spec)
}

/// Read-only binds, then writable ones; a writable one on the same target wins.
fn mounts(read: &[String], write: &[String]) -> Result<(Vec<MountBind>, Vec<NamedVolume>)> {
    let mut binds: Vec<MountBind> = Vec::new();
    let mut volumes: Vec<NamedVolume> = Vec::new();
    for (texts, read_only) in [(read, true), (write, false)] {
        for text in texts {
            let mount = Mount::parse(text).map_err(|e| invalid("permission_profile", e.to_string()))?;
            let source = match mount.source {
                MountSource::Path(source) => source,
                MountSource::Resource { scheme, resource } if scheme == "volume" => {
                    match volumes.iter_mut().find(|volume| volume.target == mount.target) {
                        Some(volume) => volume.read_only &= read_only,
                        None => volumes.push(NamedVolume {
                            name: resource,
                            target: mount.target,
                            read_only,
                        }),
                    }
                    continue;
                }
                _ => {
                    return Err(Error::Unsupported {
                        what: format!("mount \"{text}\""),
                        detail: "only host paths and volume://name can be mounted".into(),
                    });
                }
            };
            let source = PathBuf::from(source);
            if !source.is_absolute() {
                return Err(invalid(
                    "permission_profile",
                    format!("the path in \"{text}\" is not absolute"),
                ));
            }
            match binds.iter_mut().find(|bind| bind.target == mount.target) {
                Some(bind) => bind.read_only &= read_only,
                None => binds.push(MountBind {
                    source,
                    target: mount.target,
                    read_only,
                }),
            }
        }
    }
    Ok((binds, volumes))
}

/// Whether the network is isolated: where it is required, and wherever it can be unless the configuration says otherwise.
/// A server with all rights gets around it, so there it is not pretended.
pub(crate) fn isolates(config: &RunConfig, can: &Capabilities) -> bool {
    config.requires_isolation() || (config.isolate_network && can.network_isolation && !is_privileged(config))
}

/// Whether the server has all rights.
pub(crate) fn is_privileged(config: &RunConfig) -> bool {
    config
        .permission_profile
        .as_ref()
        .is_some_and(|profile| profile.privileged)
}

/// What the profile lets an isolated server reach. A profile without a `network` section limits nothing.
fn egress(config: &RunConfig) -> Egress {
    let network = config
        .permission_profile
        .as_ref()
        .map(|profile| profile.network.as_ref());
    let mut egress = match network {
        Some(Some(network)) => {
            let outbound = network.outbound.clone().unwrap_or_default();
            Egress {
                everything: outbound.insecure_allow_all,
                hosts: outbound.allow_host,
                ports: outbound.allow_port,
                ..Egress::default()
            }
        }
        Some(None) => Egress {
            everything: true,
            ..Egress::default()
        },
        None => Egress::default(),
    };
    egress.engine_host = config.allow_docker_gateway;
    egress
}

/// The hosts by whose names alone an isolated HTTP server may be asked for; none is no such limit. The proxy sees to it, as
/// it is the only way in, so this holds also where the runtime cannot isolate.
pub(crate) fn inbound_hosts(config: &RunConfig) -> &[String] {
    let http = matches!(
        config.transport,
        TransportType::Sse | TransportType::StreamableHttp
    );
    let isolated = config.isolate_network || config.requires_isolation();
    let network = config
        .permission_profile
        .as_ref()
        .and_then(|profile| profile.network.as_ref());
    match network.and_then(|network| network.inbound.as_ref()) {
        Some(inbound) if http && isolated && config.remote_url.is_empty() => &inbound.allow_host,
        _ => &[],
    }
}

/// A host that none can be would shut out everybody.
fn check_inbound(config: &RunConfig) -> Result<()> {
    let is_host = |host: &str| {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        host.parse::<IpAddr>().is_ok() || (name.len() > 1 && name.bytes().all(fits))
    };
    match inbound_hosts(config).iter().find(|host| !is_host(host)) {
        None => Ok(()),
        Some(host) => Err(invalid(
            "permission_profile.network.inbound.allow_host",
            format!("\"{host}\" is no host; write a name without port, or .example.com for all below it"),
        )),
    }
}

fn limits(wanted: &LimitsSection) -> Limits {
    Limits {
        memory: u64::try_from(wanted.memory).ok().filter(|bytes| *bytes > 0),
        cpus: wanted.cpus(),
        pids: u32::try_from(wanted.pids).ok().filter(|count| *count > 0),
    }
}

fn invalid(what: &str, detail: impl Into<String>) -> Error {
    Error::Invalid {
        what: what.into(),
        detail: detail.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(config: &RunConfig, capabilities: &Capabilities) -> Result<DeploySpec> {
        let around = Surroundings {
            capabilities,
            image: Some("sha256:abc"),
            secrets: BTreeMap::from([("TOKEN".to_owned(), "s3cret".to_owned())]),
            hidden: Vec::new(),
            owner: "me",
            expect: Expect::Absent,
        };
        deploy_spec(&WorkloadName::new("fetch").unwrap(), config, around)
    }

    #[test]
    fn http_servers_get_their_port_and_are_bound_to_loopback_only() {
        let config = RunConfig {
            image: "fetch:1".into(),
            transport: TransportType::StreamableHttp,
            target_port: 8080,
            host: "0.0.0.0".into(),
            ..RunConfig::default()
        };
        let spec = built(&config, &Capabilities::default()).unwrap();
        assert_eq!(spec.target.unwrap().host_ip, Some(LOOPBACK));
        assert_eq!(spec.env["MCP_PORT"], "8080");
        assert_eq!(spec.env["MCP_HOST"], "127.0.0.1");
        assert_eq!(spec.image, "sha256:abc", "what was resolved is what runs");
        assert_eq!(spec.env["TOKEN"], "s3cret");
        assert_eq!(spec.labels[thv_labels::OWNER], "me");
    }

    #[test]
    fn a_writable_mount_on_the_same_target_wins() {
        let read = ["/a:/x".into(), "/b".into(), "volume://cache:/c".into()];
        let (binds, volumes) = mounts(&read, &["/a:/x".into(), "volume://cache:/c".into()]).unwrap();
        let shown: Vec<_> = binds.iter().map(|b| (b.target.as_str(), b.read_only)).collect();
        assert_eq!(shown, [("/x", false), ("/b", true)]);
        let shown: Vec<_> = volumes
            .iter()
            .map(|v| (v.name.as_str(), v.target.as_str(), v.read_only))
            .collect();
        assert_eq!(shown, [("cache", "/c", false)]);
    }

    #[test]
    fn a_relative_source_is_refused() {
        assert_eq!(mounts(&["a:/x".into()], &[]).unwrap_err().code(), "invalid");
    }

    #[test]
    fn limits_are_those_of_the_configuration() {
        let text = br#"{"image": "a", "transport": "stdio", "thv": {"limits": {"memory": 67108864, "cpus": "0.5", "pids": 20}, "read_only": true}}"#;
        let config = RunConfig::from_json(text).unwrap();
        let spec = built(&config, &Capabilities::default()).unwrap();
        let limits = spec.limits;
        assert_eq!(
            (limits.memory, limits.cpus, limits.pids),
            (Some(64 << 20), Some(0.5), Some(20))
        );
        assert!(spec.read_only);
        let spec = built(&RunConfig::default(), &Capabilities::default()).unwrap();
        assert_eq!((spec.limits, spec.read_only), (Limits::default(), false));
    }

    #[test]
    fn a_profile_that_is_silent_on_the_network_limits_nothing_and_one_that_allows_nothing_all() {
        let all = || Egress {
            everything: true,
            ..Egress::default()
        };
        let some = Egress {
            hosts: vec![".a.example".to_owned()],
            ports: vec![443],
            engine_host: true,
            ..Egress::default()
        };
        for (more, expected) in [
            ("", Egress::default()),
            (r#", "permission_profile": {}"#, all()),
            (r#", "permission_profile": {"network": {}}"#, Egress::default()),
            (
                r#", "permission_profile": {"network": {"outbound": {}}}"#,
                Egress::default(),
            ),
            (
                r#", "permission_profile": {"network": {"outbound": {"insecure_allow_all": true}}}"#,
                all(),
            ),
            (
                r#", "allow_docker_gateway": true, "permission_profile": {"network": {"outbound": {"allow_host": [".a.example"], "allow_port": [443]}}}"#,
                some,
            ),
        ] {
            let text = format!(r#"{{"image": "a", "transport": "stdio"{more}}}"#);
            let config = RunConfig::from_json(text.as_bytes()).unwrap();
            assert_eq!(egress(&config), expected, "{more}");
        }
    }

    #[test]
    fn a_list_of_hosts_counts_for_isolated_http_servers_and_names_hosts() {
        let config = |transport: &str, more: &str, host: &str| {
            let text = format!(
                r#"{{"image": "a", "transport": "{transport}", "target_port": 8080{more}, "permission_profile":
                    {{"network": {{"outbound": {{"insecure_allow_all": true}}, "inbound": {{"allow_host": ["{host}"]}}}}}}}}"#
            );
            RunConfig::from_json(text.as_bytes()).unwrap()
        };
        let isolated = r#", "isolate_network": true"#;
        for (transport, more, count) in [
            ("sse", isolated, 1),
            ("streamable-http", isolated, 1),
            ("stdio", isolated, 0),
            ("sse", r#", "isolate_network": false"#, 0),
        ] {
            let config = config(transport, more, ".a.example");
            assert_eq!(inbound_hosts(&config).len(), count, "{transport}{more}");
        }
        for (host, good) in [
            ("localhost", true),
            (".a.example", true),
            ("*.a.example", true),
            ("::1", true),
            ("a.example:80", false),
            ("http://a.example", false),
            ("*", false),
            ("a.*.example", false),
            ("", false),
        ] {
            let built = built(&config("sse", isolated, host), &Capabilities::default());
            assert_eq!(built.is_ok(), good, "{host}: {built:?}");
        }
    }
}
