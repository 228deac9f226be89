//! The active context of Docker's command line: which engine its user chose.

use std::path::PathBuf;

use serde::Deserialize;

use crate::DockerConfig;
use crate::discovery::Probe;

/// The context that needs no choice: the usual places.
const DEFAULT: &str = "default";

/// What was chosen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// Nothing.
    None,
    /// A context with its endpoint.
    Host { name: String, host: String },
    /// A context that cannot be read: no engine, and not another one either.
    Broken { name: String, reason: String },
    /// Docker's own file cannot be read, so that nobody knows; Docker goes on as if nothing was chosen.
    Unknown { file: PathBuf, reason: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    name: String,
    #[serde(default)]
    endpoints: Endpoints,
}

#[derive(Default, Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    host: Option<String>,
}

/// The active context, by Docker's rules: `DOCKER_CONTEXT`, then `currentContext` of its configuration.
pub(crate) fn active(config: &DockerConfig, probe: &dyn Probe) -> Context {
    let folder = match (config.env.non_empty("DOCKER_CONFIG"), &config.dirs) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(dirs)) => dirs.home.join(".docker"),
        (None, None) => return Context::None,
    };
    let name = if let Some(name) = config.env.non_empty("DOCKER_CONTEXT") {
        name.to_owned()
    } else {
        let file = folder.join("config.json");
        let parse = |text: String| serde_json::from_str(&text).map_err(|e| e.to_string());
        match probe.read(&file).map(|text| text.and_then(parse)) {
            None => return Context::None,
            Some(Ok(ConfigFile { current_context })) => current_context.unwrap_or_default(),
            Some(Err(reason)) => return Context::Unknown { file, reason },
        }
    };
    if name.is_empty() || name == DEFAULT {
        return Context::None;
    }
    // Each is in a folder that is named by a hash of its name.
    let metas = probe.entries(&folder.join("contexts/meta")).into_iter();
    let meta = metas
        .filter_map(|entry| probe.read(&entry.join("meta.json"))?.ok())
        .filter_map(|text| serde_json::from_str::<Meta>(&text).ok())
        .find(|meta| meta.name == name);
    let broken = |reason: &str| Context::Broken {
        name: name.clone(),
        reason: reason.to_owned(),
    };
    match meta.map(|meta| meta.endpoints.docker.and_then(|endpoint| endpoint.host)) {
        None => broken("there is no such context; see `docker context ls`"),
        Some(None) => broken("it names no engine"),
        Some(Some(host)) => Context::Host { name, host },
    }
}
