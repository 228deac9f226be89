//! The environment of a server, and the secrets that join it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use thv_core::{SecretReference, TransportType};

use super::{Files, RunRequest, invalid, shown};
use crate::{Error, Result};

/// Files first, then a folder's files in the order of their names, then what was said on the command line.
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
            invalid(
                "--env",
                "use KEY=VALUE (the text is not shown: it may be a secret)",
            )
        })?;
        check_key(key, "--env", transport)?;
        check_value(key, value, "--env")?;
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
        check_key(key, &origin, transport)?;
        check_value(key, value, &origin)?;
        env.insert(key.to_owned(), value.to_owned());
    }
    Ok(env)
}

fn check_key(key: &str, origin: &str, transport: TransportType) -> Result<()> {
    if key.is_empty() {
        return Err(invalid(
            origin,
            "the name of the variable is empty: use KEY=VALUE",
        ));
    }
    if key.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let detail = "the name of a variable has no white space, NUL or other control characters";
        return Err(invalid(format!("{origin} \"{}\"", shown(key)), detail));
    }
    match owner_of(key, transport) {
        Some(owner) => Err(invalid(
            format!("{origin} \"{key}\""),
            format!("this variable is set by {owner}"),
        )),
        None => Ok(()),
    }
}

fn check_value(key: &str, value: &str, origin: &str) -> Result<()> {
    if value.contains('\0') {
        return Err(invalid(
            format!("{origin} \"{}\"", shown(key)),
            "the value of a variable has no NUL",
        ));
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
        "MCP_TRANSPORT" => Some("--transport"),
        "TOOLHIVE_INSTANCE" => Some("the local runtime"),
        "MCP_PORT" | "FASTMCP_PORT" if transport != TransportType::Stdio => Some("--target-port"),
        "MCP_HOST" if transport != TransportType::Stdio => Some("--target-host"),
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
            let reference =
                SecretReference::parse(text).map_err(|error| invalid("--secret", error.to_string()))?;
            check_key(reference.target(), "--secret target", transport)?;
            if !targets.insert(reference.target().to_owned()) {
                let what = format!("--secret target \"{}\"", shown(reference.target()));
                return Err(invalid(what, "two secrets go to the same variable"));
            }
            Ok(reference.to_string())
        })
        .collect()
}
