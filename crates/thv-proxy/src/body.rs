//! One body type for what comes in and what goes out.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::budget::{Budget, Share};
use crate::reverse::Driven;
use crate::serve::Returning;

/// The cause of a broken body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// An HTTP body.
pub struct Body(Kind);

enum Kind {
    /// A few pieces in memory: sent without joining them.
    Pieces {
        pieces: [Bytes; 3],
        next: usize,
    },
    Incoming(Incoming),
    Received(Returning),
    Driven(Driven),
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>),
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Kind::Pieces { .. } => "Body(memory)",
            Kind::Incoming(_) | Kind::Received(_) | Kind::Driven(_) => "Body(incoming)",
            Kind::Stream(_) => "Body(stream)",
            Kind::Boxed(_) => "Body(boxed)",
        })
    }
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::pieces([bytes.into(), Bytes::new(), Bytes::new()])
    }

    /// These bytes, one after the other.
    pub(crate) fn pieces(pieces: [Bytes; 3]) -> Self {
        Self(Kind::Pieces { pieces, next: 0 })
    }

    /// Whatever the stream yields, as it comes.
    pub fn stream(stream: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Self {
        Self(Kind::Stream(Box::pin(stream)))
    }

    /// Any other body.
    pub fn boxed<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        use http_body_util::BodyExt;
        Self(Kind::Boxed(Box::pin(body.map_err(Into::into))))
    }

    /// The next bytes; none at the end. Cancel-safe.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        use http_body_util::BodyExt;
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

impl From<Incoming> for Body {
    fn from(body: Incoming) -> Self {
        Self(Kind::Incoming(body))
    }
}

impl From<Returning> for Body {
    fn from(body: Returning) -> Self {
        Self(Kind::Received(body))
    }
}

impl From<Driven> for Body {
    fn from(body: Driven) -> Self {
        Self(Kind::Driven(body))
    }
}

impl From<axum::body::Body> for Body {
    fn from(body: axum::body::Body) -> Self {
        Self::boxed(body)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Pieces { pieces, next } => {
                while let Some(piece) = pieces.get_mut(*next) {
                    *next += 1;
                    if !piece.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(std::mem::take(piece)))));
                    }
                }
                Poll::Ready(None)
            }
            Kind::Incoming(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Kind::Received(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Kind::Driven(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Kind::Stream(stream) => stream
                .as_mut()
                .poll_next(cx)
                .map(|item| item.map(|item| item.map(Frame::data))),
            Kind::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Pieces { pieces, .. } => pieces.iter().all(Bytes::is_empty),
            Kind::Incoming(body) => body.is_end_stream(),
            Kind::Received(body) => body.is_end_stream(),
            Kind::Driven(body) => body.is_end_stream(),
            Kind::Stream(_) => false,
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Pieces { pieces, .. } => {
                SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum())
            }
            Kind::Incoming(body) => body.size_hint(),
            Kind::Received(body) => body.size_hint(),
            Kind::Driven(body) => body.size_hint(),
            Kind::Stream(_) => SizeHint::default(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

/// Why a request body was not read.
#[derive(Debug)]
pub(crate) enum ReadError {
    TooLarge,
    TooSlow,
    Broken,
    /// There is no memory for it now.
    Starved,
}

/// A whole body, and its share of the memory for bodies.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    pub(crate) share: Share,
}

/// A first allocation is not larger: a length that was only announced costs nothing.
const FIRST_ROOM: usize = 1 << 20;

/// A piece that is not longer is copied: else it would keep the whole buffer of its connection, which then could not be
/// used again while the request is under way.
const SMALL: usize = 4 << 10;

/// Reads a whole body of at most `limit` bytes; its memory is taken from `budget` as it comes. A large body in one piece
/// is not copied.
pub(crate) async fn read_all(
    mut body: Body,
    limit: usize,
    within: std::time::Duration,
    budget: &Budget,
) -> Result<Held, ReadError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(ReadError::TooLarge);
    }
    // Mostly all of it came with the head: then nothing is waited for.
    let first = match body.chunk().now_or_never() {
        Some(chunk) => chunk.map_err(|_| ReadError::Broken)?.unwrap_or_default(),
        None => Bytes::new(),
    };
    if first.len() <= SMALL.min(limit) && body.is_end_stream() {
        return Ok(Held {
            bytes: Bytes::copy_from_slice(&first),
            share: Share::default(),
        });
    }
    // Large, and seldom needed.
    let reading = Box::pin(read_rest(first, body, limit, budget));
    let read = tokio::time::timeout(within, reading).await;
    read.unwrap_or(Err(ReadError::TooSlow))
}

async fn read_rest(
    mut first: Bytes,
    mut body: Body,
    limit: usize,
    budget: &Budget,
) -> Result<Held, ReadError> {
    let expected = body.size_hint().exact().unwrap_or(0) as usize + first.len();
    let (mut share, mut whole) = (Share::default(), bytes::BytesMut::new());
    let mut cover = async |bytes: usize| {
        if bytes > limit {
            return Err(ReadError::TooLarge);
        }
        let covered = budget.cover(&mut share, bytes).await;
        covered.map_err(|_| ReadError::Starved)
    };
    cover(first.len()).await?;
    while !body.is_end_stream()
        && let Some(data) = body.chunk().await.map_err(|_| ReadError::Broken)?
    {
        let len = first.len() + whole.len() + data.len();
        cover(len).await?;
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(expected.min(FIRST_ROOM).max(len));
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    let bytes = if !whole.is_empty() {
        whole.freeze()
    } else if first.len() <= SMALL {
        Bytes::copy_from_slice(&first)
    } else {
        first
    };
    Ok(Held { bytes, share })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_small_body_does_not_keep_its_connections_buffer_and_a_large_one_is_not_copied() {
        let (buffer, budget) = (Bytes::from(vec![b'x'; 64 << 10]), Budget::new(1 << 20));
        for (length, kept) in [(100, false), (32 << 10, true)] {
            let body = Body::full(buffer.slice(..length));
            let held = read_all(body, 1 << 20, Duration::from_secs(1), &budget).await;
            let bytes = held.unwrap().bytes;
            assert_eq!(bytes.len(), length);
            assert_eq!(bytes.as_ptr() == buffer.as_ptr(), kept, "{length}");
        }
    }
}
