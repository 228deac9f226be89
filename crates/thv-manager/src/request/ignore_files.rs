//! Ignore files hide paths inside mounts.
//!
//! Patterns are the lines of the user's global file and of `.thvignore` in each mounted folder. `name/` means a folder of
//! that path, anything else a file or folder; `*`, `?` and `[…]` stand for characters within one name. There is no `**` and no
//! negation.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thv_core::{Mount, MountSource, RunConfig};
use thv_runtime::HiddenPath;

use super::glob::matches;
use super::{FileEntry, Files, Sources};
use crate::{Error, Result};

/// The file in a mounted folder that says what of it is hidden.
const IN_MOUNT: &str = ".thvignore";

/// More of them than an engine could cover.
const MOST: usize = 1000;

/// What is hidden of the mounts of `config`, as their folders are now. Without an `ignore_config` nothing is.
///
/// In a folder that the server can write its own `.thvignore` is hidden too: or it could change what is hidden from it.
pub(super) fn hidden(config: &RunConfig, sources: &Sources<'_>) -> Result<Vec<HiddenPath>> {
    let (Some(ignore), Some(profile)) = (&config.ignore_config, &config.permission_profile) else {
        return Ok(Vec::new());
    };
    if config.is_remote() {
        return Ok(Vec::new());
    }
    let global = if ignore.load_global {
        patterns(&sources.dirs.ignore_file(), sources.files)?
    } else {
        Vec::new()
    };
    let mut hidden = BTreeSet::new();
    let read = profile.read.iter().map(|text| (text, false));
    let write = profile.write.iter().map(|text| (text, true));
    for (text, is_writable) in read.chain(write) {
        let Ok(mount) = Mount::parse(text) else { continue };
        let MountSource::Path(source) = mount.source else {
            continue;
        };
        let source = Path::new(&source);
        let own = source.join(IN_MOUNT);
        let folder = Folder {
            files: sources.files,
            root: resolved(source, sources.files)?,
        };
        let mut found = BTreeSet::new();
        for pattern in global.iter().chain(&patterns(&own, sources.files)?) {
            folder.find(pattern, &mut found)?;
        }
        if is_writable && sources.files.exists(&own) {
            found.insert((PathBuf::from(IN_MOUNT), false));
        }
        for (path, is_folder) in found {
            let Some(path) = path.to_str() else { continue };
            hidden.insert(HiddenPath {
                target: format!("{}/{path}", mount.target.trim_end_matches('/')),
                is_folder,
            });
        }
        if hidden.len() > MOST {
            return Err(Error::Invalid {
                what: "ignore_config".to_owned(),
                detail: format!(
                    "ignore files hide more than {MOST} paths of {}; hide the folders that hold them",
                    source.display()
                ),
            });
        }
    }
    // What is inside a hidden folder is hidden with it, and has nothing to be covered.
    let folders: Vec<_> = hidden
        .iter()
        .filter(|path| path.is_folder)
        .map(|path| format!("{}/", path.target))
        .collect();
    hidden.retain(|path| !folders.iter().any(|folder| path.target.starts_with(folder)));
    Ok(hidden.into_iter().collect())
}

