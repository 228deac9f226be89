//! Where this process writes: its standard output and error.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use crate::watched::Watched;

/// Whether standard error is this file: not another one of the same path.
pub fn writes_to(file: &File) -> io::Result<bool> {
    let errors = rustix::fs::fstat(rustix::stdio::stderr())?;
    let file = file.metadata()?;
    Ok((errors.st_dev, errors.st_ino) == (file.dev(), file.ino()))
}

/// Lets standard output and error go to this file from now on, whatever thread writes.
pub fn write_to(file: &File) -> io::Result<()> {
    rustix::stdio::dup2_stdout(file)?;
    Ok(rustix::stdio::dup2_stderr(file)?)
}

/// Resolves when nobody reads what is written to `output`, a pipe: who has nothing to write would not learn it. Never where that
/// cannot be seen, as of a file. Cancel-safe.
///
/// # Panics
/// Outside an async runtime with I/O enabled.
pub async fn reader_has_gone(output: impl AsFd) {
    let watched = output.as_fd().try_clone_to_owned().and_then(Watched::broken);
    match watched {
        Ok(output) if output.reader_has_gone().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_reader_is_seen_without_a_write() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut gone = pin!(reader_has_gone(&writer));
        let poll = gone.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(poll, Poll::Pending);
        drop(reader);
        gone.await;
        // Also of one that had gone before.
        reader_has_gone(&writer).await;
    }

    #[tokio::test]
    async fn a_file_has_no_reader() {
        let file = tempfile::tempfile().unwrap();
        let mut gone = pin!(reader_has_gone(&file));
        let poll = gone.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(poll, Poll::Pending);
    }
}
