//! The files that a request names.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A file that a request names is not larger than this.
const MAX_FILE: u64 = 1024 * 1024;
/// How long whoever writes to a pipe may take.
const PIPE_WAIT: Duration = Duration::from_secs(10);

/// What building a configuration asks of the file system. It is asked off the async threads.
pub trait Files: Debug + Send + Sync + 'static {
    /// The text of a file, or of a pipe, of at most 1 MiB. A pipe that nobody writes to is an error after some seconds.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// Whether there is anything.
    fn exists(&self, path: &Path) -> bool;
    /// The names of the files in a folder, in order.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// All that is in a folder, in order, links by themselves.
    fn entries(&self, folder: &Path) -> io::Result<Vec<FileEntry>>;
    /// Where a path leads, all links followed.
    fn resolved(&self, path: &Path) -> io::Result<PathBuf>;
    /// The path from the root; symbolic links stay what they are, so that what they point to may change.
    fn absolute(&self, path: &Path) -> io::Result<PathBuf>;
    /// Whether it never waits, so that it may be asked on the async threads too: in tests, which are then the same each
    /// time.
    fn never_waits(&self) -> bool {
        false
    }
}

/// Something in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// Whether it is a folder; a link to one is not.
    pub is_folder: bool,
    /// Where it leads, if it is a link, resolved.
    pub link: Option<PathBuf>,
}

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        read_within(path, PIPE_WAIT)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names: Vec<_> = std::fs::read_dir(folder)?
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<FileEntry>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            // Of a link that leads nowhere nothing can be seen.
            let link = if kind.is_symlink() {
                std::fs::canonicalize(entry.path()).ok()
            } else {
                None
            };
            if kind.is_symlink() && link.is_none() {
                continue;
            }
            let name = entry.file_name().into_string().map_err(|name| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the name {} is not UTF-8", name.display()),
                )
            });
            found.push(FileEntry {
                name: name?,
                is_folder: kind.is_dir(),
                link,
            });
        }
        found.sort();
        Ok(found)
    }

    fn resolved(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        std::path::absolute(path)
    }
}

/// Opened without blocking: a named pipe without a writer must not hold anybody up.
fn read_within(path: &Path, wait: Duration) -> io::Result<String> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    match kind {
        rustix::fs::FileType::RegularFile => text(file),
        rustix::fs::FileType::Fifo => text(Pipe {
            file,
            deadline: Instant::now() + wait,
        }),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither a file nor a pipe",
        )),
    }
}

fn text(from: impl io::Read) -> io::Result<String> {
    let mut text = String::new();
    if from.take(MAX_FILE + 1).read_to_string(&mut text)? as u64 > MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 1 MiB",
        ));
    }
    Ok(text)
}

/// A pipe that is read until its writers are gone, or until the deadline.
struct Pipe {
    file: File,
    deadline: Instant,
}

impl io::Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            // A pipe that never had a writer reads as ended, but is not ready.
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&left)) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "nobody has written to the pipe, or closed it, in time",
                    ));
                }
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                answer => return answer,
            }
        }
    }
}

/// Files in memory, below a working directory of `/here`.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles(BTreeMap<PathBuf, String>);

impl MemoryFiles {
    /// With a file more; a relative path is below `/here`.
    #[must_use]
    pub fn with(mut self, path: impl AsRef<Path>, text: impl Into<String>) -> Self {
        self.0.insert(Path::new("/here").join(path), text.into());
        self
    }
}

impl Files for MemoryFiles {
    fn never_waits(&self) -> bool {
        true
    }

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
        if !self.exists(folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = self.0.keys().filter(|known| known.parent() == Some(folder));
        Ok(inside
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<FileEntry>> {
        let mut found: Vec<_> = self
            .0
            .keys()
            .filter_map(|known| {
                let mut rest = known.strip_prefix(folder).ok()?.components();
                let name = rest.next()?.as_os_str().to_str()?.to_owned();
                let is_folder = rest.next().is_some();
                Some(FileEntry {
                    name,
                    is_folder,
                    link: None,
                })
            })
            .collect();
        found.dedup();
        if found.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(found)
    }

    fn resolved(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(Path::new("/here").join(path))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

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
        assert!(SystemFiles.read(Path::new("/dev/zero")).is_err());
        assert_eq!(SystemFiles.names(folder.path()).unwrap(), ["a", "b"]);
        let none = SystemFiles.names(&path("none")).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
        assert!(SystemFiles.exists(&path("c")) && !SystemFiles.exists(&path("d")));
    }

    /// As a shell hands over `<(echo A=b)`.
    #[test]
    fn a_pipe_is_read_until_it_is_closed_and_up_to_the_limit() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        let read = std::thread::spawn({
            let path = path.clone();
            move || read_within(&path, LONG)
        });
        writer.write_all(b"A=b\n").unwrap();
        writer.write_all(b"C=d\n").unwrap();
        drop(writer);
        assert_eq!(read.join().unwrap().unwrap(), "A=b\nC=d\n");

        let (reader, mut writer) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        let endless = std::thread::spawn(move || while writer.write_all(&[b'x'; 4096]).is_ok() {});
        let error = read_within(&path, LONG).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        drop(reader);
        endless.join().unwrap();
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_or_closes_is_an_error_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let wait = Duration::from_millis(1);
        assert_eq!(
            read_within(&path, wait).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        let (reader, _writer) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        assert_eq!(
            read_within(&path, wait).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }
}
