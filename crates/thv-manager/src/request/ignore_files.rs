//! Ignore files hide paths inside mounts. They are not built, so a mount that has one is not made.

use thv_core::{Mount, MountSource, RunConfig};

use super::Sources;
use crate::{Error, Result};

/// The file in a mounted folder that says what of it is hidden.
const IN_MOUNT: &str = ".thvignore";

/// Refuses mounts of which something would have to be hidden. Without an `ignore_config` nothing is hidden.
pub(super) fn check(config: &RunConfig, sources: &Sources<'_>) -> Result<()> {
    let (Some(ignore), Some(profile)) = (&config.ignore_config, &config.permission_profile) else {
        return Ok(());
    };
    if config.is_remote() {
        return Ok(());
    }
    let mounted = || profile.read.iter().chain(&profile.write);
    let global = sources.dirs.ignore_file();
    if ignore.load_global && mounted().next().is_some() && sources.files.exists(&global) {
        return Err(refused(
            "ignore_config.LoadGlobal (--ignore-globally)",
            &global,
            "run without it (--ignore-globally=false), or without mounts",
        ));
    }
    for text in mounted() {
        let Ok(mount) = Mount::parse(text) else { continue };
        let MountSource::Path(source) = mount.source else {
            continue;
        };
        let file = std::path::Path::new(&source).join(IN_MOUNT);
        if sources.files.exists(&file) {
            return Err(refused(
                "ignore_config",
                &file,
                "remove the file, or mount another folder",
            ));
        }
    }
    Ok(())
}

fn refused(what: &str, file: &std::path::Path, instead: &str) -> Error {
    Error::Unsupported {
        what: what.to_owned(),
        detail: format!(
            "hiding paths is not built yet, and {} says which: {instead}",
            file.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryFiles;
    use super::*;
    use thv_core::{Dirs, Env};

    fn check_with(config: &str, files: &MemoryFiles) -> Result<()> {
        let sources = Sources {
            env: &Env::default(),
            dirs: &Dirs::under("/base"),
            files,
            ports: &crate::SystemPorts,
        };
        check(&RunConfig::from_json(config.as_bytes()).unwrap(), &sources)
    }

    const MOUNTS: &str = r#"{"permission_profile": {"read": ["/data:/d"], "write": ["volume://v:/v", "/w"]},
        "ignore_config": {"LoadGlobal": true, "PrintOverlays": false}}"#;

    #[test]
    fn mounts_with_something_to_hide_are_refused_with_the_path() {
        for file in [
            "/data/.thvignore",
            "/w/.thvignore",
            "/base/config/toolhive/thvignore",
        ] {
            let error = check_with(MOUNTS, &MemoryFiles::default().with(file, "")).unwrap_err();
            assert_eq!(error.code(), "unsupported");
            assert!(error.to_string().contains(file), "{error}");
        }
    }

    #[test]
    fn what_hides_nothing_does_not_stand_in_the_way() {
        let none = MemoryFiles::default();
        check_with(MOUNTS, &none.clone().with("/other/.thvignore", "")).unwrap();
        let global = none.clone().with("/base/config/toolhive/thvignore", "*.key");
        check_with(&MOUNTS.replace("true", "false"), &global).unwrap();
        check_with(
            r#"{"permission_profile": {}, "ignore_config": {"LoadGlobal": true}}"#,
            &global,
        )
        .unwrap();
        check_with(r#"{"permission_profile": {"read": ["/data:/d"]}}"#, &global).unwrap();
    }
}
