//! The environment of a server, and the secrets that join it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use thv_core::{SecretReference, TransportType};

use super::{Files, RequestField, RunRequest, invalid, refused, refused_value, shown};
use crate::{Error, Result};

/// Files first, then a folder's files in the order of their names, then what the request itself says.
pub(super) fn merge(
    request: &RunRequest,
    transport: TransportType,
    files: &dyn Files,
    absolute: &dyn Fn(&Path) -> Result<std::path::PathBuf>,
) -> Result<BTreeMap<String, String>> {
    let mut env = BTreeMap::new();
    if let Some(path) = &request.env_file {
        let path = absolute(path)?;
        let text = files.read(&path).map_err(|source| Error::Io {
            action: format!("read the env file {}", path.display()),
            source,
        })?;
        env.extend(lines(&text, &path, transport)?);
    }
    if let Some(folder) = &request.env_file_dir {
        env.extend(folder_lines(&absolute(folder)?, transport, files)?);
    }
    for pair in &request.env {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            refused(
                RequestField::Env,
                "use KEY=VALUE (the text is not shown: it may be a secret)",
            )
        })?;
        check_key(key, transport)
            .and_then(|()| check_value(value))
            .map_err(|wrong| wrong.of(RequestField::Env, key))?;
        env.insert(key.to_owned(), value.to_owned());
    }
    Ok(env)
}

/// Hidden files are passed over, and so are files that cannot be read.
fn folder_lines(
    folder: &Path,
    transport: TransportType,
    files: &dyn Files,
) -> Result<BTreeMap<String, String>> {
    let names = files.names(folder).map_err(|source| Error::Io {
        action: format!("list the env folder {}", folder.display()),
        source,
    })?;
    let mut env = BTreeMap::new();
    for path in names
        .iter()
        .filter(|name| !name.starts_with('.'))
        .map(|name| folder.join(name))
    {
        match files.read(&path) {
            Ok(text) => env.extend(lines(&text, &path, transport)?),
            Err(error) => tracing::warn!(path = %path.display(), %error, "an env file is passed over"),
        }
    }
    Ok(env)
}

fn lines(text: &str, path: &Path, transport: TransportType) -> Result<BTreeMap<String, String>> {
    let mut env = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let origin = format!("line {number} of {}", path.display());
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let Some((key, value)) = line.split_once('=') else {
            return Err(invalid(
                origin,
                "use KEY=VALUE (the line is not shown: it may be a secret)",
            ));
        };
        check_key(key, transport)
            .and_then(|()| check_value(value))
            .map_err(|wrong| wrong.at(&origin, key))?;
        env.insert(key.to_owned(), value.to_owned());
    }
    Ok(env)
}

/// What is wrong with a variable; its name may be shown then, its value never.
struct Wrong(String);

impl Wrong {
    /// Of a variable that the request itself gives.
    fn of(self, field: RequestField, key: &str) -> Error {
        if key.is_empty() {
            return refused(field, self.0);
        }
        refused_value(field, key, self.0)
    }

    /// Of one in a file.
    fn at(self, origin: &str, key: &str) -> Error {
        if key.is_empty() {
            return invalid(origin, self.0);
        }
        invalid(format!("{origin} \"{}\"", shown(key)), self.0)
    }
}

fn check_key(key: &str, transport: TransportType) -> Result<(), Wrong> {
    if key.is_empty() {
        return Err(Wrong("the name of the variable is empty: use KEY=VALUE".into()));
    }
    if key.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let detail = "the name of a variable has no white space, NUL or other control characters";
        return Err(Wrong(detail.into()));
    }
    match owner_of(key, transport) {
        Some(owner) => Err(Wrong(format!("this variable is set by {owner}"))),
        None => Ok(()),
    }
}

fn check_value(value: &str) -> Result<(), Wrong> {
    if value.contains('\0') {
        return Err(Wrong("the value of a variable has no NUL".into()));
    }
    Ok(())
}

/// Whether a variable is set here whatever a registry entry says of it.
#[cfg(feature = "registry")]
pub(super) fn is_set_here(key: &str, transport: TransportType) -> bool {
    owner_of(key, transport).is_some()
}

/// Who sets a variable that a user cannot.
fn owner_of(key: &str, transport: TransportType) -> Option<&'static str> {
    match key {
        "MCP_TRANSPORT" => Some("the transport"),
        "TOOLHIVE_INSTANCE" => Some("the local runtime"),
        "MCP_PORT" | "FASTMCP_PORT" if transport != TransportType::Stdio => Some("the target port"),
        "MCP_HOST" if transport != TransportType::Stdio => Some("the target host"),
        _ => None,
    }
}

/// Checks `name,target=ENV` texts; each target is given once.
pub(super) fn secrets(request: &RunRequest, transport: TransportType) -> Result<Vec<String>> {
    let mut targets = BTreeSet::new();
    request
        .secrets
        .iter()
        .map(|text| {
            let reference = SecretReference::parse(text)
                .map_err(|error| refused(RequestField::Secrets, error.to_string()))?;
            let target = reference.target();
            let wrong = |wrong: Wrong| wrong.of(RequestField::Secrets, target);
            check_key(target, transport).map_err(wrong)?;
            if !targets.insert(target.to_owned()) {
                return Err(wrong(Wrong("two secrets go to the same variable".into())));
            }
            Ok(reference.to_string())
        })
        .collect()
}
