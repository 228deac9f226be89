//! From a `server.json` to an entry.

use std::collections::BTreeSet;

use thv_core::{EnvVarSpec, HeaderSpec, TransportType};
use url::{Host, Url};

use super::parse::Accept;
use super::wire::{self, Argument, Extension, KeyValue, Package, Remote, Server};
use super::{extension, image};
use crate::{Attestation, Entry, EntryInfo, ImageEntry, Metadata, OAuthConfig, Provenance, RemoteEntry};

/// The entry that a server's description means, or why it cannot be used.
pub(super) fn entry(mut server: Server, accept: Accept) -> Result<Entry, String> {
    let extensions = std::mem::take(&mut server.meta.publisher.extensions);
    if server.remotes.is_empty() {
        let package = oci_package(std::mem::take(&mut server.packages))?;
        let extension = extension::of(extensions, &package.identifier)?;
        return image_entry(server, package, extension).map(Entry::Image);
    }
    let remote = server.remotes.swap_remove(0);
    let extension = extension::of(extensions, &remote.url)?;
    remote_entry(server, remote, extension, accept).map(Entry::Remote)
}

/// The one package that is an image.
fn oci_package(packages: Vec<Package>) -> Result<Package, String> {
    let mut images = packages
        .into_iter()
        .filter(|package| package.registry_type == "oci");
    match (images.next(), images.next()) {
        (Some(package), None) => Ok(package),
        (None, _) => Err("it has neither an image nor a remote server".to_owned()),
        (Some(_), Some(_)) => Err("it has several images".to_owned()),
    }
}

fn image_entry(server: Server, package: Package, mut extension: Extension) -> Result<ImageEntry, String> {
    if let Some(why) = image::refused(&package.identifier) {
        return Err(why.to_owned());
    }
    let transport = match package.transport.kind.as_str() {
        "" => TransportType::Stdio,
        kind => transport(kind)?,
    };
    let mut args = flattened(&package.server_arguments);
    if args.is_empty() {
        args = std::mem::take(&mut extension.args);
    }
    if args.iter().any(|argument| argument.contains('\0')) {
        return Err("an argument has a NUL".to_owned());
    }
    let mut env_vars: Vec<EnvVarSpec> = package.environment_variables.iter().map(variable).collect();
    env_vars.extend(package.runtime_arguments.iter().filter_map(variable_of_argument));
    check_variables(&env_vars)?;
    Ok(ImageEntry {
        target_port: port_of(&package.transport.url)?,
        image: package.identifier,
        proxy_port: extension.proxy_port,
        permissions: extension.permissions.take(),
        env_vars,
        args,
        docker_tags: std::mem::take(&mut extension.docker_tags),
        provenance: extension.provenance.take().map(provenance),
        info: info(server, transport, extension),
    })
}

fn remote_entry(
    server: Server,
    remote: Remote,
    mut extension: Extension,
    accept: Accept,
) -> Result<RemoteEntry, String> {
    let transport = match transport(&remote.kind)? {
        TransportType::Stdio => return Err("a remote server does not speak stdio".to_owned()),
        transport => transport,
    };
    check_url(&remote.url, accept)?;
    let env_vars: Vec<EnvVarSpec> = std::mem::take(&mut extension.env_vars)
        .into_iter()
        .map(declared)
        .collect();
    check_variables(&env_vars)?;
    let headers: Vec<HeaderSpec> = remote.headers.iter().map(header).collect();
    if let Some(header) = headers.iter().find(|header| !is_token(&header.name)) {
        return Err(format!("{} is no name of a header", quoted(&header.name)));
    }
    Ok(RemoteEntry {
        url: remote.url,
        proxy_port: extension.proxy_port,
        headers,
        oauth_config: extension.oauth_config.take().map(oauth),
        env_vars,
        info: info(server, transport, extension),
    })
}

fn info(server: Server, transport: TransportType, extension: Extension) -> EntryInfo {
    EntryInfo {
        name: server.name,
        title: server.title,
        description: server.description,
        tier: extension.tier,
        status: extension.status,
        version: server.version,
        transport,
        stateless: extension.stateless,
        tools: extension.tools,
        metadata: extension.metadata.map(|metadata| Metadata {
            stars: metadata.stars,
            last_updated: metadata.last_updated,
            kubernetes: metadata.kubernetes,
        }),
        repository_url: server.repository.url,
        tags: extension.tags,
        overview: extension.overview,
        tool_definitions: extension.tool_definitions,
        custom_metadata: extension.custom_metadata,
    }
}

fn transport(text: &str) -> Result<TransportType, String> {
    match text {
        "stdio" => Ok(TransportType::Stdio),
        "sse" => Ok(TransportType::Sse),
        "streamable-http" => Ok(TransportType::StreamableHttp),
        _ => Err(format!("its transport {} is not known", quoted(text))),
    }
}

