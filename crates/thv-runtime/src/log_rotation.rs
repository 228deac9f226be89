//! Keeping a log small while it is written.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use thv_core::{Env, InvalidVariable};
use thv_files::owner;

/// A line is not cut for a rotation unless it is longer than this.
const LONGEST_LINE: u64 = 1 << 20;
/// Smaller logs are none.
const SMALLEST: u64 = 1024;
/// More files are not kept.
const MOST_FILES: usize = 100;

const SIZE_VARIABLE: &str = "TOOLHIVE_LOG_MAX_SIZE";
const FILES_VARIABLE: &str = "TOOLHIVE_LOG_MAX_FILES";

/// When a log is rotated, and how much of it is kept.
///
/// What was written becomes `<path>.1` (what was there becomes `<path>.2`, and so on), and a new file takes its place:
/// nothing is copied, nothing is lost, and there is a file at `path` at any moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRotation {
    /// A log gets no longer than this, in bytes, but for its last line.
    pub size: u64,
    /// How many files there are at most, the one that is written included.
    pub files: usize,
}

impl Default for LogRotation {
    /// 10 MiB, three files.
    fn default() -> Self {
        Self {
            size: 10 << 20,
            files: 3,
        }
    }
}

impl LogRotation {
    /// The default, unless `TOOLHIVE_LOG_MAX_SIZE` (bytes, at least 1024) and `TOOLHIVE_LOG_MAX_FILES` (1 to 100) say
    /// otherwise.
    ///
    /// # Errors
    /// When one of them is no such number.
    pub fn from_env(env: &Env) -> Result<Self, InvalidVariable> {
        let default = Self::default();
        let size = env.number(SIZE_VARIABLE, SMALLEST..=u64::MAX)?;
        let files = env.number(FILES_VARIABLE, 1..=MOST_FILES as u64)?;
        Ok(Self {
            size: size.unwrap_or(default.size),
            files: files
                .and_then(|files| usize::try_from(files).ok())
                .unwrap_or(default.files),
        })
    }

    /// Opens the log at `path` to write at its end; a new one is readable by its owner only. Blocking, as all of it is.
    pub fn open(self, path: &Path) -> io::Result<RotatingLog> {
        let file = open_log(path)?;
        Ok(RotatingLog {
            length: file.metadata()?.len(),
            limit: self.size,
            path: path.to_owned(),
            rotation: self,
            line_is_whole: true,
            generation: 0,
            file,
        })
    }
}

/// Removes the log at `path`, and what its rotations left. A folder that is in the place of one and not empty stays: it is no
/// log.
pub fn remove_logs(path: &Path) -> io::Result<()> {
    let rotated = (0..MOST_FILES).map(|number| numbered(path, number));
    rotated.chain([path.to_owned()]).try_for_each(|log| {
        let folder = |error: &io::Error| error.kind() == io::ErrorKind::IsADirectory;
        match absent(fs::remove_file(&log)) {
            Err(error) if folder(&error) => match absent(fs::remove_dir(&log)) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
                other => other,
            },
            other => other,
        }
    })
}

/// Opens the log at `path` to write at its end, and makes it where there is none: readable by its owner only, who is
/// [whose the folder is](thv_files::owner). A link, a
/// pipe, a socket or an empty folder in its place gives way to it: nothing is written elsewhere, and nobody is waited for.
/// Blocking.
///
/// # Errors
/// `IsADirectory` for a folder with something in it; whatever opening says.
pub fn open_log(path: &Path) -> io::Result<File> {
    match appending(path) {
        Err(error) if is_no_log(&error) => {
            clear_way(path)?;
            appending(path)
        }
        other => other,
    }
}

/// What opening says of something that no log can be.
fn is_no_log(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::IsADirectory, io::ErrorKind::InvalidInput];
    let known = [Errno::LOOP, Errno::NXIO].map(|it| Some(it.raw_os_error()));
    kinds.contains(&error.kind()) || known.contains(&error.raw_os_error())
}

fn clear_way(path: &Path) -> io::Result<()> {
    let about = fs::symlink_metadata(path)?;
    if about.is_dir() {
        return match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                Err(io::ErrorKind::IsADirectory.into())
            }
            other => other,
        };
    }
    // Somebody else may have cleared the way meanwhile.
    if about.is_file() {
        Ok(())
    } else {
        absent(fs::remove_file(path))
    }
}

/// A log that is rotated while it is written. One value writes at a time; another one, also of another process, that has the
/// same log open goes on in the new file when it would rotate itself.
#[derive(Debug)]
pub struct RotatingLog {
    path: PathBuf,
    rotation: LogRotation,
    file: File,
    length: u64,
    /// Beyond this it is rotated.
    limit: u64,
    line_is_whole: bool,
    generation: u64,
}

