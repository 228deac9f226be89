//! The file itself.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thv_core::{Dirs, Json};
use thv_files::{atomic, lock};

use crate::edit::{self, Value};
use crate::{Error, RegistrySetting, Result, Settings};

/// The largest file that is read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
/// How long ToolHive waits for the lock too.
const PATIENCE: Duration = Duration::from_secs(1);

/// `config.yaml`. Every call reads it anew; all of them block.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: PathBuf,
}

impl ConfigFile {
    /// The file of these directories.
    pub fn new(dirs: &Dirs) -> Self {
        Self::at(dirs.config_file())
    }

    /// The file at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its settings; the defaults when there is no file. Nothing is written.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) and [`Io`](Error::Io).
    pub fn read(&self) -> Result<Settings> {
        self.parse(&self.text()?)
    }

    /// Makes `registry` the one that is asked; the keys of the other kinds are cleared. `allow_private` counts for what is
    /// asked over the network: a file leaves the key as it is, the built-in catalogue clears it.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid), [`Busy`](Error::Busy) and [`Io`](Error::Io). Then nothing has changed.
    pub fn set_registry(&self, registry: &RegistrySetting, allow_private: bool) -> Result<()> {
        let (mut api, mut url, mut path) = (String::new(), String::new(), String::new());
        let mut allow = Some(allow_private);
        match registry {
            RegistrySetting::Api(base) => api.clone_from(base),
            RegistrySetting::Url(document) => url.clone_from(document),
            RegistrySetting::File(file) => {
                path = file
                    .to_str()
                    .map(str::to_owned)
                    .ok_or_else(|| self.invalid("the path is not UTF-8"))?;
                allow = None;
            }
            RegistrySetting::BuiltIn => allow = Some(false),
        }
        let mut changes = vec![
            ("registry_url", Value::Text(url)),
            ("registry_api_url", Value::Text(api)),
            ("local_registry_path", Value::Text(path)),
        ];
        changes.extend(allow.map(|allow| ("allow_private_registry_ip", Value::Switch(allow))));
        self.change(|_| changes)
    }

    /// Says where secrets are kept. What else is in the section stays.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid), [`Busy`](Error::Busy) and [`Io`](Error::Io). Then nothing has changed.
    pub fn set_secrets(&self, provider_type: &str, setup_completed: bool) -> Result<()> {
        self.change(|settings| {
            let section = settings.iter().find(|(key, _)| key == "secrets");
            let mut section: Vec<(String, Json)> = section
                .and_then(|(_, value)| value.as_object())
                .unwrap_or_default()
                .iter()
                .map(|(key, value)| (key.as_str().to_owned(), value.clone()))
                .collect();
            let changes = [
                ("provider_type", provider_type.into()),
                ("setup_completed", setup_completed.into()),
            ];
            for (key, value) in changes {
                match section.iter_mut().find(|(name, _)| name == key) {
                    Some((_, there)) => *there = value,
                    None => section.push((key.to_owned(), value)),
                }
            }
            vec![("secrets", Value::Section(section.into_iter().collect()))]
        })
    }

