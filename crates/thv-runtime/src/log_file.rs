//! Reading a log that is a file: a tail in constant memory, then what comes, through rotation, without polling.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, BufReader};
use tokio::sync::mpsc;

use crate::changes;
use crate::log_rotation::{Mark, last_rotated, open_settled, rotated_files, rotated_since};

/// Longer lines are cut into pieces of this many bytes.
const LONGEST_LINE: usize = 1 << 20;
const BLOCK: u64 = 64 * 1024;

/// The lines of the log at `path`, without their ends: the last `tail` of them (`None`: all), and with `follow` those
/// that are written later, until the file is removed or the stream is dropped. A file that is replaced is read to its
/// end, then what was rotated away since ([`LogRotation`](crate::LogRotation)), then the new one from its beginning. One that
/// was emptied is read from its beginning. What was rotated away before counts as the log's beginning.
///
/// Memory does not grow with the file, nor does the search for the last lines: a line longer than 1 MiB comes in pieces, and each
/// of them counts as one. Cancel-safe.
///
/// # Errors
/// `NotFound` when there is no such file; whatever reading and watching say.
pub async fn log_file(
    path: &Path,
    tail: Option<usize>,
    follow: bool,
) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
    let path = path.to_owned();
    // Watched before the first read, so that nothing falls between.
    let changes = if follow {
        Some(Changes::watch(&path)?)
    } else {
        None
    };
    let reader = tokio::task::spawn_blocking(move || Follower::open(path, tail, changes))
        .await
        .map_err(io::Error::other)??;
    Ok(futures_util::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|line| (line, reader)))
    })
    .boxed())
}

type Reader = BufReader<tokio::fs::File>;

fn reader(file: File) -> Reader {
    BufReader::with_capacity(BLOCK as usize, tokio::fs::File::from_std(file))
}

/// Where the last `lines` lines begin, found from the end in blocks, and how many there are from there on.
fn tail_start(file: &mut File, lines: usize) -> io::Result<(u64, usize)> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok((length, 0));
    }
    let mut found = 0;
    let (mut end, mut line_end) = (length, length);
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.clear();
        file.seek(SeekFrom::Start(start))?;
        (&mut *file).take(end - start).read_to_end(&mut block)?;
        let ends = memchr::memrchr_iter(b'\n', &block).map(|at| Some(start + at as u64));
        for newline in ends.chain([None]) {
            let line_start = newline.map_or(start, |at| at + 1);
            // Of a line whose beginning is still to be found so many bytes are there already.
            while line_end.saturating_sub(line_start) > LONGEST_LINE as u64 {
                line_end -= LONGEST_LINE as u64;
                found += 1;
                if found == lines {
                    return Ok((line_end, found));
                }
            }
            let begins = newline.is_some() || start == 0;
            // The end of the last line begins no other.
            if begins && line_start < length {
                found += 1;
                if found == lines {
                    return Ok((line_start, found));
                }
            }
            line_end = newline.unwrap_or(line_end);
        }
        end = start;
    }
    Ok((0, found))
}

struct Follower {
    place: Place,
    /// What is read: the log itself, or a file that was the log.
    file: Reader,
    /// What is read after it, the log itself last.
    queue: VecDeque<File>,
    /// Whether the next of them goes on where this one ends, also within a line.
    continuous: bool,
    /// Whether the log was removed.
    gone: bool,
    changes: Option<Changes>,
    pending: Vec<u8>,
    /// Whether what was given last is a piece, whose line may end here.
    cut: bool,
}

/// How far the log has been read.
#[derive(Debug, Clone)]
struct Place {
    path: PathBuf,
    inode: u64,
    position: u64,
    /// Which file was rotated away last.
    rotated: Option<Mark>,
}

/// What became of the log since it was read.
enum Look {
    /// It is there, and longer or not.
    Same { longer: bool },
    /// It begins anew; what was in it is gone.
    Emptied,
    /// Another file has its name. Before it come those that were rotated away meanwhile, the oldest first; without them
    /// it has nothing to do with what was read.
    Replaced {
        rotated: Option<Vec<File>>,
        log: File,
        inode: u64,
        last: Option<Mark>,
    },
    /// It was removed.
    Gone,
}

