//! Many small files of one folder, read one after the other, and again.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::atomic::{FIRST_READ, fill};
use crate::kept::Kept;

/// A buffer that one large file made larger than this is not kept.
const KEPT: usize = 256 * 1024;
/// A file system counts time in ticks: of two changes within one of them its times tell only the first.
const TICKS: Duration = Duration::from_secs(2);

/// A folder of many small files, and what they said.
///
/// From the second time on ([`retain`](Self::retain) is the end of the first), a file that is what it was (its device, number,
/// size, and when it was changed last) is not read again, as git does not read what its index knows. What was changed shortly before it was read is read again all the same, and so is everything on a
/// file system that is not one of this machine's own: what that tells of a file may be older than the file.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    remembered: Mutex<Kept<Said>>,
    now: fn() -> SystemTime,
}

/// What a file was, and said.
#[derive(Debug)]
struct Said {
    state: FileState,
    bytes: Arc<[u8]>,
}

/// What tells whether a file is the same as before. Its time of change is the kernel's: nobody can set it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileState {
    device: u64,
    number: u64,
    size: i64,
    changed: (i64, u64),
}

impl Folder {
    /// The folder at `path`, which need not be there.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            remembered: Mutex::default(),
            now: SystemTime::now,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it, to read files of it; one that is not there is as an empty one.
    ///
    /// # Errors
    /// Whatever opening says.
    pub fn reader(&self) -> io::Result<FolderReader<'_>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Ok(opened) => Some(opened),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        let remembers = opened.as_ref().filter(|_| self.remembered().is_used());
        Ok(FolderReader {
            device: remembers.and_then(device_that_tells_changes_at_once),
            folder: self,
            opened,
            buffer: Vec::new(),
        })
    }

    /// Forgets the files that are not `<name>.json` for one of `names`, which are in order, where their room is wanted.
    pub fn retain<N: AsRef<str>>(&self, names: &[N]) {
        self.remembered().retain(names, ".json");
    }

    fn remembered(&self) -> MutexGuard<'_, Kept<Said>> {
        // Each change is whole before anything could panic.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device of a folder, if what its file system tells of a file is as new as the file. Those of this machine's own disks
/// and memory do; one that another machine has keeps what it was told for a while.
fn device_that_tells_changes_at_once(folder: &OwnedFd) -> Option<u64> {
    const EXT: u64 = 0xEF53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683E;
    const TMPFS: u64 = 0x0102_1994;
    const OVERLAY: u64 = 0x794C_7630;
    let kind = u64::try_from(rustix::fs::fstatfs(folder).ok()?.f_type).ok()?;
    if ![EXT, XFS, BTRFS, TMPFS, OVERLAY].contains(&kind) {
        return None;
    }
    rustix::fs::fstat(folder).ok().map(|about| about.st_dev)
}

impl FileState {
    fn of(about: &Stat) -> Self {
        Self {
            device: about.st_dev,
            number: about.st_ino,
            size: about.st_size,
            changed: (about.st_ctime, about.st_ctime_nsec),
        }
    }

    /// Whether another change would show.
    fn is_settled(&self, now: SystemTime) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let Ok(seconds) = u64::try_from(seconds) else {
            return false;
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds as u32);
        now.duration_since(changed).is_ok_and(|passed| passed > TICKS)
    }
}

/// Reads files of a folder: no path is walked, and what is as it was is not read again.
///
/// The folder is the one that was there when it was opened, whatever has its name later.
#[derive(Debug)]
pub struct FolderReader<'f> {
    folder: &'f Folder,
    /// None: there is no such folder, and so no file in it.
    opened: Option<OwnedFd>,
    /// Where files must be to be remembered.
    device: Option<u64>,
    buffer: Vec<u8>,
}

