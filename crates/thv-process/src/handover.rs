//! Handing a claim, locks and sockets to a child process.
//!
//! The two ends of a Unix socket pair carry messages of up to 64 KiB, each with up to 16 open descriptors
//! (`SCM_RIGHTS`). A lock that was taken on a file (`flock`) and a socket that listens go along: they belong to the
//! open file, not to the process, and stay when the sender closes its copy. The kernel keeps them while the message
//! is in flight, and drops them when the receiver dies.
//!
//! The parent speaks asynchronously ([`AsyncChannel`]), the child may block ([`Channel`]), so that it can receive
//! before it starts an async runtime.
//!
//! ```
//! use std::os::fd::AsFd;
//! use std::time::Duration;
//! use thv_process::handover::Channel;
//!
//! let (parent, child) = Channel::pair()?;
//! let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
//! parent.send(b"claim", &[listener.as_fd()])?;
//!
//! let message = child.recv(Duration::from_secs(5))?.expect("the parent lives");
//! assert_eq!(message.bytes, b"claim");
//! let listener = std::net::TcpListener::from(message.fds.into_iter().next().expect("one descriptor"));
//! # drop(listener);
//! drop(parent);
//! assert!(child.recv(Duration::from_secs(5))?.is_none());
//! # Ok::<(), thv_process::ProcessError>(())
//! ```

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::watched::Watched;
use crate::{ProcessError, Result};

/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// The most descriptors that one message carries.
pub const MAX_FDS: usize = 16;

/// What one end sent.
#[derive(Debug)]
#[non_exhaustive]
pub struct Message {
    /// The text, never empty. It came from another process: parse it as such.
    pub bytes: Vec<u8>,
    /// The descriptors in the order in which they were sent, closed on `exec`.
    pub fds: Vec<OwnedFd>,
}

/// One end of a hand-over, for code that may block.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// One end of a hand-over, for async code.
#[derive(Debug)]
pub struct AsyncChannel(Watched);

impl Channel {
    /// Two connected ends. Neither is inherited by accident: both are closed on `exec`.
    pub fn pair() -> Result<(Self, Self)> {
        // Message boundaries, order, and an end that is noticed: what SOCK_SEQPACKET is for.
        socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map(|(a, b)| (Self(a), Self(b)))
        .map_err(|e| failed("create a socket pair", e))
    }

    /// The end that was given to this process, for example as its standard input.
    ///
    /// # Errors
    /// `Invalid` when the descriptor is not one end of a [`pair`](Self::pair).
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let is = |r: rustix::io::Result<bool>| r.unwrap_or(false);
        let unix = is(rustix::net::sockopt::socket_domain(&fd).map(|d| d == AddressFamily::UNIX));
        let packets = is(rustix::net::sockopt::socket_type(&fd).map(|t| t == SocketType::SEQPACKET));
        if unix && packets {
            Ok(Self(fd))
        } else {
            Err(ProcessError::invalid(
                "the descriptor is not the end of a hand-over",
            ))
        }
    }

    /// Takes this process's standard input, which becomes `/dev/null`, so that no program started later gets it.
    ///
    /// # Errors
    /// `Invalid`, and nothing changed, when standard input is not one end of a [`pair`](Self::pair).
    pub fn from_stdin() -> Result<Self> {
        let stdin = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
            .map_err(|e| failed("take over standard input", e))?;
        let channel = Self::from_fd(stdin)?;
        let null =
            std::fs::File::open("/dev/null").map_err(|e| ProcessError::from_io("open /dev/null", e))?;
        rustix::stdio::dup2_stdin(&null).map_err(|e| failed("replace standard input", e))?;
        Ok(channel)
    }

    /// Sends one message; the descriptors are copied, and closing them here afterwards takes nothing away.
    /// Waits for nothing.
    ///
    /// # Errors
    /// `Invalid` for a message that is empty or too large, `NoAnswer` when the other end is gone, `Unavailable` when
    /// so many messages wait to be received that the kernel has no room (a first one always has).
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        send(self.0.as_fd(), bytes, fds)
    }

    /// Waits for the next message; `None` when the other end was closed, by will or by death.
    ///
    /// # Errors
    /// `NoAnswer` after `timeout`, `Invalid` when what came is not a message of ours.
    pub fn recv(&self, timeout: Duration) -> Result<Option<Message>> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left =
                Timespec::try_from(left).map_err(|_| ProcessError::invalid("the timeout is out of range"))?;
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&left)) {
                Ok(0) => {
                    return Err(ProcessError::NoAnswer {
                        what: format!("the other end of the hand-over said nothing for {timeout:?}"),
                    });
                }
                Ok(_) => match receive(self.0.as_fd()) {
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    other => return other.map_err(|e| failed("receive the hand-over", e))?.parse(),
                },
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed("wait for the hand-over", error)),
            }
        }
    }

    /// The same end, for async code.
    ///
    /// # Panics
    /// Outside an async runtime with I/O enabled.
    pub fn into_async(self) -> Result<AsyncChannel> {
        Watched::readable(self.0)
            .map(AsyncChannel)
            .map_err(|e| ProcessError::from_io("watch the hand-over", e))
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl AsyncChannel {
    /// As [`Channel::send`].
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        send(self.0.as_fd(), bytes, fds)
    }

    /// Waits for the next message, without a timeout; `None` when the other end was closed, by will or by death.
    ///
    /// Cancel-safe: a message is taken in the moment in which this returns, or not at all.
    ///
    /// # Errors
    /// `Invalid` when what came is not a message of ours.
    pub async fn recv(&self) -> Result<Option<Message>> {
        loop {
            let mut ready = self
                .0
                .ready()
                .await
                .map_err(|e| ProcessError::from_io("wait for the hand-over", e))?;
            match receive(self.0.as_fd()) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                other => return other.map_err(|e| failed("receive the hand-over", e))?.parse(),
            }
        }
    }
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    if bytes.is_empty() || bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
        return Err(ProcessError::invalid(format!(
            "a hand-over of {} bytes and {} descriptors: allowed are 1 to {MAX_MESSAGE} and up to {MAX_FDS}",
            bytes.len(),
            fds.len()
        )));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(ProcessError::invalid("the descriptors of a hand-over do not fit"));
    }
    loop {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => {
                return Err(ProcessError::NoAnswer {
                    what: "the other end of the hand-over is gone".into(),
                });
            }
            Err(error) => return Err(failed("send the hand-over", error)),
        }
    }
}

/// What the kernel delivered, not yet judged.
struct Received {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
    flags: ReturnFlags,
}

/// Takes what is there now, without waiting.
fn receive(socket: BorrowedFd<'_>) -> Result<Received, Errno> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
        // The other end closed without reading what we had sent.
        Err(Errno::CONNRESET) => {
            return Ok(Received {
                bytes: Vec::new(),
                fds: Vec::new(),
                flags: ReturnFlags::empty(),
            });
        }
        other => other?,
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    bytes.truncate(received.bytes);
    Ok(Received {
        bytes,
        fds,
        flags: received.flags,
    })
}

impl Received {
    fn parse(self) -> Result<Option<Message>> {
        let cut = self.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        if cut || self.fds.len() > MAX_FDS {
            return Err(ProcessError::invalid(
                "the hand-over carries more bytes or descriptors than allowed",
            ));
        }
        if self.bytes.is_empty() {
            // We send no empty message, so this is the end.
            return Ok(None);
        }
        Ok(Some(Message {
            bytes: self.bytes,
            fds: self.fds,
        }))
    }
}

fn failed(what: &str, error: Errno) -> ProcessError {
    ProcessError::from_io(what, error)
}
