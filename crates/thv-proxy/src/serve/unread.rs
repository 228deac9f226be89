//! What a service leaves of a request's body.
//!
//! A client that writes all before it reads would find a closed connection instead of the answer that says why it was
//! refused, so what is left is read and thrown away, up to a bound.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake as _};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::own_wakes;

/// What is longer is not waited for.
const MOST: u64 = 64 << 20;
/// Nor what takes longer,
const LONGEST: Duration = Duration::from_secs(10);
/// or does not come at all.
const PAUSE: Duration = Duration::from_secs(1);

/// Where a body that was not read to its end is found.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<Mutex<Option<Incoming>>>);

impl Unread {
    /// `body`, which comes back here when it is dropped early.
    pub(super) fn watch(&self, body: Incoming) -> Returning {
        Returning {
            body: Some(body),
            to: self.clone(),
        }
    }

    /// Throws away what is left, if there is anything.
    pub(super) async fn discard(&self) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = left else { return };
        if body.size_hint().lower() > MOST {
            return;
        }
        let reading = async {
            let mut seen = 0;
            while let Ok(Some(Ok(frame))) = tokio::time::timeout(PAUSE, body.frame()).await {
                seen += frame.data_ref().map_or(0, |data| data.len() as u64);
                if seen > MOST {
                    return;
                }
            }
        };
        // Seldom needed, and large.
        let _ = Box::pin(tokio::time::timeout(LONGEST, reading)).await;
    }
}

/// A request's body.
pub(crate) struct Returning {
    body: Option<Incoming>,
    to: Unread,
}

impl Drop for Returning {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
        {
            *self.to.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

impl Body for Returning {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let (frame, connection) = own_wakes::quietly(|| Pin::new(&mut *body).poll_frame(cx));
        if let Some(connection) = connection
            && !body.is_end_stream()
        {
            connection.wake();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, Incoming::size_hint)
    }
}