impl FolderReader<'_> {
    /// The bytes of `file`, a name in the folder; `None` when there is no such file. What was not read again is the same
    /// allocation as before.
    ///
    /// # Errors
    /// `FileTooLarge` beyond `limit` bytes; whatever opening and reading say.
    pub fn read(&mut self, file: &str, limit: u64) -> io::Result<Option<Arc<[u8]>>> {
        if let Some(bytes) = self.unchanged(file, limit) {
            return Ok(Some(bytes));
        }
        let Some(mut opened) = self.find(file)? else {
            return Ok(None);
        };
        // Before it is read: what is changed meanwhile is another file then.
        let state = match self.device {
            Some(_) => Some(FileState::of(&rustix::fs::fstat(&opened)?)),
            None => None,
        };
        if self.buffer.len() < FIRST_READ || self.buffer.len() > KEPT {
            self.buffer = vec![0; FIRST_READ];
        }
        let filled = fill(&mut opened, limit, &mut self.buffer)?;
        let bytes: Arc<[u8]> = self.buffer[..filled].into();
        // A link may lead to a file of another device.
        let is_remembered =
            |state: &FileState| Some(state.device) == self.device && state.is_settled((self.folder.now)());
        if let Some(state) = state.filter(is_remembered) {
            let said = Said {
                state,
                bytes: Arc::clone(&bytes),
            };
            self.folder.remembered().put(file, said, bytes.len());
        }
        Ok(Some(bytes))
    }

    /// What the file said, if it is what it was.
    fn unchanged(&self, file: &str, limit: u64) -> Option<Arc<[u8]>> {
        let opened = self.opened.as_ref()?;
        let (state, bytes) = {
            let remembered = self.folder.remembered();
            let said = remembered.get(file)?;
            (said.state, Arc::clone(&said.bytes))
        };
        let about = rustix::fs::statat(opened, file, AtFlags::empty()).ok()?;
        (FileState::of(&about) == state && bytes.len() as u64 <= limit).then_some(bytes)
    }

    /// Opens `file` for reading; `None` when there is no such file.
    ///
    /// # Errors
    /// Whatever opening says.
    pub fn find(&self, file: &str) -> io::Result<Option<File>> {
        let Some(folder) = &self.opened else {
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

    /// One that was listed before.
    fn folder() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned());
        folder.retain::<&str>(&[]);
        (place, folder)
    }

    #[test]
    fn what_is_read_is_the_file_and_nothing_of_the_one_before() {
        let (place, folder) = folder();
        let large = vec![b'x'; FIRST_READ * 5 + 3];
        for (name, bytes) in [("large", large.as_slice()), ("small", b"s"), ("empty", b"")] {
            std::fs::write(place.path().join(name), bytes).unwrap();
        }
        let mut reader = folder.reader().unwrap();
        for _ in 0..2 {
            assert_eq!(reader.read("small", 10).unwrap().as_deref(), Some(&b"s"[..]));
            assert_eq!(
                reader.read("large", 1 << 20).unwrap().as_deref(),
                Some(large.as_slice())
            );
            assert_eq!(reader.read("empty", 10).unwrap().as_deref(), Some(&b""[..]));
            assert_eq!(reader.read("none", 10).unwrap(), None);
        }
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused_whatever_the_buffer_could_hold() {
        let (place, mut folder) = folder();
        std::fs::write(place.path().join("large"), vec![b'x'; FIRST_READ * 5]).unwrap();
        std::fs::write(place.path().join("eleven"), [b'x'; 11]).unwrap();
        std::fs::write(place.path().join("ten"), [b'x'; 10]).unwrap();
        folder.now = much_later;
        let mut reader = folder.reader().unwrap();
        assert!(reader.read("large", 1 << 20).unwrap().is_some());
        assert!(reader.read("eleven", 11).unwrap().is_some());
        let kind = |read: io::Result<Option<Arc<[u8]>>>| read.map(|it| it.is_some()).map_err(|e| e.kind());
        assert_eq!(kind(reader.read("eleven", 10)), Err(io::ErrorKind::FileTooLarge));
        assert_eq!(kind(reader.read("large", 10)), Err(io::ErrorKind::FileTooLarge));
        assert_eq!(kind(reader.read("ten", 10)), Ok(true));
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_files() {
        let (place, _) = folder();
        let folder = Folder::new(place.path().join("none"));
        let mut reader = folder.reader().unwrap();
        assert_eq!(reader.read("file", 10).unwrap(), None);
        assert!(reader.find("file").unwrap().is_none());
    }

    /// When all that the tests write was long ago.
    fn much_later() -> SystemTime {
        SystemTime::now() + Duration::from_hours(1)
    }

    #[test]
    fn what_is_as_it_was_is_not_read_again_and_what_is_not_is() {
        let (place, mut folder) = folder();
        folder.now = much_later;
        let file = place.path().join("file");
        let read = || folder.reader().unwrap().read("file", 10).unwrap().unwrap();
        std::fs::write(&file, "one").unwrap();
        let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
        let one = read();
        assert_eq!(*one, *b"one");
        assert!(Arc::ptr_eq(&one, &read()), "it was read again");
        // Written in place in another tick, as long as before, and said to be as old.
        let changed = || {
            rustix::fs::stat(&file)
                .map(|it| (it.st_ctime, it.st_ctime_nsec))
                .unwrap()
        };
        let before = changed();
        while changed() == before {
            std::fs::write(&file, "two").unwrap();
            let opened = File::options().write(true).open(&file).unwrap();
            opened.set_modified(modified).unwrap();
        }
        let two = read();
        assert_eq!(*two, *b"two");
        assert!(Arc::ptr_eq(&two, &read()), "it was read again");
        // Another one in its place.
        let other = place.path().join("other");
        std::fs::write(&other, "six").unwrap();
        std::fs::rename(&other, &file).unwrap();
        assert_eq!(*read(), *b"six");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(folder.reader().unwrap().read("file", 10).unwrap(), None);
        std::fs::create_dir(&file).unwrap();
        assert!(folder.reader().unwrap().read("file", 10).is_err());
    }

    #[test]
    fn what_a_link_leads_to_on_another_device_is_read_again() {
        let (place, mut folder) = folder();
        folder.now = much_later;
        std::os::unix::fs::symlink("/proc/version", place.path().join("link")).unwrap();
        let read = || folder.reader().unwrap().read("link", 4096).unwrap().unwrap();
        let (one, other) = (read(), read());
        assert!(one == other && !Arc::ptr_eq(&one, &other));
    }

    #[test]
    fn a_change_right_after_another_one_is_seen() {
        let (place, folder) = folder();
        let file = place.path().join("file");
        let mut reader = folder.reader().unwrap();
        for number in 100..400_u32 {
            let text = number.to_string();
            std::fs::write(&file, &text).unwrap();
            assert_eq!(reader.read("file", 10).unwrap().as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn a_file_is_settled_once_another_change_would_show() {
        let state = FileState {
            device: 1,
            number: 1,
            size: 1,
            changed: (1_000, 500_000_000),
        };
        for (seconds, nanoseconds, settled) in [
            (1_003, 0, true),
            (1_002, 500_000_000, false),
            (1_000, 500_000_000, false),
            // A clock that was set back.
            (900, 0, false),
        ] {
            let now = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
            assert_eq!(state.is_settled(now), settled, "{seconds}.{nanoseconds}");
        }
    }
}
