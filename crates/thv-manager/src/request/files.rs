//! The files that a request names.

use std::fmt::Debug;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// A file that a request names is not larger than this.
const MAX_FILE: u64 = 1024 * 1024;

/// What building a configuration may ask of the file system.
pub(crate) trait Files: Debug + Send + Sync {
    /// The text of a file of at most 1 MiB.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// Whether there is anything.
    fn exists(&self, path: &Path) -> bool;
    /// The names of the files in a folder, in order; of a folder that is not there, none.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// The path from the root; symbolic links stay what they are, so that what they point to may change.
    fn absolute(&self, path: &Path) -> io::Result<PathBuf>;
}

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemFiles;

impl Files for SystemFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        let file = std::fs::File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        let mut text = String::new();
        if file.take(MAX_FILE + 1).read_to_string(&mut text)? as u64 > MAX_FILE {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "it is larger than 1 MiB",
            ));
        }
        Ok(text)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        std::path::absolute(path)
    }
}

/// Files in memory, below a working directory of `/here`.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct MemoryFiles(pub(crate) std::collections::BTreeMap<PathBuf, String>);

#[cfg(test)]
impl MemoryFiles {
    pub(crate) fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.into(), text.to_owned());
        self
    }
}

#[cfg(test)]
impl Files for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.keys().any(|known| known.starts_with(path))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let inside = self.0.keys().filter(|known| known.parent() == Some(folder));
        Ok(inside
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(Path::new("/here").join(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_up_to_their_limit_and_folders_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("b"), "text").unwrap();
        std::fs::write(path("a"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
        std::fs::create_dir(path("c")).unwrap();
        assert_eq!(SystemFiles.read(&path("b")).unwrap(), "text");
        assert_eq!(
            SystemFiles.read(&path("a")).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        assert!(SystemFiles.read(&path("c")).is_err());
        assert_eq!(SystemFiles.names(folder.path()).unwrap(), ["a", "b"]);
        assert!(SystemFiles.names(&path("none")).unwrap().is_empty());
        assert!(SystemFiles.exists(&path("c")) && !SystemFiles.exists(&path("d")));
    }
}
