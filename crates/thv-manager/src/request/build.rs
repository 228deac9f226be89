//! From a request to a run configuration.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use thv_core::{
    Dirs, Env, GroupName, IgnoreConfig, Json, LimitsSection, MiddlewareConfig, ProxyMode, PublishSpec,
    RunConfig, SCHEMA_VERSION, TransportType, WorkloadName,
};
use thv_runtime::RuntimeKind;

use super::server::Server;
use super::{
    Files, RequestField, RunRequest, env, forward_headers, invalid, labels, permissions, refused,
    refused_value, shown, tools,
};
use crate::{Error, Ports, Result};

/// What a request is read with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// The application's environment.
    pub(crate) env: &'a Env,
    /// Its directories; a path that begins with `~/` is below `home`.
    pub(crate) dirs: &'a Dirs,
    /// The files that the request names.
    pub(crate) files: &'a dyn Files,
    /// The machine's addresses.
    pub(crate) ports: &'a dyn Ports,
}

/// Where the instance is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RuntimeChoice {
    /// Nowhere here: the server is remote.
    Remote,
    /// The runtime that was asked for.
    Named(RuntimeKind),
    /// The local runtime, because nothing else can run it.
    Local,
    /// The default engine.
    DefaultEngine,
}

/// A configuration that lacks nothing but ports that nobody asked for.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// The configuration; its ports are those that were asked for, else 0 until [`set_ports`].
    pub(crate) config: RunConfig,
    /// Where it is to run.
    pub(crate) runtime: RuntimeChoice,
    /// What the user should know, one line each.
    pub(crate) notices: Vec<String>,
}

/// Builds the configuration that `request` asks for. Nothing is touched.
pub(crate) fn build(request: &RunRequest, sources: &Sources<'_>) -> Result<Built> {
    let server = Server::parse(&request.server)?;
    let runtime = choose_runtime(request, &server, sources.env)?;
    let transport = transport(request, &server)?;
    refuse_without_effect(request, &server, transport)?;
    let name = match &request.name {
        Some(name) => WorkloadName::new(name)?,
        None => server.derived_name(),
    };
    let absolute = |path: &Path| absolute(path, sources);
    let mut notices = Vec::new();

    let mut config = RunConfig {
        schema_version: SCHEMA_VERSION.to_owned(),
        image: server.image(),
        remote_url: remote_url(&server),
        cmd_args: arguments(request)?,
        name: name.to_string(),
        container_name: name.to_string(),
        base_name: name.to_string(),
        transport,
        host: host(request, sources.ports, &mut notices)?,
        target_host: target_host(request, &server)?,
        allowed_origins: request.allowed_origins.clone(),
        publish: publish(request)?,
        env_vars: env::merge(request, transport, sources.files, &absolute)?,
        debug: request.debug,
        container_labels: labels::all(request, &name, transport, &mut notices)?,
        secrets: env::secrets(request, transport)?,
        session_ttl: session_ttl(request)?,
        proxy_mode: Some(proxy_mode(request, transport, &mut notices)),
        group: group(request)?,
        ignore_config: Some(IgnoreConfig {
            load_global: request.ignore_globally.unwrap_or(true),
            print_overlays: request.print_overlays,
            ..IgnoreConfig::default()
        }),
        middleware_configs: middleware(),
        header_forward: forward_headers::parse(request)?,
        endpoint_prefix: endpoint_prefix(request)?,
        thv_ca_bundle: ca_bundle(request, sources)?,
        trust_proxy_headers: request.trust_proxy_headers,
        strict_protocol_validation: request.strict_protocol_validation,
        stateless: stateless(request, transport)?,
        ..RunConfig::default()
    };
    config.allow_docker_gateway = request.allow_docker_gateway;
    config.thv.read_only = request.read_only;
    config.thv.limits = limits(request)?;
    permissions::apply(request, &mut config, sources.files, &absolute, &mut notices)?;
    notices.extend(permissions::unused_proxies(&config, sources.env));
    tools::apply(request, &mut config, sources.files, &absolute)?;
    #[cfg(feature = "registry")]
    if let Some(origin) = &request.origin {
        origin.check_tools(&config)?;
        origin.describe(&mut config);
    }
    let target = request.target_port.filter(|port| *port != 0);
    set_ports(&mut config, request.proxy_port.unwrap_or(0), target);
    Ok(Built {
        config,
        runtime,
        notices,
    })
}