impl Follower {
    fn open(path: PathBuf, tail: Option<usize>, changes: Option<Changes>) -> io::Result<Self> {
        let mut file = open_settled(&path)?;
        let rotated = last_rotated(&path)?;
        let inode = file.metadata()?.ino();
        let (mut position, mut found) = (0, 0);
        if let Some(lines) = tail {
            (position, found) = tail_start(&mut file, lines)?;
        }
        file.seek(SeekFrom::Start(position))?;
        let lock = file.try_clone()?;
        let mut queue = VecDeque::from([file]);
        // What is rotated away is held open from here on.
        for older in rotated_files(&path) {
            if tail.is_some_and(|lines| found >= lines) {
                break;
            }
            let mut older = older?;
            if let Some(lines) = tail {
                let more;
                (position, more) = tail_start(&mut older, lines - found)?;
                older.seek(SeekFrom::Start(position))?;
                found += more;
            }
            queue.push_front(older);
        }
        lock.unlock()?;
        let first = queue.pop_front().ok_or(io::ErrorKind::NotFound)?;
        let place = Place {
            path,
            inode,
            position,
            rotated,
        };
        Ok(Self {
            place,
            file: reader(first),
            queue,
            continuous: true,
            gone: false,
            changes,
            pending: Vec::new(),
            cut: false,
        })
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.file.buffer().is_empty() {
                let filled = !self.file.fill_buf().await?.is_empty();
                // Judged after it was read: what was read before a rotation is from before it.
                let changed = self.queue.is_empty() && !self.gone && self.look().await?;
                if changed {
                    continue;
                }
                if !filled {
                    match self.at_end().await? {
                        AtEnd::More => continue,
                        AtEnd::Line(line) => return Ok(line),
                    }
                }
            }
            let available = self.file.buffer();
            let end = memchr::memchr(b'\n', available);
            let room = LONGEST_LINE - self.pending.len();
            let taken = end.unwrap_or(available.len()).min(room);
            self.pending.extend_from_slice(&available[..taken]);
            let whole = end == Some(taken);
            let taken = taken + usize::from(whole);
            self.file.consume(taken);
            self.place.position += taken as u64;
            let ended_before = whole && self.pending.is_empty() && std::mem::take(&mut self.cut);
            if !ended_before && (whole || self.pending.len() >= LONGEST_LINE) {
                self.cut = !whole;
                return Ok(Some(self.take()));
            }
        }
    }

    /// The next file, or the end, or a change to wait for.
    async fn at_end(&mut self) -> io::Result<AtEnd> {
        if let Some(next) = self.queue.pop_front() {
            self.file = reader(next);
            self.place.position = 0;
            if self.continuous || self.pending.is_empty() {
                return Ok(AtEnd::More);
            }
            return Ok(AtEnd::Line(self.take_rest()));
        }
        match &mut self.changes {
            Some(changes) if !self.gone => {
                if changes.next().await {
                    Ok(AtEnd::More)
                } else {
                    Ok(AtEnd::Line(None))
                }
            }
            _ => Ok(AtEnd::Line(self.take_rest())),
        }
    }

    /// Looks what became of the log. `true` when what is read next is not what was read last.
    async fn look(&mut self) -> io::Result<bool> {
        let place = self.place.clone();
        let look = tokio::task::spawn_blocking(move || place.look());
        match look.await.map_err(io::Error::other)?? {
            Look::Same { longer } => return Ok(longer && self.file.buffer().is_empty()),
            Look::Emptied => {
                self.file.seek(SeekFrom::Start(0)).await?;
                self.place.position = 0;
                self.pending.clear();
                self.cut = false;
            }
            Look::Replaced {
                rotated,
                log,
                inode,
                last,
            } => {
                self.continuous = rotated.is_some();
                self.cut &= self.continuous;
                self.queue = rotated.into_iter().flatten().chain([log]).collect();
                (self.place.inode, self.place.rotated) = (inode, last);
                // What was written before the file lost its name is read first.
                return Ok(self.file.buffer().is_empty());
            }
            Look::Gone => {
                self.gone = true;
                return Ok(self.file.buffer().is_empty());
            }
        }
        Ok(true)
    }

    fn take_rest(&mut self) -> Option<Bytes> {
        (!self.pending.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.pending))
    }
}

enum AtEnd {
    More,
    Line(Option<Bytes>),
}

impl Place {
    fn look(&self) -> io::Result<Look> {
        let log = match open_settled(&self.path) {
            Ok(log) => log,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Gone),
            Err(error) => return Err(error),
        };
        let now = log.metadata()?;
        let look = if now.ino() != self.inode {
            Look::Replaced {
                rotated: rotated_since(&self.path, self.inode, self.rotated)?,
                log: log.try_clone()?,
                inode: now.ino(),
                last: last_rotated(&self.path)?,
            }
        } else if now.len() < self.position {
            Look::Emptied
        } else {
            Look::Same {
                longer: now.len() > self.position,
            }
        };
        log.unlock()?;
        Ok(look)
    }
}