impl RotatingLog {
    /// The file that is written now.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// How many other files it was before this one.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn rotate(&mut self) -> io::Result<()> {
        // Readers that look what became of the log wait for it; it waits for nobody, who may have been halted.
        self.file.try_lock()?;
        let rotated = self.replace();
        // Its descriptor may have copies that outlive it.
        let unlocked = self.file.unlock();
        self.file = rotated?;
        self.length = self.file.metadata()?.len();
        self.limit = self.rotation.size;
        self.generation += 1;
        unlocked
    }

    fn replace(&self) -> io::Result<File> {
        let there = absent(fs::metadata(&self.path).map(Some))?;
        let own = self.file.metadata()?;
        if there.is_none_or(|there| !same(&there, &own)) {
            // Another writer has rotated it, or somebody removed it.
            return open_log(&self.path);
        }
        let kept = self.rotation.files.saturating_sub(1);
        let made = numbered(&self.path, 0);
        absent(fs::remove_file(&made))?;
        let new = appending(&made)?;
        for number in (1..kept).rev() {
            absent(fs::rename(
                numbered(&self.path, number),
                numbered(&self.path, number + 1),
            ))?;
        }
        if kept > 0 {
            let last = numbered(&self.path, 1);
            absent(fs::remove_file(&last))?;
            // Where there are no hard links the log is away for a moment.
            if fs::hard_link(&self.path, &last).is_err() {
                fs::rename(&self.path, &last)?;
            }
        }
        fs::rename(made, &self.path)?;
        Ok(new)
    }
}

impl io::Write for RotatingLog {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<usize> {
        let grown = self.length.saturating_add(bytes.len() as u64);
        if self.length > 0 && grown > self.limit {
            if self.line_is_whole || self.length > self.limit.saturating_add(LONGEST_LINE) {
                if self.rotate().is_err() {
                    // Better a long log than none. Later it is tried again.
                    self.limit = grown.saturating_add(self.rotation.size / 8);
                }
            } else if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                // The line first; what comes after it is the next one's.
                bytes = &bytes[..=end];
            }
        }
        let written = self.file.write(bytes)?;
        self.length += written as u64;
        if written > 0 {
            self.line_is_whole = bytes.get(written - 1) == Some(&b'\n');
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A log to which what a server says is written block by block, off the async threads: a disk that is slow, or away, may make
/// whoever writes wait, and those threads serve clients.
#[derive(Debug)]
pub struct BlockLog {
    /// None: what is said is lost.
    log: Option<RotatingLog>,
    block: Vec<u8>,
    failing: bool,
}

impl BlockLog {
    /// Blocks of up to `size` bytes, for `log`; without one they are taken and lost.
    pub fn new(log: Option<RotatingLog>, size: usize) -> Self {
        Self {
            log,
            block: vec![0; size],
            failing: false,
        }
    }

    /// Where the next block is read to.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.block
    }

    /// Writes the first `length` bytes of the block. Says what is wrong at the first failure of a row; what could not be
    /// written is lost. Dropped, the write goes on to its end, and nothing more can be written with this value.
    pub async fn write(&mut self, length: usize) -> Option<io::Error> {
        let mut log = self.log.take()?;
        let block = std::mem::take(&mut self.block);
        let size = block.len();
        let writing = move || {
            let written = io::Write::write_all(&mut log, block.get(..length).unwrap_or(&block));
            (log, block, written)
        };
        let written = match tokio::task::spawn_blocking(writing).await {
            Ok((log, block, written)) => {
                (self.log, self.block) = (Some(log), block);
                written
            }
            // The thread is gone, and the log with it.
            Err(error) => {
                self.block = vec![0; size];
                Err(io::Error::other(error))
            }
        };
        let failed_before = std::mem::replace(&mut self.failing, written.is_err());
        written.err().filter(|_| !failed_before)
    }
}

fn appending(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(flags(OFlags::NONBLOCK | OFlags::NOFOLLOW))
        .open(path)?;
    let log = a_file(file)?;
    owner::as_folder(&log, path.parent().unwrap_or(path));
    Ok(log)
}

/// Opens a log to read it.
fn reading(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags(OFlags::NONBLOCK))
        .open(path)?;
    a_file(file)
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

/// A pipe, or a device, is no log.
fn a_file(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(if kind.is_dir() {
        io::ErrorKind::IsADirectory.into()
    } else {
        io::Error::new(io::ErrorKind::InvalidInput, "it is no file")
    })
}

/// `<path>.<number>`; number 0 is a new file that is not in its place yet.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The log at `path`, open for reading and locked against rotation while that is open.
pub(crate) fn open_settled(path: &Path) -> io::Result<File> {
    loop {
        let file = reading(path)?;
        file.lock_shared()?;
        // While it was waited for, the log may have become another file.
        match fs::metadata(path) {
            Ok(there) if !same(&there, &file.metadata()?) => {}
            Ok(_) => return Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(file),
            Err(error) => return Err(error),
        }
    }
}

/// What was rotated away from the log at `path`, the newest first. The caller holds the log's lock.
pub(crate) fn rotated_files(path: &Path) -> impl Iterator<Item = io::Result<File>> {
    (1..MOST_FILES).map_while(|number| match reading(&numbered(path, number)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened),
    })
}

