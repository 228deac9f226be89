//! The home and the log of a workload: kept while instances come and go, removed with the workload.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thv_core::WorkloadName;
use thv_runtime::{Result, remove_logs};

use crate::LocalConfig;
use crate::error::file;
use crate::record::gone;

/// Files of a workload that are to be removed.
#[derive(Debug)]
pub(crate) struct Files {
    home: Option<PathBuf>,
    log: Option<PathBuf>,
}

impl Files {
    /// All that there may be.
    pub(crate) fn all_of(config: &LocalConfig, name: &WorkloadName) -> Self {
        Self {
            home: Some(config.home(name.as_str())),
            log: Some(config.log(name.as_str())),
        }
    }

    /// Those that are not there yet: what is made from here on.
    pub(crate) fn new_of(config: &LocalConfig, name: &WorkloadName) -> Self {
        let all = Self::all_of(config, name);
        Self {
            home: all.home.filter(|home| !home.exists()),
            log: all.log.filter(|log| !log.exists()),
        }
    }

    pub(crate) fn remove(self) -> Result<()> {
        if let Some(home) = self.home {
            remove_folder(&home).map_err(|e| file("remove", &home, e))?;
        }
        if let Some(log) = self.log {
            remove_logs(&log).map_err(|e| file("remove", &log, e))?;
        }
        Ok(())
    }
}

/// Removes a folder with all that is in it, read-only folders (as Go's module cache makes them) included. What is not
/// there is removed already.
fn remove_folder(home: &Path) -> io::Result<()> {
    match gone(fs::remove_dir_all(home)) {
        // Something else is there, which the workload's home cannot be.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => gone(fs::remove_file(home)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(home)?;
            gone(fs::remove_dir_all(home))
        }
        other => other,
    }
}

/// Lets the owner change the folder and all folders below. Links are not followed.
fn make_writable(folder: &Path) -> io::Result<()> {
    let now = fs::symlink_metadata(folder)?;
    if !now.is_dir() {
        return Ok(());
    }
    let mode = now.permissions().mode();
    if mode & 0o700 != 0o700 {
        fs::set_permissions(folder, Permissions::from_mode(mode | 0o700))?;
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A type of its own: of a link it is the link's.
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_the_place_of_a_home_or_a_log_does_not_keep_its_workload() {
        let folder = tempfile::tempdir().unwrap();
        let (home, log) = (folder.path().join("home"), folder.path().join("log"));
        fs::write(&home, "no folder").unwrap();
        fs::create_dir(&log).unwrap();
        let files = Files {
            home: Some(home.clone()),
            log: Some(log.clone()),
        };
        files.remove().unwrap();
        assert!(!home.exists() && !log.exists());
    }
}
