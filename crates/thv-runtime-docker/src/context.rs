//! The active context of Docker's command line: which engine its user chose.

use std::path::PathBuf;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::DockerConfig;
use crate::discovery::{Probe, Seen};
use crate::tls::Material;

/// The context that needs no choice: the usual places.
const DEFAULT: &str = "default";

/// What was chosen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// Nothing.
    None,
    /// A context with its endpoint.
    Host {
        name: String,
        host: String,
        /// What it is spoken to with over TCP, or why it cannot be.
        tls: Result<Option<Material>, String>,
    },
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
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// The folder of Docker's configuration.
pub(crate) fn folder(config: &DockerConfig) -> Option<PathBuf> {
    match (config.env.non_empty("DOCKER_CONFIG"), &config.dirs) {
        (Some(folder), _) => Some(PathBuf::from(folder)),
        (None, Some(dirs)) => Some(dirs.home.join(".docker")),
        (None, None) => None,
    }
}

/// How the folders of a context are named.
pub(crate) fn digest(name: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(name).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a text does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The active context, by Docker's rules: `DOCKER_CONTEXT`, then `currentContext` of its configuration.
pub(crate) fn active(config: &DockerConfig, probe: &dyn Probe) -> Context {
    let Some(folder) = folder(config) else {
        return Context::None;
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
    let Some(meta) = meta else {
        return broken("there is no such context; see `docker context ls`");
    };
    let Some(endpoint) = meta.endpoints.docker else {
        return broken("it names no engine");
    };
    let Some(host) = endpoint.host else {
        return broken("it names no engine");
    };
    let material = folder.join("contexts/tls").join(digest(&name)).join("docker");
    let tls = if endpoint.skip_tls_verify {
        Err("it asks for TLS with whoever answers (SkipTLSVerify): that is not supported".to_owned())
    } else if probe.look(&material.join("ca.pem")) == Seen::Absent {
        Ok(None)
    } else {
        Ok(Some(Material::in_context(&material)))
    };
    Context::Host { name, host, tls }
}