/// What was rotated away from the log at `path` after the file with this inode, the oldest first, while `before` was
/// `<path>.1`. `None` when that file was not rotated away but replaced. The caller holds the log's lock.
pub(crate) fn rotated_since(path: &Path, inode: u64, before: Option<Mark>) -> io::Result<Option<Vec<File>>> {
    let mut files = Vec::new();
    for file in rotated_files(path) {
        let file = file?;
        let metadata = file.metadata()?;
        if metadata.ino() == inode || before == Some(mark(&metadata)) {
            files.reverse();
            return Ok(Some(files));
        }
        files.push(file);
    }
    Ok(None)
}

/// What tells a rotated file from all others: inode and time of its last change.
pub(crate) type Mark = (u64, i64, i64);

fn mark(file: &Metadata) -> Mark {
    (file.ino(), file.mtime(), file.mtime_nsec())
}

/// Which file `<path>.1` is, if there is one.
pub(crate) fn last_rotated(path: &Path) -> io::Result<Option<Mark>> {
    absent(fs::metadata(numbered(path, 1)).map(|file| Some(mark(&file))))
}

/// What is not there is nothing.
fn absent<T: Default>(result: io::Result<T>) -> io::Result<T> {
    result.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(T::default()),
        _ => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_that_gets_long_makes_room_between_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogRotation { size: 10, files: 3 }.open(&path).unwrap();
        for text in [
            "one\n",
            "two ",
            "two two\n",
            "three three\n",
            "four four\n",
            "5\n",
        ] {
            log.write_all(text.as_bytes()).unwrap();
        }
        let read = |number| fs::read_to_string(numbered(&path, number)).ok();
        assert_eq!(fs::read_to_string(&path).unwrap(), "5\n");
        assert_eq!(read(1).as_deref(), Some("four four\n"));
        assert_eq!(read(2).as_deref(), Some("three three\n"));
        assert_eq!((read(0), read(3)), (None, None));
        assert_eq!(log.generation(), 3);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(&numbered(&path, 1))), (0o600, 0o600));
        remove_logs(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_written_before_counts_and_one_file_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "long before\n").unwrap();
        let mut log = LogRotation { size: 10, files: 1 }.open(&path).unwrap();
        log.write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_log_that_root_rotates_is_whose_the_folder_is() {
        let dir = tempfile::tempdir().unwrap();
        if std::os::unix::fs::chown(dir.path(), Some(4711), Some(4712)).is_err() {
            println!("skipped: not root");
            return;
        }
        let path = dir.path().join("log");
        let mut log = LogRotation { size: 10, files: 2 }.open(&path).unwrap();
        log.write_all(b"12345678\n").unwrap();
        log.write_all(b"rotated\n").unwrap();
        for path in [&path, &numbered(&path, 1)] {
            let about = fs::metadata(path).unwrap();
            assert_eq!((about.uid(), about.gid()), (4711, 4712), "{}", path.display());
        }
    }

    #[test]
    fn two_writers_go_on_in_one_log_and_a_removed_one_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let rotation = LogRotation { size: 10, files: 3 };
        let mut old = rotation.open(&path).unwrap();
        let mut new = rotation.open(&path).unwrap();
        new.write_all(b"12345678\n").unwrap();
        new.write_all(b"rotated\n").unwrap();
        old.write_all(b"late\n").unwrap();
        assert_eq!(
            fs::read_to_string(numbered(&path, 1)).unwrap(),
            "12345678\nlate\n"
        );
        old.write_all(b"too much\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "rotated\ntoo much\n");
        assert!(!numbered(&path, 2).exists(), "it was rotated once");
        fs::remove_file(&path).unwrap();
        old.write_all(b"more\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "more\n");
    }

    #[test]
    fn a_log_that_cannot_be_rotated_grows_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogRotation { size: 10, files: 3 }.open(&path).unwrap();
        log.write_all(b"12345678\n").unwrap();
        // In the way of the new file.
        fs::create_dir_all(numbered(&path, 0).join("full")).unwrap();
        log.write_all(b"12345678\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 18);
    }

    /// Each was in the place of a log once, put there by a person, and kept a proxy from its work.
    #[test]
    fn what_is_no_log_gives_way_to_one_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("elsewhere"), "theirs").unwrap();
        std::os::unix::fs::symlink(at("elsewhere"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
        std::os::unix::fs::symlink("/dev/null", at("null")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
        let pipe = |name: &str| {
            let kind = rustix::fs::FileType::Fifo;
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, at(name), kind, mode, 0).unwrap();
        };
        pipe("pipe");
        pipe("read pipe");
        assert!(reading(&at("pipe")).is_err());
        let _reader = OpenOptions::new()
            .read(true)
            .write(true)
            .open(at("read pipe"))
            .unwrap();
        for name in [
            "link",
            "dangling",
            "null",
            "folder",
            "socket",
            "pipe",
            "read pipe",
        ] {
            let mut log = LogRotation::default().open(&at(name)).unwrap();
            log.write_all(b"ours\n").unwrap();
            assert!(fs::symlink_metadata(at(name)).unwrap().is_file(), "{name}");
            assert_eq!(fs::read(at(name)).unwrap(), b"ours\n", "{name}");
        }
        assert_eq!(fs::read(at("elsewhere")).unwrap(), b"theirs");
        assert!(!at("nowhere").exists());
        fs::create_dir_all(at("full/note")).unwrap();
        let full = LogRotation::default().open(&at("full")).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::IsADirectory);
        remove_logs(&at("full")).unwrap();
        assert!(at("full/note").exists());
        fs::create_dir(at("log.1")).unwrap();
        remove_logs(&at("log")).unwrap();
        assert!(!at("log.1").exists());
    }

    /// As on a disk that is away: the write waits until somebody reads. With a single thread, this test would never end.
    #[tokio::test]
    async fn a_disk_that_does_not_take_what_is_written_holds_no_worker_up() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, to) = io::pipe().unwrap();
        let mut log = LogRotation::default().open(&dir.path().join("log")).unwrap();
        log.file = std::os::fd::OwnedFd::from(to).into();
        let mut log = BlockLog::new(Some(log), 1 << 20);
        let writing = tokio::spawn(async move {
            let failed = log.write(1 << 20).await;
            (log, failed)
        });
        tokio::task::yield_now().await;
        assert!(!writing.is_finished());
        let reading = tokio::task::spawn_blocking(move || {
            let mut taken = vec![0; 1 << 20];
            io::Read::read_exact(&mut { disk }, &mut taken).map(|()| taken.len())
        });
        let (mut log, failed) = writing.await.unwrap();
        assert!(failed.is_none(), "{failed:?}");
        assert_eq!(log.space().len(), reading.await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn a_disk_that_is_full_is_said_once_and_again_when_it_fills_up_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let full = || OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut log = LogRotation::default().open(&path).unwrap();
        let there = std::mem::replace(&mut log.file, full());
        let mut log = BlockLog::new(Some(log), 4);
        log.space().copy_from_slice(b"one\n");
        let kind = |failed: Option<io::Error>| failed.map(|error| error.kind());
        assert_eq!(kind(log.write(4).await), Some(io::ErrorKind::StorageFull));
        assert_eq!(kind(log.write(4).await), None);
        log.log.as_mut().unwrap().file = there;
        assert_eq!(kind(log.write(4).await), None);
        assert_eq!(fs::read(&path).unwrap(), b"one\n");
        log.log.as_mut().unwrap().file = full();
        assert_eq!(kind(log.write(4).await), Some(io::ErrorKind::StorageFull));
        let mut lost = BlockLog::new(None, 4);
        assert_eq!(kind(lost.write(4).await), None);
        assert_eq!(lost.space().len(), 4);
    }

    #[test]
    fn the_environment_says_how_much_and_nonsense_is_an_error() {
        let of = |size: &str, files: &str| {
            let env = [(SIZE_VARIABLE, size), (FILES_VARIABLE, files)];
            LogRotation::from_env(&Env::from_vars(env))
        };
        assert_eq!(of("4096", "5"), Ok(LogRotation { size: 4096, files: 5 }));
        assert_eq!(of("", ""), Ok(LogRotation::default()));
        for size in ["10MB", "-1", "12"] {
            assert_eq!(of(size, "5").unwrap_err().variable, SIZE_VARIABLE, "{size}");
        }
        for files in ["0", "101", "x"] {
            assert_eq!(of("4096", files).unwrap_err().variable, FILES_VARIABLE, "{files}");
        }
    }
}
