//! Folders and files of the host that a server sees.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thv_core::{Mount, MountSource, PermissionProfile};

use super::{Files, RequestField, RunRequest, invalid, refused_value, shown};
use crate::Result;

const USE: &str = "use host:container, host:container:ro or volume://name:container";

/// Adds the request's volumes to the profile, and returns them with absolute sources.
pub(super) fn apply(
    request: &RunRequest,
    profile: &mut PermissionProfile,
    files: &dyn Files,
    absolute: &dyn Fn(&Path) -> Result<PathBuf>,
    notices: &mut Vec<String>,
) -> Result<Vec<String>> {
    let mut targets: BTreeSet<String> = profile
        .read
        .iter()
        .chain(&profile.write)
        .filter_map(|text| Some(Mount::parse(text).ok()?.target))
        .collect();
    let mut volumes = Vec::new();
    for text in &request.volumes {
        let bad = |detail: &str| refused_value(RequestField::Volumes, text, detail);
        let (declaration, read_only) = match text.strip_suffix(":ro") {
            Some(declaration) => (declaration, true),
            None => (text.strip_suffix(":rw").unwrap_or(text), false),
        };
        if !declaration.contains(':') {
            return Err(bad(USE));
        }
        let mount = Mount::parse(declaration).map_err(|error| bad(error.rule()))?;
        if !mount.target.starts_with('/') {
            return Err(bad("the path in the container must be absolute"));
        }
        let source = match mount.source {
            MountSource::Path(source) => {
                let source = absolute(Path::new(&source))?;
                if !files.exists(&source) {
                    return Err(bad(&format!("{} does not exist on this host", source.display())));
                }
                Some(source)
            }
            // The engine keeps it, and makes it.
            MountSource::Resource { scheme, .. } if scheme == "volume" => None,
            _ => return Err(bad(USE)),
        };
        if !targets.insert(mount.target.clone()) {
            notices.push(format!(
                "volume {} is left out: {} is mounted already",
                shown(text),
                mount.target
            ));
            continue;
        }
        let declaration = match source {
            None => declaration.to_owned(),
            Some(source) => declare(&source, &mount.target).ok_or_else(|| {
                bad(&format!(
                    "the absolute path {} cannot be mounted",
                    source.display()
                ))
            })?,
        };
        volumes.push(if read_only {
            format!("{declaration}:ro")
        } else {
            declaration.clone()
        });
        if read_only {
            &mut profile.read
        } else {
            &mut profile.write
        }
        .push(declaration);
    }
    Ok(volumes)
}

/// Gives the relative sources of a profile's mounts their absolute paths; a supervisor has another working folder.
pub(super) fn make_absolute(
    profile: &mut PermissionProfile,
    absolute: &dyn Fn(&Path) -> Result<PathBuf>,
) -> Result<()> {
    for text in profile.read.iter_mut().chain(&mut profile.write) {
        let what = || format!("mount \"{}\" of the permission profile", shown(text));
        let mount = Mount::parse(text).map_err(|error| invalid(what(), error.rule()))?;
        let MountSource::Path(source) = &mount.source else {
            continue;
        };
        if source.starts_with('/') {
            continue;
        }
        let path = absolute(Path::new(source))?;
        let target = if mount.target.starts_with('/') {
            mount.target.clone()
        } else {
            path.display().to_string()
        };
        let declaration = declare(&path, &target).ok_or_else(|| {
            invalid(
                what(),
                format!("the absolute path {} cannot be mounted", path.display()),
            )
        })?;
        *text = declaration;
    }
    Ok(())
}

/// The declaration, if it can be read back.
fn declare(source: &Path, target: &str) -> Option<String> {
    let text = format!("{}:{target}", source.to_str()?);
    let mount = Mount::parse(&text).ok()?;
    match mount.source {
        MountSource::Path(source) => Some(format!("{source}:{}", mount.target)),
        _ => None,
    }
}
