//! Many small files of one folder, read one after the other.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::atomic::{FIRST_READ, fill};

/// A buffer that one large file made larger than this is not kept.
const KEPT: usize = 256 * 1024;

/// Reads files of one folder into one buffer: no path is walked and no memory is asked for anew for each of them.
///
/// The folder is the one that was there when it was opened, whatever has its name later.
#[derive(Debug)]
pub struct FolderReader {
    /// None: there is no such folder, and so no file in it.
    folder: Option<OwnedFd>,
    buffer: Vec<u8>,
}

impl FolderReader {
    /// Opens `folder`; one that is not there is as an empty one.
    ///
    /// # Errors
    /// Whatever opening says.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match rustix::fs::open(folder, flags, Mode::empty()) {
            Ok(folder) => Some(folder),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            folder,
            buffer: Vec::new(),
        })
    }

    /// The bytes of `file`, a name in the folder, until the next one is read; `None` when there is no such file.
    ///
    /// # Errors
    /// `FileTooLarge` beyond `limit` bytes; whatever opening and reading say.
    pub fn read(&mut self, file: &str, limit: u64) -> io::Result<Option<&[u8]>> {
        let Some(mut file) = self.find(file)? else {
            return Ok(None);
        };
        if self.buffer.len() < FIRST_READ || self.buffer.len() > KEPT {
            self.buffer = vec![0; FIRST_READ];
        }
        let filled = fill(&mut file, limit, &mut self.buffer)?;
        Ok(Some(&self.buffer[..filled]))
    }

    /// Opens `file` for reading; `None` when there is no such file.
    ///
    /// # Errors
    /// Whatever opening says.
    pub fn find(&self, file: &str) -> io::Result<Option<File>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        // Not blocking: a pipe under a file's name must not hold a reader up.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::openat(folder, file, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_the_file_and_nothing_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let large = vec![b'x'; FIRST_READ * 5 + 3];
        for (name, bytes) in [("large", large.as_slice()), ("small", b"s"), ("empty", b"")] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let mut reader = FolderReader::open(folder.path()).unwrap();
        for _ in 0..2 {
            assert_eq!(reader.read("small", 10).unwrap(), Some(&b"s"[..]));
            assert_eq!(reader.read("large", 1 << 20).unwrap(), Some(large.as_slice()));
            assert_eq!(reader.read("empty", 10).unwrap(), Some(&b""[..]));
            assert_eq!(reader.read("none", 10).unwrap(), None);
        }
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused_whatever_the_buffer_could_hold() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("large"), vec![b'x'; FIRST_READ * 5]).unwrap();
        std::fs::write(folder.path().join("eleven"), [b'x'; 11]).unwrap();
        std::fs::write(folder.path().join("ten"), [b'x'; 10]).unwrap();
        let mut reader = FolderReader::open(folder.path()).unwrap();
        assert!(reader.read("large", 1 << 20).unwrap().is_some());
        let kind = |read: io::Result<Option<&[u8]>>| read.map(|it| it.is_some()).map_err(|e| e.kind());
        assert_eq!(kind(reader.read("eleven", 10)), Err(io::ErrorKind::FileTooLarge));
        assert_eq!(kind(reader.read("large", 10)), Err(io::ErrorKind::FileTooLarge));
        assert_eq!(kind(reader.read("ten", 10)), Ok(true));
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = FolderReader::open(&folder.path().join("none")).unwrap();
        assert_eq!(reader.read("file", 10).unwrap(), None);
        assert!(reader.find("file").unwrap().is_none());
    }
}
