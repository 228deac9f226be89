//! The event stream that answers one request, of a server that may come to stand still in its middle.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::answer::{self, EVENT_HEAD, EVENT_TAIL};
use crate::body::{Body, BodyError};
use crate::suspension::Suspension;

/// Passes the stream on until the server stands still; then its client is told so, and the stream ends.
pub(super) struct WhileWorking {
    /// None when it has ended.
    body: Option<Body>,
    /// Of the request.
    id: Bytes,
    suspension: Arc<Suspension>,
    /// Made when the stream has to be waited for.
    suspended: Option<BoxFuture<'static, Arc<str>>>,
}

impl WhileWorking {
    pub(super) fn new(body: Body, id: Bytes, suspension: Arc<Suspension>) -> Self {
        Self {
            body: Some(body),
            id,
            suspension,
            suspended: None,
        }
    }
}

impl HttpBody for WhileWorking {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let suspension = &this.suspension;
        let suspended = this.suspended.get_or_insert_with(|| {
            let suspension = Arc::clone(suspension);
            Box::pin(async move { suspension.begun().await })
        });
        let reason = ready!(suspended.as_mut().poll(cx));
        this.body = None;
        Poll::Ready(Some(Ok(Frame::data(excuse(&reason, &this.id)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The event that answers the request with this id. What stood before it need not have ended.
pub(super) fn excuse(reason: &str, id: &[u8]) -> Bytes {
    let message = answer::error_message(-32000, reason, id);
    [b"\n\n", EVENT_HEAD, &message, EVENT_TAIL].concat().into()
}