/// Sets the ports everywhere that they stand in. A stdio server has no port of its own; one that a configuration has
/// all the same is kept, and told to nobody.
pub(crate) fn set_ports(config: &mut RunConfig, proxy: u16, target: Option<u16>) {
    config.port = proxy;
    config.target_port = target.unwrap_or(0);
    config
        .container_labels
        .insert(thv_labels::PORT.to_owned(), proxy.to_string());
    let mut set = |key: &str, value: String| config.env_vars.insert(key.to_owned(), value);
    set("MCP_TRANSPORT", config.transport.to_string());
    if let Some(target) = target.filter(|_| config.transport != TransportType::Stdio) {
        set("MCP_PORT", target.to_string());
        set("FASTMCP_PORT", target.to_string());
    }
}

fn choose_runtime(request: &RunRequest, server: &Server, env: &Env) -> Result<RuntimeChoice> {
    let local = RuntimeKind::new("local");
    let from_env = || {
        env.get("TOOLHIVE_RUNTIME")
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(RuntimeKind::from)
    };
    let asked = request.runtime.clone().or_else(from_env);
    match server {
        Server::Remote { .. } => match &request.runtime {
            Some(_) => Err(refused(
                RequestField::Runtime,
                "a remote server runs elsewhere: leave it out",
            )),
            None => Ok(RuntimeChoice::Remote),
        },
        Server::Program(_) => match &request.runtime {
            Some(kind) if *kind != local => Err(local_only(server)),
            _ => Ok(RuntimeChoice::Local),
        },
        Server::Package { .. } if asked.as_ref() != Some(&local) => Err(local_only(server)),
        Server::Package { .. } => Ok(RuntimeChoice::Local),
        Server::Image(reference) if asked.as_ref() == Some(&local) => Err(invalid(
            format!("server \"{}\"", shown(reference)),
            "the local runtime runs no images: give exec:///path/of/a/program, uvx://package or npx://package, or \
             choose an engine",
        )),
        Server::Image(_) => Ok(asked.map_or(RuntimeChoice::DefaultEngine, RuntimeChoice::Named)),
    }
}

fn local_only(server: &Server) -> Error {
    Error::LocalOnly {
        server: shown(&server.image()),
    }
}

fn transport(request: &RunRequest, server: &Server) -> Result<TransportType> {
    match (request.transport.unwrap_or(TransportType::StreamableHttp), server) {
        (TransportType::Inspector, _) => Err(refused_value(
            RequestField::Transport,
            "inspector",
            "use stdio, sse or streamable-http",
        )),
        (TransportType::Stdio, Server::Remote { .. }) => Err(refused_value(
            RequestField::Transport,
            "stdio",
            "a remote server speaks streamable-http or sse",
        )),
        (transport, _) => Ok(transport),
    }
}

/// What would have no effect is refused, never swallowed.
fn refuse_without_effect(request: &RunRequest, server: &Server, transport: TransportType) -> Result<()> {
    let refuse = |asked: &[(bool, RequestField)], detail: &str| match asked.iter().find(|(given, _)| *given) {
        Some((_, field)) => Err(refused(*field, detail)),
        None => Ok(()),
    };
    if let Server::Remote { .. } = server {
        let instance_only = [
            (!request.args.is_empty(), RequestField::Args),
            (!request.env.is_empty(), RequestField::Env),
            (request.env_file.is_some(), RequestField::EnvFile),
            (request.env_file_dir.is_some(), RequestField::EnvFileDir),
            (!request.volumes.is_empty(), RequestField::Volumes),
            (!request.publish.is_empty(), RequestField::Publish),
            (!request.secrets.is_empty(), RequestField::Secrets),
            (
                request.permission_profile.is_some(),
                RequestField::PermissionProfile,
            ),
            (request.network.is_some(), RequestField::Network),
            (
                request.isolate_network == Some(true),
                RequestField::IsolateNetwork,
            ),
            (request.allow_docker_gateway, RequestField::AllowDockerGateway),
            (request.memory.is_some(), RequestField::Memory),
            (request.cpus.is_some(), RequestField::Cpus),
            (request.pids_limit.is_some(), RequestField::PidsLimit),
            (request.read_only, RequestField::ReadOnly),
            (request.print_overlays, RequestField::PrintOverlays),
            (request.target_host.is_some(), RequestField::TargetHost),
            (request.target_port.is_some(), RequestField::TargetPort),
        ];
        return refuse(&instance_only, "it has no effect on a remote server");
    }
    refuse(
        &[(!request.forward_headers.is_empty(), RequestField::ForwardHeaders)],
        "only a remote server gets headers",
    )?;
    refuse(
        &[(request.ca_bundle.is_some(), RequestField::CaBundle)],
        "it says whom to believe when a remote server is asked",
    )?;
    if transport == TransportType::Stdio {
        let http_only = [
            (request.target_port.is_some(), RequestField::TargetPort),
            (request.target_host.is_some(), RequestField::TargetHost),
        ];
        return refuse(&http_only, "a server that speaks stdio has no port");
    }
    Ok(())
}

