//! A descriptor whose readiness the async runtime watches.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

/// An owned descriptor that is registered. It cannot be taken out or exchanged.
#[derive(Debug)]
pub(crate) struct Watched(AsyncFd<OwnedFd>);

impl Watched {
    /// # Panics
    /// Outside an async runtime with I/O enabled.
    pub(crate) fn readable(fd: OwnedFd) -> io::Result<Self> {
        Self::registered(fd, Interest::READABLE)
    }

    /// One that is written to, of which only the end of its reader is of interest.
    ///
    /// # Panics
    /// Outside an async runtime with I/O enabled.
    pub(crate) fn broken(fd: OwnedFd) -> io::Result<Self> {
        Self::registered(fd, Interest::ERROR)
    }

    #[expect(unsafe_code, reason = "tokio has no safe way to watch a descriptor")]
    fn registered(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is a valid descriptor until it is dropped, and `AsyncFd` deregisters before it drops
        // what it owns. Nobody can close or exchange it meanwhile: the field is private and no method gives it
        // away or lends it mutably.
        Ok(Self(unsafe { AsyncFd::register_with_interest(fd, interest) }?))
    }

    /// Waits until there is nobody who reads what is written to it. Cancel-safe.
    pub(crate) async fn reader_has_gone(&self) -> io::Result<()> {
        self.0.ready(Interest::ERROR).await.map(drop)
    }

    /// Waits until it can be read, or the other side is gone. Cancel-safe.
    pub(crate) async fn ready(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.0.readable().await
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