/// Says when something in a log's folder has changed.
struct Changes {
    changed: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl Changes {
    fn watch(path: &Path) -> io::Result<Self> {
        // One place is enough: a change that is already told need not be told twice.
        let (tell, changed) = mpsc::channel(1);
        let folder = path.parent().unwrap_or(Path::new("."));
        let (log, within) = (path.file_name(), folder.file_name());
        let (log, within) = (log.unwrap_or_default().to_owned(), within.map(OsStr::to_owned));
        // Its folder has other logs, which are written all the time. Those that it was rotated to begin with its name.
        let concerns = move |name: &OsStr| {
            name.as_encoded_bytes().starts_with(log.as_encoded_bytes()) || within.as_deref() == Some(name)
        };
        let mut watcher = changes::watcher(concerns, move || {
            let _ = tell.try_send(());
        })?;
        watcher
            .watch(folder, RecursiveMode::NonRecursive)
            .map_err(|error| match error.kind {
                notify::ErrorKind::PathNotFound => io::ErrorKind::NotFound.into(),
                _ => io::Error::other(error),
            })?;
        Ok(Self {
            changed,
            _watcher: watcher,
        })
    }

    async fn next(&mut self) -> bool {
        self.changed.recv().await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::LogRotation;

    async fn lines(path: &Path, tail: Option<usize>) -> Vec<String> {
        let stream = log_file(path, tail, false).await.unwrap();
        stream
            .map(|line| String::from_utf8(line.unwrap().to_vec()).unwrap())
            .collect()
            .await
    }

    #[tokio::test]
    async fn a_tail_is_the_last_lines_also_across_blocks_and_without_a_last_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let long = "x".repeat(70_000);
        std::fs::write(&path, format!("one\n{long}\nthree\nfour")).unwrap();
        assert_eq!(lines(&path, Some(2)).await, ["three", "four"]);
        assert_eq!(lines(&path, Some(3)).await[0].len(), 70_000);
        assert_eq!(lines(&path, Some(99)).await.len(), 4);
        assert_eq!(lines(&path, None).await.len(), 4);
        assert!(lines(&path, Some(0)).await.is_empty());
    }

    #[tokio::test]
    async fn a_long_line_comes_in_pieces_and_each_of_them_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let piece = LONGEST_LINE;
        for (long, end) in [
            (piece, "\n"),
            (2 * piece, "\n"),
            (2 * piece, ""),
            (2 * piece + 9, ""),
            (3 * piece - 1, "\n"),
        ] {
            std::fs::write(&path, format!("one\n{}{end}", "x".repeat(long))).unwrap();
            let pieces = long.div_ceil(piece);
            let all = lines(&path, None).await;
            assert_eq!(all.len(), 1 + pieces, "{long}");
            for tail in 1..=pieces {
                let last = lines(&path, Some(tail)).await;
                assert_eq!(last.len(), tail, "{long} {tail}");
                assert_eq!(last.concat().len(), long.min(tail * piece), "{long} {tail}");
            }
            assert_eq!(lines(&path, Some(pieces + 1)).await, all, "{long}");
        }
    }

