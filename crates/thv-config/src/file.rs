//! The file itself.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thv_core::{Dirs, Json};

use crate::edit::{self, Value};
use crate::{Error, RegistrySetting, Result, Settings, lock};

/// The largest file that is read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

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
        create_folder(folder).map_err(|source| self.io("create the folder of", source))?;
        let mut name = self.path.clone().into_os_string();
        name.push(".lock");
        let lock = lock::take(Path::new(&name)).map_err(|source| self.io("lock", source))?;
        let Some(_lock) = lock else {
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
            self.write(folder, &after)
                .map_err(|source| self.io("write", source))?;
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
        // Not waiting: a pipe would wait for a writer.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&self.path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            Err(source) => return Err(self.io("open", source)),
        };
        let about = file.metadata().map_err(|source| self.io("look at", source))?;
        if !about.is_file() {
            return Err(self.invalid("it is not a file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_CONFIG_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| self.io("read", source))?;
        if bytes.len() as u64 > MAX_CONFIG_BYTES {
            return Err(self.invalid(format!("it has more than {MAX_CONFIG_BYTES} bytes")));
        }
        String::from_utf8(bytes).map_err(|_| self.invalid("it is not UTF-8"))
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

    fn write(&self, folder: &Path, text: &str) -> io::Result<()> {
        // A link stays a link; what it names is replaced.
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let folder = target.parent().unwrap_or(folder);
        // tempfile creates with mode 0600.
        let mut file = tempfile::Builder::new()
            .prefix(".config.yaml.")
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
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

fn create_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        other => other,
    }
}
