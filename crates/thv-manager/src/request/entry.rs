//! From a registry entry to a request: what the entry says where the user says nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use thv_core::{
    EnvVarSpec, HeaderSpec, PermissionProfile, RemoteAuthConfig, RunConfig, SecretReference, TransportType,
    registry_base_name,
};
use thv_image::ExpectedIdentity;
use thv_registry::{Entry, ImageEntry, Provenance, RemoteEntry, Source};

use super::build::absolute;
use super::server::Server;
use super::{RequestField, RunRequest, Sources, env, invalid, refused, shown};
use crate::{Error, Result};

/// That a request comes from a registry entry, and which.
#[derive(Debug, Clone)]
pub struct EntryOrigin {
    entry: Arc<Entry>,
    source: Source,
}

impl EntryOrigin {
    /// The entry.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Who built the image, as the registry says it.
    pub fn provenance(&self) -> Option<&Provenance> {
        self.entry.as_image()?.provenance.as_ref()
    }

    /// The same as images are verified by it.
    pub(crate) fn expected_identity(&self) -> Option<ExpectedIdentity> {
        self.provenance().map(crate::expected_identity)
    }

    /// What the server may do, where the entry says it.
    pub(super) fn permissions(&self) -> Option<PermissionProfile> {
        self.entry.as_image()?.permissions.clone()
    }

    /// A tool that is filtered or renamed is one that the entry lists, where it lists any.
    pub(super) fn check_tools(&self, config: &RunConfig) -> Result<()> {
        let Some(tools) = self.entry.info().tools.as_ref().filter(|tools| !tools.is_empty()) else {
            return Ok(());
        };
        let overrides = &config.tools_override;
        let seen = |name: &String| {
            overrides.values().any(|other| other.name == *name)
                || (tools.contains(name) && !overrides.contains_key(name))
        };
        // A renamed tool keeps its name where only its description changes.
        let kept = |name: &String| overrides.get(name).is_some_and(|other| other.name.is_empty());
        let unknown = overrides.keys().find(|name| !tools.contains(name));
        let unknown = unknown.or_else(|| config.tools_filter.iter().find(|name| !seen(name) && !kept(name)));
        match unknown {
            None => Ok(()),
            Some(name) => Err(invalid(
                format!("tool \"{}\"", shown(name)),
                format!(
                    "registry entry \"{}\" does not list it; it lists {}",
                    self.entry.name(),
                    tools.join(", ")
                ),
            )),
        }
    }

    /// Writes down where the configuration comes from, and how to log in to a remote server.
    pub(super) fn describe(&self, config: &mut RunConfig) {
        self.entry.name().clone_into(&mut config.registry_server_name);
        self.source.registry_url().clone_into(&mut config.registry_url);
        self.source
            .registry_api_url()
            .clone_into(&mut config.registry_api_url);
        if let Some(remote) = self.entry.as_remote() {
            config.remote_auth_config = remote_auth(remote);
        }
    }
}

fn remote_auth(entry: &RemoteEntry) -> Option<RemoteAuthConfig> {
    let oauth = entry.oauth_config.as_ref()?;
    Some(RemoteAuthConfig {
        client_id: oauth.client_id.clone(),
        scopes: oauth.scopes.clone(),
        callback_port: match oauth.callback_port {
            0 => thv_core::DEFAULT_CALLBACK_PORT,
            port => port,
        },
        use_pkce: oauth.use_pkce.unwrap_or(true),
        resource: oauth.resource.clone(),
        issuer: oauth.issuer.clone(),
        authorize_url: oauth.authorize_url.clone(),
        token_url: oauth.token_url.clone(),
        headers: entry.headers.clone(),
        env_vars: entry.env_vars.clone(),
        oauth_params: oauth.oauth_params.clone(),
        ..RemoteAuthConfig::default()
    })
}

/// A value that an entry needs and that nobody gave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingValue {
    /// The variable, or the header of a remote server.
    pub name: String,
    /// What it is for, in the publisher's words.
    pub description: String,
    /// Whether it is a secret.
    pub secret: bool,
    /// Whether it is a header of a remote server.
    pub header: bool,
    /// The values that it can have; empty means any.
    pub choices: Vec<String>,
}

/// A request that a registry entry has completed, before what is missing was given and what is asked for was accepted.
///
/// A front end with somebody to ask goes through [`missing`](Self::missing) and [`grants`](Self::grants); without anybody
/// [`into_request`](Self::into_request) says all that is lacking at once.
#[derive(Debug)]
pub struct EntryPlan {
    request: RunRequest,
    origin: EntryOrigin,
    missing: Vec<MissingValue>,
    grants: Vec<String>,
}

