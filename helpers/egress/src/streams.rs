//! Two connections as one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// How many connections there are at once; more are closed.
const MOST: usize = 256;
/// Where one side has ended, so long may the other one be silent. A server that never ends would keep its turn for good.
const HALF_ENDED: Duration = Duration::from_mins(15);
/// A thread that passes bytes needs little.
const STACK: usize = 192 << 10;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// One of the connections that there may be.
#[derive(Debug)]
struct Turn(());

impl Turn {
    /// `None` when there are too many.
    fn take() -> Option<Self> {
        let taken = OPEN.fetch_add(1, Ordering::AcqRel) < MOST;
        if !taken {
            OPEN.fetch_sub(1, Ordering::AcqRel);
        }
        // Not `then_some`: a turn that was made and not taken would give one back.
        taken.then(|| Self(()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Serves a connection in a thread of its own. Where there are too many, or what it does fails, the connection ends,
/// and both of its ends know.
pub(crate) fn serve(work: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let Some(turn) = Turn::take() else { return };
    let serving = move || {
        let _turn = turn;
        let _ = work();
    };
    let _ = thread::Builder::new().stack_size(STACK).spawn(serving);
}

/// A connection, whatever it is made of.
pub(crate) trait Stream: Send + Sync + 'static
where
    for<'a> &'a Self: Read + Write,
{
    /// Ends one direction or both.
    fn end(&self, how: Shutdown);
    /// How long to wait for bytes.
    fn wait_for(&self, time: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn end(&self, how: Shutdown) {
        // It may have ended already.
        let _ = self.shutdown(how);
    }

    fn wait_for(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }
}

impl Stream for UnixStream {
    fn end(&self, how: Shutdown) {
        let _ = self.shutdown(how);
    }

    fn wait_for(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }
}

/// Passes bytes both ways until both sides have ended, or one has and the other says nothing for long.
pub(crate) fn join<A: Stream, B: Stream>(one: A, other: B) -> io::Result<()>
where
    for<'a> &'a A: Read + Write,
    for<'a> &'a B: Read + Write,
{
    join_within(one, other, HALF_ENDED)
}

fn join_within<A: Stream, B: Stream>(one: A, other: B, silence: Duration) -> io::Result<()>
where
    for<'a> &'a A: Read + Write,
    for<'a> &'a B: Read + Write,
{
    one.wait_for(silence)?;
    other.wait_for(silence)?;
    // Shared, not duplicated: of descriptors there may be 1,024.
    let both = Arc::new((one, other, AtomicBool::new(false)));
    let back = thread::Builder::new().stack_size(STACK).spawn({
        let both = Arc::clone(&both);
        move || pass(&both.1, &both.0, &both.2)
    })?;
    pass(&both.0, &both.1, &both.2);
    // A thread of ours that passes bytes does not panic.
    let _ = back.join();
    Ok(())
}

/// One way; the end of it is passed on too.
fn pass<A: Stream, B: Stream>(from: &A, to: &B, one_has_ended: &AtomicBool)
where
    for<'a> &'a A: Read + Write,
    for<'a> &'a B: Read + Write,
{
    let mut buffer = [0; 16 << 10];
    let (mut reader, mut writer) = (from, to);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => {
                one_has_ended.store(true, Ordering::Release);
                break to.end(Shutdown::Write);
            }
            Ok(read) if writer.write_all(&buffer[..read]).is_ok() => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && !one_has_ended.load(Ordering::Acquire) => {
            }
            // Half of it is no use to anybody.
            _ => {
                from.end(Shutdown::Both);
                break to.end(Shutdown::Both);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::sync::mpsc;

    use super::*;

    /// How many descriptors of this process are this socket.
    fn descriptors(socket: &std::path::Path) -> usize {
        let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|found| found == socket))
            .count()
    }

    /// Docker and Podman may give a program 1,024, and there may be 256 connections.
    #[test]
    fn a_connection_takes_a_descriptor_at_each_end() {
        let (client, near) = UnixStream::pair().unwrap();
        let (far, server) = UnixStream::pair().unwrap();
        let sockets = [&near, &far].map(|end| format!("/proc/self/fd/{}", end.as_raw_fd()));
        let sockets = sockets.map(|path| std::fs::read_link(path).unwrap());
        let joined = thread::spawn(|| join(near, far));
        for (mut from, mut to) in [(&client, &server), (&server, &client)] {
            from.write_all(b"x").unwrap();
            to.read_exact(&mut [0]).unwrap();
        }
        for socket in sockets {
            assert_eq!(descriptors(&socket), 1);
        }
        drop((client, server));
        joined.join().unwrap().unwrap();
    }

    /// A server that never ends its side would keep the turn of each client that came and went.
    #[test]
    fn a_side_that_is_silent_after_the_end_of_the_other_is_not_waited_for() {
        let (client, near) = UnixStream::pair().unwrap();
        let (far, server) = UnixStream::pair().unwrap();
        let (ended, end) = mpsc::channel();
        let soon = Duration::from_millis(20);
        thread::spawn(move || ended.send(join_within(near, far, soon).is_ok()));
        // Silence on both sides is no end.
        assert!(end.recv_timeout(3 * soon).is_err());
        (&client).write_all(b"x").unwrap();
        (&server).read_exact(&mut [0]).unwrap();
        drop(client);
        assert!(end.recv_timeout(Duration::from_secs(60)).unwrap());
    }

    #[test]
    fn there_is_an_end_to_how_many_are_served_at_once() {
        let held: Vec<_> = std::iter::from_fn(Turn::take).take(MOST + 1).collect();
        assert_eq!(held.len(), MOST);
        assert!(Turn::take().is_none());
        drop(held);
        assert!(Turn::take().is_some());
    }
}