fn remote_url(server: &Server) -> String {
    match server {
        Server::Remote { url, .. } => url.clone(),
        _ => String::new(),
    }
}

fn arguments(request: &RunRequest) -> Result<Vec<String>> {
    if request.args.iter().any(|argument| argument.contains('\0')) {
        return Err(refused(RequestField::Args, "an argument has no NUL"));
    }
    Ok(request.args.clone())
}

fn limits(request: &RunRequest) -> Result<LimitsSection> {
    let limits = LimitsSection {
        memory: match request.memory {
            Some(0) => return Err(refused(RequestField::Memory, "0 is no limit: leave it out")),
            Some(bytes) => {
                i64::try_from(bytes).map_err(|_| refused(RequestField::Memory, "it is too large"))?
            }
            None => 0,
        },
        cpus: request.cpus.clone().unwrap_or_default(),
        pids: match request.pids_limit {
            Some(0) => {
                return Err(refused(
                    RequestField::PidsLimit,
                    "0 allows no process: leave it out",
                ));
            }
            limit => limit.map_or(0, i64::from),
        },
        ..LimitsSection::default()
    };
    if let Some(key) = limits.invalid_key() {
        let field = if key == "cpus" {
            RequestField::Cpus
        } else {
            RequestField::Memory
        };
        return Err(refused(field, "use a number above 0, such as 0.5"));
    }
    Ok(limits)
}

/// Loopback unless something else is asked for. A name is looked up once: the configuration keeps its address.
fn host(request: &RunRequest, ports: &dyn Ports, notices: &mut Vec<String>) -> Result<String> {
    let Some(text) = request.host.as_deref().filter(|host| !host.is_empty()) else {
        return Ok(Ipv4Addr::LOCALHOST.to_string());
    };
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.to_string());
    }
    let bad = |detail: String| refused_value(RequestField::Host, text, detail);
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let address = match bare.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address,
        Ok(IpAddr::V6(_)) => {
            return Err(bad("IPv6 is not supported: give an IPv4 address".into()));
        }
        Err(_) => resolve(text, ports).map_err(bad)?,
    };
    if !address.is_loopback() {
        notices.push(format!(
            "the proxy listens on {address}: other machines may reach it"
        ));
    }
    Ok(address.to_string())
}

/// The first IPv4 address of a host name, or what is wrong with it.
fn resolve(name: &str, ports: &dyn Ports) -> std::result::Result<Ipv4Addr, String> {
    const MAX_NAME: usize = 253;
    let word = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if name.len() > MAX_NAME || !name.chars().all(word) {
        return Err("give an IPv4 address of this machine, or a name of it".into());
    }
    let addresses = ports
        .resolve(name)
        .map_err(|error| format!("the name cannot be looked up: {error}"))?;
    let v4 = |address: &IpAddr| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    };
    addresses
        .iter()
        .find_map(v4)
        .ok_or_else(|| "the name has no IPv4 address".into())
}

fn target_host(request: &RunRequest, server: &Server) -> Result<String> {
    if let Server::Remote { authority, .. } = server {
        return Ok(authority.clone());
    }
    let here = Ipv4Addr::LOCALHOST.to_string();
    match request.target_host.as_deref() {
        None | Some("") => Ok(here),
        Some(host) if host == here || host.eq_ignore_ascii_case("localhost") => Ok(host.to_owned()),
        Some(host) => Err(refused_value(
            RequestField::TargetHost,
            host,
            "it would have no effect: a server is reached on this machine, at 127.0.0.1",
        )),
    }
}

fn publish(request: &RunRequest) -> Result<Vec<String>> {
    for text in &request.publish {
        PublishSpec::parse(text).map_err(|error| refused(RequestField::Publish, error.to_string()))?;
    }
    Ok(request.publish.clone())
}

