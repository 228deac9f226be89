//! A connection whose peer must read, and is missed when it has gone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Bytes that are read before anybody wants them.
const AHEAD: usize = 16 * 1024;
/// Of what was sent beyond the end so much is read, for so long.
const MOST_BEYOND: usize = 1 << 20;
const LONGEST_BEYOND: Duration = Duration::from_secs(1);

/// A stream on which a write that makes no progress for a while is an error: what waits to be written is memory.
///
/// So is its end while a request is worked on. Whoever sends the next request before the answer to the first would not
/// be missed otherwise: nobody reads on while one request waits.
///
/// Where this side ends it and there is more to be read, that is read and thrown away for a moment: a system resets a
/// connection that is closed before, and the peer may not get the answer that says why. Behind the refusal of a head that is too
/// long more is waited for: its rest may be under way.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    limit: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    /// What was read last is worked on: nobody waits for more, and nothing was written since.
    paused: bool,
    ahead: BytesMut,
    beyond: Beyond,
}

/// How far the end of this side has come.
#[derive(Debug, Default)]
struct Beyond {
    is_shut: bool,
    /// What was written last refuses a head, of which more may come.
    refused: bool,
    read: usize,
    /// Runs while more is waited for.
    patience: Option<Pin<Box<Sleep>>>,
}

/// The connection's own answer to a head without end, which no service sees.
fn refuses_head(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 431 ") || answer.starts_with(b"HTTP/1.1 414 ")
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            stalled: None,
            paused: false,
            ahead: BytesMut::new(),
            beyond: Beyond::default(),
        }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let limit = self.limit;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Reads on, up to a bound: the end of the stream is an error.
    fn look_ahead(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.ahead.len() < AHEAD {
            let mut room = [0; 2048];
            let mut buffer = ReadBuf::new(&mut room);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(outcome) => outcome?,
            }
            if buffer.filled().is_empty() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            self.ahead.extend_from_slice(buffer.filled());
        }
        Ok(())
    }

    /// Resolves when there is nothing more, or it is too much. Who has sent nothing is not waited for, unless it was in the
    /// middle of a head.
    fn read_beyond(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.beyond.read < MOST_BEYOND {
            let mut room = [0; 8192];
            let mut buffer = ReadBuf::new(&mut room);
            let outcome = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
            let count = buffer.filled().len();
            match outcome {
                Poll::Ready(Ok(())) if count > 0 => self.beyond.read += count,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if self.beyond.read == 0 && !self.beyond.refused => return Poll::Ready(()),
                Poll::Pending => {
                    let sleep = || Box::pin(tokio::time::sleep(LONGEST_BEYOND));
                    return self.beyond.patience.get_or_insert_with(sleep).as_mut().poll(cx);
                }
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = buffer.remaining().min(self.ahead.len());
            buffer.put_slice(&self.ahead[..count]);
            self.ahead.advance(count);
            self.paused = true;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.paused = buffer.filled().len() > before;
        outcome
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.paused = false;
        self.beyond.refused = refuses_head(bytes);
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.paused = false;
        self.beyond.refused = pieces.first().is_some_and(|piece| refuses_head(piece));
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The connection does this each time it has nothing to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.paused {
            self.look_ahead(cx)?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.beyond.is_shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.beyond.is_shut = true;
        }
        self.read_beyond(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_read_ahead_is_not_lost_and_the_end_behind_it_is_noticed() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut near = Watched::new(near, Duration::from_secs(30));
        near.flush().await.unwrap();
        let sent: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        far.write_all(&sent).await.unwrap();
        let mut read = vec![0; 10];
        near.read_exact(&mut read).await.unwrap();
        near.flush().await.unwrap();
        assert!(
            (AHEAD..AHEAD + 2048).contains(&near.ahead.len()),
            "no more than that"
        );
        read.resize(sent.len() - 5_000, 0);
        near.read_exact(&mut read[10..]).await.unwrap();
        near.write_all(b"an answer").await.unwrap();
        drop(far);
        near.flush().await.unwrap();
        let mut rest = [0; 2_000];
        near.read_exact(&mut rest).await.unwrap();
        let gone = near.flush().await.unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::ConnectionAborted);
        read.extend_from_slice(&rest);
        assert_eq!(read[..], sent[..read.len()]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_beyond_the_end_is_read_for_a_moment_and_nothing_else_is_waited_for() {
        use futures_util::FutureExt as _;
        let new = || {
            let (near, far) = tokio::io::duplex(1 << 16);
            (Watched::new(near, Duration::from_secs(30)), far)
        };
        let (mut near, _far) = new();
        near.shutdown().now_or_never().expect("nothing was sent").unwrap();

        let (mut near, mut far) = new();
        far.write_all(&[1; 100]).await.unwrap();
        let ending = tokio::spawn(async move { near.shutdown().await });
        // More than there is room for at one time.
        far.write_all(&vec![2; MOST_BEYOND / 2]).await.unwrap();
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "it says that it ends");
        drop(far);
        ending.await.unwrap().unwrap();

        // Who is in the middle of a head that was refused has sent nothing at this moment, and goes on.
        let (mut near, mut far) = new();
        let refusal = b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n";
        near.write_all(refusal).await.unwrap();
        let ending = tokio::spawn(async move { near.shutdown().await });
        tokio::task::yield_now().await;
        far.write_all(&vec![2; MOST_BEYOND / 2]).await.unwrap();
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, refusal);
        drop(far);
        ending.await.unwrap().unwrap();

        // Who goes on without end is not listened to without end.
        let (mut near, mut far) = new();
        let flood = tokio::spawn(async move { while far.write_all(&[2; 8192]).await.is_ok() {} });
        tokio::task::yield_now().await;
        near.shutdown().await.unwrap();
        drop(near);
        flood.await.unwrap();

        // And who has said something is not waited for without end.
        let (mut near, mut far) = new();
        far.write_all(&[1; 100]).await.unwrap();
        near.shutdown().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_an_error_and_one_that_reads_slowly_is_not() {
        let (near, mut far) = tokio::io::duplex(10);
        let mut near = Watched::new(near, Duration::from_secs(30));
        let writing = tokio::spawn(async move {
            near.write_all(&[1; 100]).await?;
            near.write_all(&[2; 100]).await
        });
        let mut read = [0; 10];
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            far.read_exact(&mut read).await.unwrap();
        }
        assert_eq!(
            writing.await.unwrap().unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }
}