    /// Makes the changes that `wanted` names after it has seen what is there; nobody else changes it meanwhile.
    fn change(&self, wanted: impl FnOnce(&[(String, Json)]) -> Vec<(&'static str, Value)>) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        atomic::create_folder(folder, 0o700).map_err(|source| self.io("create the folder of", source))?;
        let mut name = self.path.clone().into_os_string();
        name.push(".lock");
        let lock = lock::exclusive_within(Path::new(&name), PATIENCE);
        let Some(_lock) = lock.map_err(|source| self.io("lock", source))? else {
            return Err(Error::Busy {
                path: self.path.clone(),
            });
        };
        let before = self.text()?;
        self.parse(&before)?;
        let settings = self.pairs(&before)?;
        let changes = wanted(&settings);
        let after = self.edited(&before, settings, &changes)?;
        if after != before {
            self.write(&after).map_err(|source| self.io("write", source))?;
        }
        Ok(())
    }

    /// The text with the changes, which means what it meant (`expected`) but for them.
    fn edited(
        &self,
        before: &str,
        mut expected: Vec<(String, Json)>,
        changes: &[(&str, Value)],
    ) -> Result<String> {
        let mut after = before.to_owned();
        for (key, value) in changes {
            match expected.iter_mut().find(|(name, _)| name == key) {
                Some((_, there)) if *there == value.json() => continue,
                Some((_, there)) => *there = value.json(),
                None if value.is_default() => continue,
                None => expected.push(((*key).to_owned(), value.json())),
            }
            after = edit::set(&after, key, value);
        }
        self.parse(&after)?;
        if self.pairs(&after)? != expected {
            let detail = "it is written in a form that cannot be changed key by key: write one key per line";
            return Err(self.invalid(detail));
        }
        Ok(after)
    }

    fn text(&self) -> Result<String> {
        let bytes =
            atomic::read_regular(&self.path, MAX_CONFIG_BYTES).map_err(|source| match source.kind() {
                io::ErrorKind::InvalidInput => self.invalid("it is not a file"),
                io::ErrorKind::FileTooLarge => {
                    self.invalid(format!("it has more than {MAX_CONFIG_BYTES} bytes"))
                }
                _ => self.io("read", source),
            })?;
        String::from_utf8(bytes.unwrap_or_default()).map_err(|_| self.invalid("it is not UTF-8"))
    }

    fn parse(&self, text: &str) -> Result<Settings> {
        if is_blank(text) {
            return Ok(Settings::default());
        }
        serde_saphyr::from_str(text).map_err(|error| self.unreadable(&error))
    }

    /// The top level in its order.
    fn pairs(&self, text: &str) -> Result<Vec<(String, Json)>> {
        if is_blank(text) {
            return Ok(Vec::new());
        }
        match serde_saphyr::from_str(text).map_err(|error| self.unreadable(&error))? {
            Json::Object(pairs) => Ok(pairs
                .into_iter()
                .map(|(key, value)| (key.as_str().to_owned(), value))
                .collect()),
            Json::Null => Ok(Vec::new()),
            _ => Err(self.invalid("it is not a mapping")),
        }
    }

    /// What is wrong, and where. The parser's own words may quote values, and those may be secrets.
    fn unreadable(&self, error: &serde_saphyr::Error) -> Error {
        use serde_saphyr::Error as E;
        let problem = match error.without_snippet() {
            E::DuplicateMappingKey { .. } => "a key stands twice",
            E::MultipleDocuments { .. } => "a second document begins",
            E::Eof { .. } => "it ends too early",
            E::SerdeInvalidType { .. }
            | E::SerdeInvalidValue { .. }
            | E::Unexpected { .. }
            | E::InvalidScalar { .. }
            | E::InvalidBooleanStrict { .. } => "a value is of another type than it has to be",
            E::Budget { .. } | E::AliasReplayLimitExceeded { .. } | E::AliasExpansionLimitExceeded { .. } => {
                "it is larger than a configuration can be"
            }
            _ => "it is not YAML of the expected shape",
        };
        match error.location() {
            Some(at) => self.invalid(format!("line {}, column {}: {problem}", at.line(), at.column())),
            None => self.invalid(problem),
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        // A link stays a link; what it names is replaced.
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        // What cannot be taken away hinders nobody.
        let _ = atomic::sweep(target.parent().unwrap_or(Path::new(".")));
        atomic::replace(&target, ".config.yaml.", text.as_bytes())
    }

    fn invalid(&self, detail: impl Into<String>) -> Error {
        Error::Invalid {
            path: self.path.clone(),
            detail: detail.into(),
        }
    }

    fn io(&self, action: &'static str, source: io::Error) -> Error {
        Error::Io {
            path: self.path.clone(),
            action,
            source,
        }
    }
}

/// Nothing but comments and white space: a document without content.
fn is_blank(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with('#') || line == "---")
}
