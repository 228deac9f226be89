//! Where a program keeps its files.

use std::path::{Path, PathBuf};

use crate::Env;

/// The base directories of one installation, all absolute.
///
/// The methods name the folders that this project and ToolHive share; nothing is created by asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// `$HOME`.
    pub home: PathBuf,
    /// `$XDG_CONFIG_HOME`, by default `~/.config`.
    pub config: PathBuf,
    /// `$XDG_DATA_HOME`, by default `~/.local/share`.
    pub data: PathBuf,
    /// `$XDG_STATE_HOME`, by default `~/.local/state`.
    pub state: PathBuf,
    /// `$XDG_CACHE_HOME`, by default `~/.cache`.
    pub cache: PathBuf,
    /// `$XDG_RUNTIME_DIR`, if there is one.
    pub runtime: Option<PathBuf>,
    /// `$TMPDIR`, by default `/tmp`.
    pub temp: PathBuf,
}

/// Why the base directories could not be determined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirsError {
    /// Neither `HOME` nor a home directory was given.
    #[error("HOME is not set, or is no absolute path: set it to the folder that holds your files")]
    NoHome,
    /// A variable names a folder in bytes that are no text; files in the default's place would not be this user's.
    #[error("{variable} is not UTF-8: set it to a path that is")]
    NotText {
        /// The variable.
        variable: &'static str,
    },
}

impl Dirs {
    /// Determines the directories by the XDG rules from `env`. Relative XDG values are ignored, as the
    /// specification asks; values that are not UTF-8 are errors.
    pub fn from_env(env: &Env) -> Result<Self, DirsError> {
        let absolute = |variable: &'static str| {
            if env.is_not_text(variable) {
                return Err(DirsError::NotText { variable });
            }
            let path = env.non_empty(variable).map(PathBuf::from);
            Ok(path.filter(|path| path.is_absolute()))
        };
        let home = absolute("HOME")?.ok_or(DirsError::NoHome)?;
        let base = |variable, fallback| Ok(absolute(variable)?.unwrap_or_else(|| home.join(fallback)));
        Ok(Self {
            config: base("XDG_CONFIG_HOME", ".config")?,
            data: base("XDG_DATA_HOME", ".local/share")?,
            state: base("XDG_STATE_HOME", ".local/state")?,
            cache: base("XDG_CACHE_HOME", ".cache")?,
            runtime: absolute("XDG_RUNTIME_DIR")?,
            temp: absolute("TMPDIR")?.unwrap_or_else(|| PathBuf::from("/tmp")),
            home,
        })
    }

    /// All base directories below one folder: for tests, and for embedders that keep everything together.
    pub fn under(root: impl AsRef<Path>) -> Self {
        let root = root.as_ref();
        Self {
            home: root.join("home"),
            config: root.join("config"),
            data: root.join("data"),
            state: root.join("state"),
            cache: root.join("cache"),
            runtime: Some(root.join("run")),
            temp: root.join("tmp"),
        }
    }

    /// The user's patterns of paths to hide from every mount: `$XDG_CONFIG_HOME/toolhive/thvignore`.
    pub fn ignore_file(&self) -> PathBuf {
        self.config.join("toolhive/thvignore")
    }

    /// Run configurations: `$XDG_STATE_HOME/toolhive/runconfigs`.
    pub fn runconfigs(&self) -> PathBuf {
        self.state.join("toolhive/runconfigs")
    }

    /// Groups: `$XDG_STATE_HOME/toolhive/groups`.
    pub fn groups(&self) -> PathBuf {
        self.state.join("toolhive/groups")
    }

    /// Companion records, locks and server logs of ours: `$XDG_STATE_HOME/toolhive/lifecycle`.
    pub fn lifecycle(&self) -> PathBuf {
        self.state.join("toolhive/lifecycle")
    }

    /// Status files: `$XDG_DATA_HOME/toolhive/statuses`.
    pub fn statuses(&self) -> PathBuf {
        self.data.join("toolhive/statuses")
    }

    /// PID files: `$XDG_DATA_HOME/toolhive/pids`.
    pub fn pids(&self) -> PathBuf {
        self.data.join("toolhive/pids")
    }

    /// Logs of proxies: `$XDG_DATA_HOME/toolhive/logs`.
    pub fn proxy_logs(&self) -> PathBuf {
        self.data.join("toolhive/logs")
    }

    /// The log of a workload's proxy.
    pub fn proxy_log(&self, name: &str) -> PathBuf {
        self.proxy_logs().join(format!("{name}.log"))
    }

    /// Logs of servers that no engine keeps: `lifecycle/logs`.
    pub fn server_logs(&self) -> PathBuf {
        self.lifecycle().join("logs")
    }

    /// The log of a workload's server, where no engine keeps it.
    pub fn server_log(&self, name: &str) -> PathBuf {
        self.server_logs().join(format!("{name}.log"))
    }

    /// Encrypted secrets: `$XDG_DATA_HOME/toolhive/secrets_encrypted`.
    pub fn secrets_file(&self) -> PathBuf {
        self.data.join("toolhive/secrets_encrypted")
    }

    /// How often encrypted secrets have changed: `lifecycle/secret-revisions`.
    pub fn secret_revisions(&self) -> PathBuf {
        self.lifecycle().join("secret-revisions")
    }

    /// The application's configuration file: `$XDG_CONFIG_HOME/toolhive/config.yaml`.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("toolhive/config.yaml")
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_folder_in_bytes_that_are_no_text_is_not_another_one() {
        let bytes = OsStr::from_bytes(b"/\xff");
        for variable in [
            "HOME",
            "XDG_CONFIG_HOME",
            "XDG_DATA_HOME",
            "XDG_STATE_HOME",
            "XDG_CACHE_HOME",
            "XDG_RUNTIME_DIR",
            "TMPDIR",
        ] {
            let home = ("HOME", OsStr::new("/home/me"));
            let env = Env::from_vars([home, (variable, bytes)]);
            assert_eq!(Dirs::from_env(&env), Err(DirsError::NotText { variable }));
            let env = Env::from_vars([home, (variable, bytes), (variable, OsStr::new("/a"))]);
            assert!(Dirs::from_env(&env).is_ok(), "{variable}");
        }
        let none = Env::from_vars([("OTHER", bytes)]);
        assert_eq!(Dirs::from_env(&none), Err(DirsError::NoHome));
    }
}