impl EntryPlan {
    /// The entry.
    pub fn entry(&self) -> &Entry {
        &self.origin.entry
    }

    /// The name that the workload will have.
    pub fn workload_name(&self) -> String {
        self.request.name.clone().unwrap_or_default()
    }

    /// What it needs and nobody gave, in the entry's order.
    pub fn missing(&self) -> &[MissingValue] {
        &self.missing
    }

    /// What it asks for beyond the built-in profiles, one phrase each; empty when there is nothing to accept.
    pub fn grants(&self) -> &[String] {
        &self.grants
    }

    /// Gives a value that is missing and no secret.
    ///
    /// # Errors
    /// `Invalid` when no such value is missing, it is a secret, or it is none of the choices.
    pub fn supply(&mut self, name: &str, value: &str) -> Result<()> {
        let missing = self.take(name)?;
        if missing.secret && !missing.header {
            self.missing.insert(0, missing);
            return Err(invalid(
                format!("variable \"{name}\""),
                "it is a secret, and is not kept as plain text",
            ));
        }
        if !missing.choices.is_empty() && !missing.choices.iter().any(|choice| choice == value) {
            let choices = missing.choices.join(", ");
            self.missing.insert(0, missing);
            return Err(invalid(
                format!("value of \"{name}\""),
                format!("use one of {choices}"),
            ));
        }
        let pair = format!("{name}={value}");
        if missing.header {
            self.request.forward_headers.push(pair);
        } else {
            self.request.env.push(pair);
        }
        Ok(())
    }

    /// Says which secret has the value of a variable that is missing.
    ///
    /// # Errors
    /// `Invalid` when no such variable is missing.
    pub fn supply_secret(&mut self, name: &str, secret: &str) -> Result<()> {
        let reference = format!("{secret},target={name}");
        SecretReference::parse(&reference).map_err(|error| invalid("secret", error.to_string()))?;
        let missing = self.take(name)?;
        if missing.header {
            self.missing.insert(0, missing);
            return Err(invalid(
                format!("header \"{name}\""),
                "headers of secrets are not built yet",
            ));
        }
        self.request.secrets.push(reference);
        Ok(())
    }

    /// Accepts what the entry asks for.
    pub fn accept_permissions(&mut self) {
        self.grants.clear();
    }

    /// The request.
    ///
    /// # Errors
    /// [`MissingValues`](Error::MissingValues) that names them all, or
    /// [`PermissionsNotAccepted`](Error::PermissionsNotAccepted).
    pub fn into_request(self) -> Result<RunRequest> {
        let entry = self.entry().name().to_owned();
        if !self.missing.is_empty() {
            return Err(Error::MissingValues {
                entry,
                values: self.missing,
            });
        }
        if !self.grants.is_empty() {
            return Err(Error::PermissionsNotAccepted {
                entry,
                grants: self.grants,
            });
        }
        Ok(RunRequest {
            origin: Some(self.origin),
            ..self.request
        })
    }

    fn take(&mut self, name: &str) -> Result<MissingValue> {
        let at = self.missing.iter().position(|missing| missing.name == name);
        match at {
            Some(at) => Ok(self.missing.remove(at)),
            None => Err(invalid(
                format!("value of \"{}\"", shown(name)),
                "nobody asks for it",
            )),
        }
    }
}

/// The variables or headers that the request has values for.
pub(crate) fn given_names(
    request: &RunRequest,
    entry: &Entry,
    sources: &Sources<'_>,
) -> Result<BTreeSet<String>> {
    if entry.as_remote().is_some() {
        let names = request
            .forward_headers
            .iter()
            .filter_map(|text| text.split_once('='));
        return Ok(names.map(|(name, _)| name.trim().to_ascii_lowercase()).collect());
    }
    let transport = request.transport.unwrap_or(entry.info().transport);
    let absolute = |path: &Path| absolute(path, sources);
    let mut names: BTreeSet<String> = env::merge(request, transport, sources.files, &absolute)?
        .into_keys()
        .collect();
    for reference in env::secrets(request, transport)? {
        let reference = SecretReference::parse(&reference)
            .map_err(|error| refused(RequestField::Secrets, error.to_string()))?;
        names.insert(reference.target().to_owned());
    }
    Ok(names)
}