    #[tokio::test]
    async fn only_so_much_is_searched_for_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        // As large as no machine's disk, and without a single end of a line.
        File::create(&path).unwrap().set_len(1 << 42).unwrap();
        let last = lines(&path, Some(2)).await;
        assert_eq!(
            last.iter().map(String::len).collect::<Vec<_>>(),
            [LONGEST_LINE; 2]
        );
    }

    #[tokio::test]
    async fn following_goes_on_through_rotation_and_ends_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        file.write_all(b"old\n").unwrap();
        let mut stream = log_file(&path, Some(0), true).await.unwrap();
        file.write_all(b"one\n").unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "one");
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        // The rename alone removes the path: the new file must be there before the reader looks.
        std::fs::write(dir.path().join("new"), b"two\n").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "two");
        std::fs::remove_file(&path).unwrap();
        assert!(stream.next().await.is_none());
    }

    fn follower(path: &Path) -> Follower {
        Follower::open(path.to_owned(), None, Some(Changes::watch(path).unwrap())).unwrap()
    }

    fn appending(path: &Path) -> File {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap()
    }

    async fn next(stream: &mut BoxStream<'static, io::Result<Bytes>>) -> Bytes {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), stream.next());
        next.await.unwrap().unwrap().unwrap()
    }

    /// Rotates before each write that begins a line.
    const ROTATION: LogRotation = LogRotation { size: 0, files: 9 };

    #[tokio::test]
    async fn what_was_rotated_away_is_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for (file, text) in [
            ("log.2", "one\ntwo\n"),
            ("log.1", "three\nfour\n"),
            ("log", "five\n"),
        ] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let all = ["one", "two", "three", "four", "five"];
        assert_eq!(lines(&path, None).await, all);
        for tail in 0..7 {
            assert_eq!(
                lines(&path, Some(tail)).await,
                all[5_usize.saturating_sub(tail)..],
                "{tail}"
            );
        }
        let mut stream = log_file(&path, Some(4), true).await.unwrap();
        appending(&path).write_all(b"six\n").unwrap();
        for line in ["two", "three", "four", "five", "six"] {
            assert_eq!(next(&mut stream).await, line);
        }
    }

    #[tokio::test]
    async fn following_goes_on_through_rotations_and_within_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = ROTATION.open(&path).unwrap();
        log.write_all(b"old\n").unwrap();
        log.write_all(b"one\ntwo\nthr").unwrap();
        let mut stream = log_file(&path, None, true).await.unwrap();
        for line in ["old", "one"] {
            assert_eq!(next(&mut stream).await, line);
        }
        log.write_all(b"ee\n").unwrap();
        for line in ["four\n", "five\nsix\n", "seven\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        for line in ["two", "three", "four", "five", "six", "seven"] {
            assert_eq!(next(&mut stream).await, line);
        }
        log.write_all(b"eight\n").unwrap();
        assert_eq!(next(&mut stream).await, "eight");
    }

    #[tokio::test]
    async fn a_follower_misses_nothing_of_a_log_that_is_rotated_all_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogRotation { size: 300, files: 90 }.open(&path).unwrap();
        let mut stream = log_file(&path, None, true).await.unwrap();
        let mut read = 0;
        for round in 0..50 {
            // The reader may be anywhere meanwhile, but not so far behind that it is not kept.
            let writing = tokio::task::spawn_blocking(move || {
                for line in 0..100 {
                    writeln!(log, "{}", round * 100 + line).unwrap();
                }
                log
            });
            for _ in 0..(50 + round) {
                assert_eq!(next(&mut stream).await, read.to_string());
                read += 1;
            }
            log = writing.await.unwrap();
        }
        while read < 5000 {
            assert_eq!(next(&mut stream).await, read.to_string());
            read += 1;
        }
    }

    #[tokio::test]
    async fn what_replaces_a_log_is_not_taken_for_its_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = ROTATION.open(&path).unwrap();
        log.write_all(b"old\n").unwrap();
        log.write_all(b"one\n").unwrap();
        let mut stream = log_file(&path, None, true).await.unwrap();
        for line in ["old", "one"] {
            assert_eq!(next(&mut stream).await, line);
        }
        std::fs::write(dir.path().join("new"), b"another\n").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(next(&mut stream).await, "another");
    }

    #[tokio::test]
    async fn what_is_written_between_the_last_read_and_the_rotation_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut old = File::create(&path).unwrap();
        let mut follower = follower(&path);
        assert!(
            follower.file.fill_buf().await.unwrap().is_empty(),
            "read to its end"
        );
        old.write_all(b"late\n").unwrap();
        std::fs::write(dir.path().join("new"), b"two\n").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(follower.look().await.unwrap());
        assert_eq!(follower.next().await.unwrap().unwrap(), "late");
        assert_eq!(follower.next().await.unwrap().unwrap(), "two");
        assert!(
            follower.file.fill_buf().await.unwrap().is_empty(),
            "read to its end"
        );
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"last")
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(follower.look().await.unwrap());
        assert_eq!(follower.next().await.unwrap().unwrap(), "last");
        assert!(follower.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_file_that_was_emptied_is_read_from_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "a long line that was there\n").unwrap();
        let mut stream = log_file(&path, Some(0), true).await.unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"more\n").unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "more");
        file.set_len(0).unwrap();
        file.write_all(b"new\n").unwrap();
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), stream.next());
        assert_eq!(next.await.unwrap().unwrap().unwrap(), "new");
    }

    /// Whoever looks what became of the log opens it, which is no reason to look again. Nor is another log beside it.
    #[tokio::test]
    async fn who_follows_a_log_that_does_not_change_rests() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "one\n").unwrap();
        let mut other = File::create(dir.path().join("other")).unwrap();
        let mut stream = log_file(&path, None, true).await.unwrap();
        assert_eq!(next(&mut stream).await, "one");
        let mut polls = 0;
        let waiting = std::future::poll_fn(|cx| {
            polls += 1;
            stream.poll_next_unpin(cx)
        });
        let over = Arc::new(AtomicBool::new(false));
        let writes = {
            let over = Arc::clone(&over);
            move || {
                while !over.load(Relaxed) {
                    writeln!(other, "more").unwrap();
                }
            }
        };
        let writing = std::thread::spawn(writes);
        let moment = std::time::Duration::from_millis(100);
        assert!(tokio::time::timeout(moment, waiting).await.is_err());
        over.store(true, Relaxed);
        writing.join().unwrap();
        assert!(polls < 20, "looked again and again: {polls}");
    }

    #[tokio::test]
    async fn a_log_that_is_not_there_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        for follow in [false, true] {
            let missing = log_file(&dir.path().join("log"), None, follow).await;
            assert_eq!(missing.err().unwrap().kind(), io::ErrorKind::NotFound);
        }
    }
}
