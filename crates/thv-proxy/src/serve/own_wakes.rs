//! Wakes of a connection by itself that nothing comes of.
//!
//! Whoever takes the last piece of a request's body wakes the connection, so that it may send the next one: there is none,
//! and the connection is polled for nothing, once for each request.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

thread_local! {
    /// What this thread does now wakes no connection,
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// and this one would have been woken.
    static UNHEARD: Cell<Option<Arc<Task>>> = const { Cell::new(None) };
}

/// Stands between what wakes a connection and its task.
#[derive(Debug)]
pub(super) struct OwnWakes {
    waker: Waker,
    task: Arc<Task>,
}

/// The task of a connection.
#[derive(Debug, Default)]
pub(super) struct Task(AtomicWaker);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if QUIET.get() {
            UNHEARD.set(Some(Arc::clone(self)));
        } else {
            self.0.wake();
        }
    }
}

impl OwnWakes {
    pub(super) fn new() -> Self {
        let task = Arc::<Task>::default();
        Self {
            waker: Arc::clone(&task).into(),
            task,
        }
    }

    pub(super) fn poll<F: Future>(&self, cx: &mut Context<'_>, connection: Pin<&mut F>) -> Poll<F::Output> {
        self.task.0.register(cx.waker());
        connection.poll(&mut Context::from_waker(&self.waker))
    }
}

/// Has a piece of a body taken. What is to be woken if there is more to come.
pub(super) fn quietly<T>(take: impl FnOnce() -> T) -> (T, Option<Arc<Task>>) {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            QUIET.set(false);
        }
    }
    let loud = Loud;
    QUIET.set(true);
    let taken = take();
    drop(loud);
    (taken, UNHEARD.take())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use http::Response;
    use http_body_util::BodyExt as _;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::unread::Unread;
    use super::*;
    use crate::body::Body;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often a connection wakes itself while so long a body is read, which is there.
    async fn wakes(length: usize) -> usize {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let service = service_fn(async |request: http::Request<hyper::body::Incoming>| {
            let mut body = Body::from(Unread::default().watch(request.into_body()));
            // Read as if nobody waited for it, too.
            while let Some(Some(frame)) = body.frame().now_or_never() {
                frame.unwrap();
            }
            while let Some(frame) = body.frame().await {
                frame.unwrap();
            }
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(near), service);
        let (mut connection, own_wakes) = (pin!(connection), OwnWakes::new());
        let counting = Arc::<Counting>::default();
        let waker = Arc::clone(&counting).into();
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        far.write_all(&[head.as_bytes(), &vec![b'x'; length]].concat())
            .await
            .unwrap();
        let mut woken = 0;
        loop {
            let polled = own_wakes.poll(&mut Context::from_waker(&waker), connection.as_mut());
            assert!(polled.is_pending());
            if counting.0.swap(0, Ordering::Relaxed) == 0 {
                break;
            }
            woken += 1;
        }
        let mut answer = [0; 12];
        far.read_exact(&mut answer)
            .now_or_never()
            .expect("an answer")
            .unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        woken
    }

    #[tokio::test]
    async fn the_last_piece_of_a_body_wakes_nobody_and_those_before_it_do() {
        assert_eq!(wakes(100).await, 0);
        assert!(wakes(50_000).await > 0);
    }
}
