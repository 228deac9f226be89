//! Reading a log that is a file: a tail in constant memory, then what comes, through rotation, without polling.

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

/// Longer lines are cut into pieces of this many bytes.
const LONGEST_LINE: usize = 1 << 20;
const BLOCK: u64 = 64 * 1024;

/// The lines of the log at `path`, without their ends: the last `tail` of them (`None`: all), and with `follow` those
/// that are written later, until the file is removed or the stream is dropped. A file that is replaced (rotated) is
/// read to its end, then the new one from its beginning. One that gets shorter (copied and emptied) is read from its
/// beginning again.
///
/// Memory does not grow with the file. A line longer than 1 MiB comes in pieces. Cancel-safe.
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
    let opened = path.clone();
    let file = tokio::task::spawn_blocking(move || open(&opened, tail))
        .await
        .map_err(io::Error::other)??;
    let reader = Follower {
        path,
        inode: file.metadata()?.ino(),
        position: (&file).stream_position()?,
        file: reader(file),
        next: Next::More,
        changes,
        pending: Vec::new(),
    };
    Ok(futures_util::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|line| (line, reader)))
    })
    .boxed())
}

type Reader = BufReader<tokio::fs::File>;

fn reader(file: File) -> Reader {
    BufReader::new(tokio::fs::File::from_std(file))
}

fn open(path: &Path, tail: Option<usize>) -> io::Result<File> {
    let mut file = File::open(path)?;
    if let Some(lines) = tail {
        let start = tail_start(&mut file, lines)?;
        file.seek(SeekFrom::Start(start))?;
    }
    Ok(file)
}

/// Where the last `lines` lines begin, found from the end in blocks.
fn tail_start(file: &mut File, lines: usize) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut found = 0;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.clear();
        file.seek(SeekFrom::Start(start))?;
        (&mut *file).take(end - start).read_to_end(&mut block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = start + at as u64 + 1;
            // The end of the last line begins no other.
            if after == length {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(after);
            }
        }
        end = start;
    }
    Ok(0)
}

struct Follower {
    path: PathBuf,
    inode: u64,
    file: Reader,
    /// How much of the file was taken.
    position: u64,
    next: Next,
    changes: Option<Changes>,
    pending: Vec<u8>,
}

/// What comes when the open file has been read to its end.
enum Next {
    /// More of it.
    More,
    /// This file, which has its name now.
    File(File),
    /// Nothing: it was removed.
    Nothing,
}

impl Follower {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let available = self.file.fill_buf().await?;
            if !available.is_empty() {
                let end = available.iter().position(|byte| *byte == b'\n');
                let room = LONGEST_LINE - self.pending.len();
                let taken = end.unwrap_or(available.len()).min(room);
                self.pending.extend_from_slice(&available[..taken]);
                let whole = end == Some(taken);
                let taken = taken + usize::from(whole);
                self.file.consume(taken);
                self.position += taken as u64;
                if whole || self.pending.len() >= LONGEST_LINE {
                    return Ok(Some(self.take()));
                }
                continue;
            }
            if self.changes.is_none() {
                return Ok(self.take_rest());
            }
            // What was written before the file lost its name has been read only now.
            match std::mem::replace(&mut self.next, Next::More) {
                Next::More => {}
                Next::Nothing => {
                    self.next = Next::Nothing;
                    return Ok(self.take_rest());
                }
                Next::File(file) => {
                    self.inode = file.metadata()?.ino();
                    self.position = 0;
                    self.file = reader(file);
                    if let Some(rest) = self.take_rest() {
                        return Ok(Some(rest));
                    }
                    continue;
                }
            }
            if self.look().await? {
                continue;
            }
            if let Some(changes) = &mut self.changes
                && !changes.next().await
            {
                return Ok(None);
            }
        }
    }

    /// Looks whether the file has its name still, and is as long as it was. `true` when something is to be read.
    async fn look(&mut self) -> io::Result<bool> {
        match tokio::fs::metadata(&self.path).await {
            Ok(now) if now.ino() != self.inode => match tokio::fs::File::open(&self.path).await {
                Ok(file) => self.next = Next::File(file.into_std().await),
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.next = Next::Nothing,
                Err(error) => return Err(error),
            },
            Ok(now) if now.len() < self.position => {
                self.file.seek(SeekFrom::Start(0)).await?;
                self.position = 0;
                self.pending.clear();
            }
            Ok(now) => return Ok(now.len() > self.position),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.next = Next::Nothing,
            Err(error) => return Err(error),
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

/// Says when something in a log's folder has changed.
struct Changes {
    changed: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl Changes {
    fn watch(path: &Path) -> io::Result<Self> {
        // One place is enough: a change that is already told need not be told twice.
        let (tell, changed) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |_| {
            let _ = tell.try_send(());
        })
        .map_err(io::Error::other)?;
        let folder = path.parent().unwrap_or(Path::new("."));
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

    use super::*;

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
        let file = File::open(path).unwrap();
        Follower {
            path: path.to_owned(),
            inode: file.metadata().unwrap().ino(),
            position: 0,
            file: reader(file),
            next: Next::More,
            changes: Some(Changes::watch(path).unwrap()),
            pending: Vec::new(),
        }
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

    #[tokio::test]
    async fn a_log_that_is_not_there_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        for follow in [false, true] {
            let missing = log_file(&dir.path().join("log"), None, follow).await;
            assert_eq!(missing.err().unwrap().kind(), io::ErrorKind::NotFound);
        }
    }
}
