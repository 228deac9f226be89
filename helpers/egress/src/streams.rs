//! Two connections as one.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many connections there are at once; more are closed.
const MOST: usize = 256;
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
pub(crate) trait Stream: Sized + Send + 'static
where
    for<'a> &'a Self: Read + Write,
{
    /// A second value for the same connection.
    fn twin(&self) -> io::Result<Self>;
    /// Ends one direction or both.
    fn end(&self, how: Shutdown);
}

impl Stream for TcpStream {
    fn twin(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn end(&self, how: Shutdown) {
        // It may have ended already.
        let _ = self.shutdown(how);
    }
}

impl Stream for UnixStream {
    fn twin(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn end(&self, how: Shutdown) {
        let _ = self.shutdown(how);
    }
}

/// Passes bytes both ways until both sides have ended.
pub(crate) fn join<A: Stream, B: Stream>(one: A, other: B) -> io::Result<()>
where
    for<'a> &'a A: Read + Write,
    for<'a> &'a B: Read + Write,
{
    let (from, to) = (one.twin()?, other.twin()?);
    let back = thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || pass(&other, &one))?;
    pass(&from, &to);
    // A thread of ours that passes bytes does not panic.
    let _ = back.join();
    Ok(())
}

/// One way; the end of it is passed on too.
fn pass<A: Stream, B: Stream>(from: &A, to: &B)
where
    for<'a> &'a A: Read + Write,
    for<'a> &'a B: Read + Write,
{
    let mut buffer = [0; 16 << 10];
    let (mut reader, mut writer) = (from, to);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break to.end(Shutdown::Write),
            Ok(read) if writer.write_all(&buffer[..read]).is_ok() => {}
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
    use super::*;

    #[test]
    fn there_is_an_end_to_how_many_are_served_at_once() {
        let held: Vec<_> = std::iter::from_fn(Turn::take).take(MOST + 1).collect();
        assert_eq!(held.len(), MOST);
        assert!(Turn::take().is_none());
        drop(held);
        assert!(Turn::take().is_some());
    }
}