/// What `entry` makes of the request; pure. `given` has the names that have a value, of headers in lower case.
pub(crate) fn plan(
    mut request: RunRequest,
    entry: &Arc<Entry>,
    source: &Source,
    given: &BTreeSet<String>,
) -> Result<EntryPlan> {
    if request.name.is_none() {
        request.name = Some(thv_core::derive_name(&registry_base_name(entry.name())).to_string());
    }
    check_server(entry)?;
    let (missing, grants) = match &**entry {
        Entry::Image(image) => (
            complete_image(&mut request, image, given),
            grants_of(&request, image),
        ),
        Entry::Remote(remote) => (complete_remote(&mut request, remote, given), Vec::new()),
    };
    let transport = *request.transport.get_or_insert(entry.info().transport);
    request.stateless |= entry.info().stateless && transport == TransportType::StreamableHttp;
    Ok(EntryPlan {
        request,
        origin: EntryOrigin {
            entry: entry.clone(),
            source: source.clone(),
        },
        missing,
        grants,
    })
}

/// Whatever registry it comes from: an entry never names a program or package of this host.
fn check_server(entry: &Entry) -> Result<()> {
    let fits = match entry {
        Entry::Image(image) => matches!(Server::parse(&image.image), Ok(Server::Image(_))),
        Entry::Remote(remote) => matches!(Server::parse(&remote.url), Ok(Server::Remote { .. })),
    };
    if fits {
        return Ok(());
    }
    Err(Error::Registry(thv_registry::Error::Unusable {
        name: entry.name().to_owned(),
        detail: "what it names is neither an image nor a remote server".to_owned(),
    }))
}

fn complete_image(
    request: &mut RunRequest,
    entry: &ImageEntry,
    given: &BTreeSet<String>,
) -> Vec<MissingValue> {
    let transport = request.transport.unwrap_or(entry.info.transport);
    request.server.clone_from(&entry.image);
    if request.args.is_empty() {
        request.args.clone_from(&entry.args);
    }
    if transport != TransportType::Stdio {
        let wished = |port: u16| (port != 0).then_some(port);
        request.target_port = request.target_port.or(wished(entry.target_port));
        request.proxy_port = request.proxy_port.or(wished(entry.proxy_port));
    }
    let lacking = entry
        .env_vars
        .iter()
        .filter(|variable| !given.contains(&variable.name) && !env::is_set_here(&variable.name, transport));
    let mut missing = Vec::new();
    for variable in lacking {
        if !variable.default.is_empty() {
            request
                .env
                .push(format!("{}={}", variable.name, variable.default));
        } else if variable.required {
            missing.push(missing_variable(variable));
        }
    }
    missing
}

fn complete_remote(
    request: &mut RunRequest,
    entry: &RemoteEntry,
    given: &BTreeSet<String>,
) -> Vec<MissingValue> {
    request.server.clone_from(&entry.url);
    if entry.proxy_port != 0 {
        request.proxy_port.get_or_insert(entry.proxy_port);
    }
    let lacking = entry
        .headers
        .iter()
        .filter(|header| !given.contains(&header.name.to_ascii_lowercase()));
    let mut missing = Vec::new();
    for header in lacking {
        if !header.default.is_empty() {
            request
                .forward_headers
                .push(format!("{}={}", header.name, header.default));
        } else if header.required {
            missing.push(missing_header(header));
        }
    }
    missing
}

fn missing_variable(variable: &EnvVarSpec) -> MissingValue {
    MissingValue {
        name: variable.name.clone(),
        description: variable.description.clone(),
        secret: variable.secret,
        header: false,
        choices: Vec::new(),
    }
}

fn missing_header(header: &HeaderSpec) -> MissingValue {
    MissingValue {
        name: header.name.clone(),
        description: header.description.clone(),
        secret: header.secret,
        header: true,
        choices: header.choices.clone(),
    }
}

/// What a profile of the registry gives that no built-in profile gives. Whoever names a profile or a network has chosen.
fn grants_of(request: &RunRequest, entry: &ImageEntry) -> Vec<String> {
    let chosen = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let Some(profile) = entry
        .permissions
        .as_ref()
        .filter(|_| !chosen(&request.permission_profile))
    else {
        return Vec::new();
    };
    let mut grants = Vec::new();
    if profile.privileged {
        grants.push("privileged: every device and capability of this host".to_owned());
    }
    let mode = profile.network_mode();
    if !chosen(&request.network) && !profile.has_bridge_mode() && mode != "none" {
        grants.push(format!("network mode {}", shown(mode)));
    }
    grants.extend(profile.read.iter().map(|path| format!("read {}", shown(path))));
    grants.extend(
        profile
            .write
            .iter()
            .map(|path| format!("read and write {}", shown(path))),
    );
    grants
}

#[cfg(test)]
mod tests;