/// The port that a URL names; 0 where it names none.
fn port_of(url: &str) -> Result<u16, String> {
    let Some((_, rest)) = url.split_once("://") else {
        return Ok(0);
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let after_host = authority.rsplit(']').next().unwrap_or_default();
    match after_host.rsplit_once(':') {
        None | Some((_, "")) => Ok(0),
        Some((_, port)) => port
            .parse()
            .map_err(|_| format!("its port {} is none", quoted(port))),
    }
}

fn flattened(arguments: &[Argument]) -> Vec<String> {
    let value = |argument: &Argument| match argument.value.as_str() {
        "" => argument.default.clone(),
        value => value.to_owned(),
    };
    arguments
        .iter()
        .flat_map(|argument| [argument.name.clone(), value(argument)])
        .filter(|text| !text.is_empty())
        .collect()
}

fn variable(value: &KeyValue) -> EnvVarSpec {
    EnvVarSpec {
        name: value.name.clone(),
        description: value.description.clone(),
        required: value.is_required,
        default: value.default.clone(),
        secret: value.is_secret,
        ..EnvVarSpec::default()
    }
}

/// `-e KEY=VALUE` of the command that would run the container. A value `{name}` means that variable.
fn variable_of_argument(argument: &Argument) -> Option<EnvVarSpec> {
    if argument.kind != "named" || !matches!(argument.name.as_str(), "-e" | "--env") {
        return None;
    }
    let (name, value) = argument.value.split_once('=')?;
    let meant = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let meant = meant.and_then(|name| argument.variables.get(name));
    Some(EnvVarSpec {
        name: name.to_owned(),
        description: match meant {
            Some(meant) if !meant.description.is_empty() => meant.description.clone(),
            _ => argument.description.clone(),
        },
        required: argument.is_required,
        default: meant.map_or_else(|| value.to_owned(), |meant| meant.default.clone()),
        secret: meant.is_some_and(|meant| meant.is_secret),
        ..EnvVarSpec::default()
    })
}

fn declared(variable: wire::EnvVar) -> EnvVarSpec {
    EnvVarSpec {
        name: variable.name,
        description: variable.description,
        required: variable.required,
        default: variable.default,
        secret: variable.secret,
        ..EnvVarSpec::default()
    }
}

fn header(value: &KeyValue) -> HeaderSpec {
    HeaderSpec {
        name: value.name.clone(),
        description: value.description.clone(),
        required: value.is_required,
        default: value.default.clone(),
        secret: value.is_secret,
        choices: value.choices.clone(),
        ..HeaderSpec::default()
    }
}

fn provenance(found: wire::Provenance) -> Provenance {
    Provenance {
        sigstore_url: found.sigstore_url,
        repository_uri: found.repository_uri,
        repository_ref: found.repository_ref,
        signer_identity: found.signer_identity,
        runner_environment: found.runner_environment,
        cert_issuer: found.cert_issuer,
        attestation: found.attestation.map(|attestation| Attestation {
            predicate_type: attestation.predicate_type,
            predicate: attestation.predicate,
        }),
    }
}

fn oauth(found: wire::OAuthConfig) -> OAuthConfig {
    OAuthConfig {
        issuer: found.issuer,
        authorize_url: found.authorize_url,
        token_url: found.token_url,
        client_id: found.client_id,
        scopes: found.scopes,
        use_pkce: found.use_pkce,
        oauth_params: found.oauth_params,
        callback_port: found.callback_port,
        resource: found.resource,
    }
}

/// A variable's name becomes a key of an environment: no `=`, no white space, nothing that a terminal or shell reads.
fn check_variables(variables: &[EnvVarSpec]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for variable in variables {
        let name = variable.name.as_str();
        let valid = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit() || c == '-')
            && name.len() <= 256
            && name
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"_-.".contains(&c));
        if !valid {
            return Err(format!("{} is no name of a variable", quoted(name)));
        }
        if variable.default.contains('\0') {
            return Err(format!("the default of {name} has a NUL"));
        }
        if !names.insert(name) {
            return Err(format!("it declares {name} twice"));
        }
    }
    Ok(())
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c))
}

/// A remote server is asked over TLS, unless it is on this machine or private addresses are allowed.
fn check_url(text: &str, accept: Accept) -> Result<(), String> {
    if text
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
    {
        return Err("its URL has characters that no URL has".to_owned());
    }
    if text.contains(['{', '}']) {
        return Err("its URL has variables, which are not built yet".to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("its URL is none: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its URL has credentials".to_owned());
    }
    let on_this_machine = match url.host() {
        None => return Err("its URL has no host".to_owned()),
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if on_this_machine || accept.plain_http => Ok(()),
        "http" => Err("its URL is plain HTTP".to_owned()),
        _ => Err("its URL is neither https nor http".to_owned()),
    }
}

/// A foreign text as a message shows it.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    format!("\"{shown}\"")
}
