//! The permission profile, the network mode, and what they mean for isolation.

use std::path::{Path, PathBuf};

use thv_core::{Env, IsolationIntent, NetworkPermissions, OutboundPermissions, PermissionProfile, RunConfig};

use super::build::absolute;
use super::{Files, RequestField, RunRequest, Sources, invalid, refused, refused_value, shown, volumes};
use crate::{Error, Result};

/// What ToolHive takes from the environment for its own way to isolate networks.
const TOOLHIVES_PROXIES: [&str; 3] = [
    "TOOLHIVE_NETWORK_PROXY",
    "TOOLHIVE_EGRESS_IMAGE",
    "TOOLHIVE_ENVOY_IMAGE",
];

/// Sets profile, volumes and isolation of `config`.
pub(super) fn apply(
    request: &RunRequest,
    config: &mut RunConfig,
    files: &dyn Files,
    absolute: &dyn Fn(&Path) -> Result<PathBuf>,
    notices: &mut Vec<String>,
) -> Result<()> {
    let (name_or_path, mut profile) = resolve(request, files, absolute)?;
    volumes::make_absolute(&mut profile, absolute)?;
    config.volumes = volumes::apply(request, &mut profile, files, absolute, notices)?;
    if let Some(mode) = &request.network {
        set_mode(&mut profile, mode)?;
    }
    set_isolation(request, config, &profile, notices)?;
    config.permission_profile_name_or_path = name_or_path;
    config.permission_profile = Some(profile);
    Ok(())
}

/// Says that what somebody has chosen for isolated networks is not what isolates them here: the profile is enforced, and what
/// else a proxy of theirs would do is not done.
pub(super) fn unused_proxies(config: &RunConfig, env: &Env) -> Vec<String> {
    let set = TOOLHIVES_PROXIES
        .iter()
        .filter(|name| config.isolate_network && env.non_empty(name).is_some());
    let said =
        set.map(|name| format!("{name} is set and has no effect: isolated networks have a helper of ours"));
    said.collect()
}

/// A built-in name, else a file; nothing said is what a registry entry says, and else `network`.
fn resolve(
    request: &RunRequest,
    files: &dyn Files,
    absolute: &dyn Fn(&Path) -> Result<PathBuf>,
) -> Result<(String, PermissionProfile)> {
    let Some(asked) = request
        .permission_profile
        .as_deref()
        .filter(|asked| !asked.is_empty())
    else {
        return Ok((String::new(), unasked(request)));
    };
    if let Some(profile) = PermissionProfile::builtin(asked) {
        return Ok((asked.to_owned(), profile));
    }
    let path = absolute(Path::new(asked))?;
    let bad = |detail| refused_value(RequestField::PermissionProfile, asked, detail);
    let profile = read(&path, &bad, files)?;
    Ok((path.display().to_string(), profile))
}

/// The profile of a request that names none.
fn unasked(request: &RunRequest) -> PermissionProfile {
    #[cfg(feature = "registry")]
    if let Some(mut profile) = request.origin.as_ref().and_then(super::EntryOrigin::permissions) {
        profile.forget_unknown();
        return profile;
    }
    let _ = request;
    PermissionProfile::network()
}

/// Fills in the profile of a configuration that only names its file.
pub(super) fn look_up(config: &mut RunConfig, sources: &Sources<'_>) -> Result<()> {
    if !config.has_unresolved_profile() {
        return Ok(());
    }
    let asked = config.permission_profile_name_or_path.as_str();
    let path = absolute(Path::new(asked), sources)?;
    let what = format!("permission_profile_name_or_path \"{}\"", shown(asked));
    let mut profile = read(&path, &|detail| invalid(&what, detail), sources.files)?;
    volumes::make_absolute(&mut profile, &|path: &Path| absolute(path, sources))?;
    config.permission_profile_name_or_path = path.display().to_string();
    config.permission_profile = Some(profile);
    config.normalize();
    Ok(())
}

fn read(path: &Path, bad: &dyn Fn(String) -> Error, files: &dyn Files) -> Result<PermissionProfile> {
    if !files.exists(path) {
        let detail = format!(
            "use none, network, or the path of a profile: there is no file {}",
            path.display()
        );
        return Err(bad(detail));
    }
    let text = files.read(path).map_err(|source| Error::Io {
        action: format!("read the permission profile {}", path.display()),
        source,
    })?;
    let mut profile =
        PermissionProfile::from_json(text.as_bytes()).map_err(|error| bad(error.to_string()))?;
    // Nobody has looked at what a file says besides; a configuration that has it would seem to mean it.
    profile.forget_unknown();
    Ok(profile)
}

fn set_mode(profile: &mut PermissionProfile, mode: &str) -> Result<()> {
    let word = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if mode.is_empty() || !mode.chars().all(word) {
        let detail = "use bridge, host, none, or the name of a network";
        return Err(refused_value(RequestField::Network, mode, detail));
    }
    // A profile without this section limits nothing; with an empty one it would limit everything.
    let unlimited = || NetworkPermissions {
        outbound: Some(OutboundPermissions {
            insecure_allow_all: true,
            ..OutboundPermissions::default()
        }),
        ..NetworkPermissions::default()
    };
    mode.clone_into(&mut profile.network.get_or_insert_with(unlimited).mode);
    Ok(())
}

fn set_isolation(
    request: &RunRequest,
    config: &mut RunConfig,
    profile: &PermissionProfile,
    notices: &mut Vec<String>,
) -> Result<()> {
    config.isolate_network = request.isolate_network.unwrap_or(true);
    if profile.has_bridge_mode() {
        if request.isolate_network == Some(true) {
            config.thv.isolation = Some(IsolationIntent::Required);
        }
        return Ok(());
    }
    let mode = profile.network_mode();
    match request.isolate_network {
        // Nothing can be reached without a network: there is nothing left to isolate.
        _ if mode == "none" => {}
        Some(true) => {
            let detail =
                format!("isolation cannot be enforced in network mode \"{mode}\": leave one of them out");
            return Err(refused(RequestField::IsolateNetwork, detail));
        }
        None => notices.push(format!(
            "the network is not isolated: that cannot be done in network mode \"{mode}\""
        )),
        Some(false) => {}
    }
    config.isolate_network = false;
    Ok(())
}
