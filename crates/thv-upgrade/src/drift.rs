//! In what a registry entry differs from a workload that was made from it, besides the image.

use std::collections::HashSet;

use thv_core::{EnvVarSpec, RunConfig, SecretReference};
use thv_registry::ImageEntry;

use crate::{Change, ConfigDrift, EnvVarDrift, EnvVarInfo};

/// The declared variables that the workload has neither as a variable nor as a secret.
pub(crate) fn undeclared<'a>(config: &RunConfig, declared: &'a [EnvVarSpec]) -> Vec<&'a EnvVarSpec> {
    let references = config
        .secrets
        .iter()
        .filter_map(|text| SecretReference::parse(text).ok());
    let targets: HashSet<String> = references
        .map(|reference| reference.target().to_owned())
        .collect();
    let has = |name: &str| config.env_vars.contains_key(name) || targets.contains(name);
    declared.iter().filter(|spec| !has(&spec.name)).collect()
}

pub(crate) fn env_vars(config: &RunConfig, entry: &ImageEntry) -> Option<EnvVarDrift> {
    let added: Vec<_> = undeclared(config, &entry.env_vars)
        .into_iter()
        .map(info)
        .collect();
    (!added.is_empty()).then_some(EnvVarDrift { added })
}

fn info(spec: &EnvVarSpec) -> EnvVarInfo {
    EnvVarInfo {
        name: spec.name.clone(),
        description: spec.description.clone(),
        required: spec.required,
        secret: spec.secret,
        default: if spec.secret {
            String::new()
        } else {
            spec.default.clone()
        },
    }
}

pub(crate) fn posture(config: &RunConfig, entry: &ImageEntry) -> Option<ConfigDrift> {
    let profile = entry
        .permissions
        .as_ref()
        .map_or("", |profile| profile.name.as_str());
    let drift = ConfigDrift {
        transport: change(config.transport.as_str(), entry.info.transport.as_str()),
        permission_profile: change(&config.permission_profile_name_or_path, profile),
    };
    (drift.transport.is_some() || drift.permission_profile.is_some()).then_some(drift)
}

fn change(from: &str, to: &str) -> Option<Change> {
    (!from.is_empty() && !to.is_empty() && from != to).then(|| Change {
        from: from.to_owned(),
        to: to.to_owned(),
    })
}
