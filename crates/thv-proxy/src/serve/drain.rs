//! How a listener's end reaches what is under way.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What a request with the method GET can know of the end of its listener: an extension of the request.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    begun: CancellationToken,
    over: CancellationToken,
}

impl Drain {
    pub(super) fn new(begun: CancellationToken, over: CancellationToken) -> Self {
        Self { begun, over }
    }

    /// Resolves when no more connections are taken: streams end as soon as nothing is owed on them.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Resolves when the time for that is over: connections are closed a moment later.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }
}

/// An extension of a response: its event stream follows the [`Drain`] of its request itself. One without it is ended
/// when the drain begins.
#[derive(Debug, Clone, Copy)]
pub struct EndsItself;

/// A body that ends, properly, when the end was asked for.
pub(crate) struct UntilDrain<B> {
    pub(super) body: B,
    pub(super) end: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl<B> UntilDrain<B> {
    pub(crate) fn new(body: B, end: CancellationToken) -> Self {
        let end = Some(Box::pin(end.cancelled_owned()));
        Self { body, end }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for UntilDrain<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.end {
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}