fn session_ttl(request: &RunRequest) -> Result<String> {
    let Some(text) = request.session_ttl.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(String::new());
    };
    let ttl: thv_core::gojson::GoDuration = text
        .parse()
        .map_err(|error| refused(RequestField::SessionTtl, format!("{error}")))?;
    match ttl.to_std() {
        None => Err(refused(
            RequestField::SessionTtl,
            "a session does not live for less than no time",
        )),
        Some(ttl) if ttl.is_zero() => Ok(String::new()),
        Some(_) => Ok(ttl.to_string()),
    }
}

/// The path of the file; what it holds is read at each start.
fn ca_bundle(request: &RunRequest, sources: &Sources<'_>) -> Result<String> {
    let Some(path) = &request.ca_bundle else {
        return Ok(String::new());
    };
    let path = absolute(path, sources)?;
    check_certificates(&path, sources)?;
    let not_text = bad_bundle(&path, "the path is no text");
    path.into_os_string().into_string().map_err(|_| not_text)
}

/// Whether there are certificates in the file now.
pub(super) fn check_certificates(path: &Path, sources: &Sources<'_>) -> Result<()> {
    let text = sources.files.read(path);
    let text = text.map_err(|error| bad_bundle(path, format!("it cannot be read: {error}")))?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(bad_bundle(path, "there is no certificate in it"));
    }
    Ok(())
}

fn bad_bundle(path: &Path, detail: impl Into<String>) -> Error {
    refused_value(RequestField::CaBundle, &path.to_string_lossy(), detail)
}

fn endpoint_prefix(request: &RunRequest) -> Result<String> {
    let prefix = request.endpoint_prefix.clone().unwrap_or_default();
    if prefix.is_empty() || (prefix.starts_with('/') && !prefix.starts_with("//")) {
        return Ok(prefix);
    }
    Err(refused_value(
        RequestField::EndpointPrefix,
        &prefix,
        "it is a path: begin it with one \"/\"",
    ))
}

fn stateless(request: &RunRequest, transport: TransportType) -> Result<bool> {
    if request.stateless && transport != TransportType::StreamableHttp {
        return Err(refused(
            RequestField::Stateless,
            format!("only a streamable-http server can be without sessions, not one that speaks {transport}"),
        ));
    }
    Ok(request.stateless)
}

fn proxy_mode(request: &RunRequest, transport: TransportType, notices: &mut Vec<String>) -> ProxyMode {
    let config = RunConfig {
        transport,
        proxy_mode: request.proxy_mode,
        ..RunConfig::default()
    };
    let mode = config.effective_proxy_mode();
    if request.proxy_mode.is_some_and(|asked| asked != mode) {
        notices.push(format!(
            "the proxy speaks {mode}, as the server does: a proxy mode is for stdio servers"
        ));
    }
    mode
}

fn group(request: &RunRequest) -> Result<String> {
    let Some(group) = &request.group else {
        return Ok(GroupName::default().to_string());
    };
    let group =
        GroupName::new(group.as_str()).map_err(|error| refused(RequestField::Group, error.to_string()))?;
    Ok(group.to_string())
}

/// What ToolHive stores when its usage metrics are switched off.
fn middleware() -> Vec<MiddlewareConfig> {
    let entry = |kind: &str, parameters: Json| MiddlewareConfig {
        kind: kind.to_owned(),
        parameters,
        ..MiddlewareConfig::default()
    };
    vec![
        entry("auth", Json::Object(Vec::new())),
        entry("mcp-parser", Json::Object(Vec::new())),
        entry("recovery", Json::Null),
    ]
}

/// The path from the root. One that begins with `~/` is below the home directory.
pub(super) fn absolute(path: &Path, sources: &Sources<'_>) -> Result<PathBuf> {
    let path = match path.strip_prefix("~") {
        Ok(rest) => sources.dirs.home.join(rest),
        Err(_) => path.to_owned(),
    };
    let absolute = sources.files.absolute(&path).map_err(|source| Error::Io {
        action: format!("find the absolute path of {}", path.display()),
        source,
    })?;
    if absolute.to_str().is_none() {
        return Err(invalid(format!("path {}", path.display()), "it is not UTF-8"));
    }
    Ok(absolute)
}

#[cfg(test)]
mod tests;