/// The patterns of a file; of one that is not there none.
fn patterns(file: &Path, files: &dyn Files) -> Result<Vec<String>> {
    if !files.exists(file) {
        return Ok(Vec::new());
    }
    let text = files.read(file).map_err(|source| Error::Io {
        action: format!("read the ignore file {}", file.display()),
        source,
    })?;
    let lines = text.lines().map(str::trim);
    Ok(lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

fn resolved(path: &Path, files: &dyn Files) -> Result<PathBuf> {
    match files.resolved(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(path.to_owned()),
        answer => answer.map_err(|source| Error::Io {
            action: format!("look at the mount {}", path.display()),
            source,
        }),
    }
}

/// A mounted folder.
struct Folder<'a> {
    files: &'a dyn Files,
    root: PathBuf,
}

impl Folder<'_> {
    /// What the pattern means, by its path in the folder, and whether it is a folder.
    fn find(&self, pattern: &str, found: &mut BTreeSet<(PathBuf, bool)>) -> Result<()> {
        let folders_only = pattern.ends_with('/');
        let names: Vec<_> = pattern
            .split('/')
            .filter(|name| !name.is_empty() && *name != ".")
            .collect();
        // Nothing outside is mounted.
        if names.contains(&"..") {
            return Ok(());
        }
        let Some((last, above)) = names.split_last() else {
            return Ok(());
        };
        let mut at = vec![PathBuf::new()];
        for name in above {
            let mut below = Vec::new();
            for folder in &at {
                let entries = self.matching(folder, name)?;
                below.extend(
                    entries
                        .into_iter()
                        .filter(|(_, is_folder)| *is_folder)
                        .map(|(path, _)| path),
                );
            }
            at = below;
        }
        for folder in &at {
            let entries = self.matching(folder, last)?;
            found.extend(
                entries
                    .into_iter()
                    .filter(|(_, is_folder)| *is_folder || !folders_only),
            );
        }
        Ok(())
    }

    /// What is in `folder` with a name that matches, links followed: what a link leads to is hidden where it is. What is
    /// not in the mount the server cannot see.
    fn matching(&self, folder: &Path, pattern: &str) -> Result<Vec<(PathBuf, bool)>> {
        let path = self.root.join(folder);
        let entries = match self.files.entries(&path) {
            Ok(entries) => entries,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(Vec::new());
            }
            Err(source) => {
                return Err(Error::Io {
                    action: format!("look for what is to be hidden in {}", path.display()),
                    source,
                });
            }
        };
        let matching = entries
            .into_iter()
            .filter(|entry| entry.name == pattern || matches(pattern, &entry.name));
        Ok(matching.filter_map(|entry| self.place(folder, entry)).collect())
    }

    fn place(&self, folder: &Path, entry: FileEntry) -> Option<(PathBuf, bool)> {
        match entry.link {
            None => Some((folder.join(entry.name), entry.is_folder)),
            Some(link) => {
                let inside = link.strip_prefix(&self.root).ok()?.to_owned();
                Some((inside, self.files.entries(&link).is_ok()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryFiles, SystemFiles};
    use super::*;
    use thv_core::{Dirs, Env};

    fn hidden_in(config: &str, files: &dyn Files) -> Vec<String> {
        let sources = Sources {
            env: &Env::default(),
            dirs: &Dirs::under("/base"),
            files,
            ports: &crate::SystemPorts,
        };
        let hidden = hidden(&RunConfig::from_json(config.as_bytes()).unwrap(), &sources).unwrap();
        let shown = hidden.into_iter().map(|path| {
            let mark = if path.is_folder { "/" } else { "" };
            format!("{}{mark}", path.target)
        });
        shown.collect()
    }

    const MOUNTS: &str = r#"{"permission_profile": {"read": ["/data:/d"], "write": ["volume://v:/v", "/w"]},
        "ignore_config": {"LoadGlobal": true, "PrintOverlays": false}}"#;

    fn tree() -> MemoryFiles {
        let files = [
            "/data/.env",
            "/data/a.key",
            "/data/b.key",
            "/data/notes.txt",
            "/data/keys/one",
            "/data/sub/.env",
            "/data/sub/deep/c.key",
            "/w/a.key",
            "/w/.ssh/id",
        ];
        files
            .iter()
            .fold(MemoryFiles::default(), |files, path| files.with(path, ""))
    }

    #[test]
    fn each_pattern_hides_what_it_says_in_its_mount() {
        for (patterns, expected) in [
            (".env", &["/d/.env"][..]),
            ("# a word\n\n  *.key  ", &["/d/a.key", "/d/b.key"]),
            ("[ab].key", &["/d/a.key", "/d/b.key"]),
            ("keys/", &["/d/keys/"]),
            ("keys", &["/d/keys/"]),
            ("notes.txt/", &[]),
            ("sub/.env", &["/d/sub/.env"]),
            ("/sub/*/*.key", &["/d/sub/deep/c.key"]),
            ("sub\nsub/.env", &["/d/sub/"]),
            ("../etc\n/\n.\n!notes.txt", &[]),
        ] {
            let files = tree().with("/data/.thvignore", patterns);
            assert_eq!(hidden_in(MOUNTS, &files), expected, "{patterns}");
        }
    }

    #[test]
    fn the_global_file_is_for_every_mount_unless_it_is_left_out() {
        let files = tree().with("/base/config/toolhive/thvignore", "a.key\n.ssh/");
        assert_eq!(hidden_in(MOUNTS, &files), ["/d/a.key", "/w/.ssh/", "/w/a.key"]);
        assert!(hidden_in(&MOUNTS.replace("true", "false"), &files).is_empty());
        let without = r#"{"permission_profile": {"read": ["/data:/d"]}}"#;
        assert!(hidden_in(without, &files).is_empty());
    }

    #[test]
    fn a_server_cannot_change_what_is_hidden_from_it() {
        let files = tree().with("/w/.thvignore", "a.key").with("/data/.thvignore", "");
        assert_eq!(hidden_in(MOUNTS, &files), ["/w/.thvignore", "/w/a.key"]);
    }

    #[test]
    fn what_a_link_leads_to_is_hidden_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("real")).unwrap();
        std::fs::write(path("real/secret"), "s").unwrap();
        std::fs::write(path(".thvignore"), "link\nout\nnowhere\nalias/secret\n").unwrap();
        std::os::unix::fs::symlink("real/secret", path("link")).unwrap();
        std::os::unix::fs::symlink("real", path("alias")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", path("out")).unwrap();
        std::os::unix::fs::symlink("missing", path("nowhere")).unwrap();
        let config = format!(
            r#"{{"permission_profile": {{"read": ["{}:/d"]}}, "ignore_config": {{}}}}"#,
            folder.path().display()
        );
        assert_eq!(hidden_in(&config, &SystemFiles), ["/d/real/secret"]);
    }
}
