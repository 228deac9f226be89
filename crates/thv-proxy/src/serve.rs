//! A listener, a service, and an orderly end.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::body::BodyError;
use crate::error::ProxyError;

/// How a listener is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// How long requests under way may take after the end was asked for: 30 s. Then their connections are closed.
    pub drain: Duration,
    /// How long a connection may be without a complete request head, idle ones included: 30 s.
    pub head_timeout: Duration,
    /// Connections at one time: 4,096. Further ones wait in the listener's queue.
    pub max_connections: usize,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(30),
            head_timeout: Duration::from_secs(30),
            max_connections: 4_096,
        }
    }
}

/// A listening socket that was made elsewhere, ready for [`serve`].
///
/// # Errors
/// [`ProxyError::Listener`] when it cannot be registered with the runtime.
pub fn listener(socket: std::net::TcpListener) -> Result<TcpListener, ProxyError> {
    socket
        .set_nonblocking(true)
        .map_err(|source| ProxyError::Listener { source })?;
    TcpListener::from_std(socket).map_err(|source| ProxyError::Listener { source })
}

/// Serves HTTP/1.1 on `listener` until `stop` is cancelled, then takes no more connections, lets requests under way
/// finish, ends event streams that clients only listen to, and closes what is left after [`ServeOptions::drain`].
///
/// When it returns, the port is free and no task of it is left. `service` is an axum router, a
/// [`ProxyService`](crate::ProxyService), or any other tower service. Dropping the future closes everything at once.
pub async fn serve<S, B>(listener: TcpListener, service: S, options: ServeOptions, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BodyError>,
{
    let places = Arc::new(Semaphore::new(
        options.max_connections.clamp(1, Semaphore::MAX_PERMITS),
    ));
    let connections = TaskTracker::new();
    let force = CancellationToken::new();
    let close_on_drop = force.clone().drop_guard();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_timeout);
    while let Some((stream, place)) = accept(&listener, &places, &stop).await {
        let draining = stop.clone();
        let inner = TowerToHyperService::new(service.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let listens = request.method() == Method::GET;
            let (answering, draining) = (inner.call(request), draining.clone());
            async move {
                let response = answering.await?;
                let endless = listens && is_event_stream(&response);
                let end = endless.then(|| Box::pin(draining.cancelled_owned()));
                Ok::<_, Infallible>(response.map(|body| UntilDrain { body, end }))
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let (stop, force) = (stop.clone(), force.clone());
        connections.spawn(async move {
            let _place = place;
            let mut connection = pin!(connection);
            let draining = async {
                tokio::select! {
                    outcome = connection.as_mut() => return outcome,
                    () = stop.cancelled() => {}
                }
                connection.as_mut().graceful_shutdown();
                connection.await
            };
            if let Some(Err(error)) = force.run_until_cancelled(draining).await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(options.drain, connections.wait())
        .await
        .is_err()
    {
        tracing::info!(
            left = connections.len(),
            "closing connections that did not finish in time"
        );
    }
    drop(close_on_drop);
    connections.wait().await;
}

/// The next connection and its place; none once the end was asked for.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let next = async {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Small answers must not wait for the peer's acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return Some((stream, place));
                }
                Err(error) => {
                    // Out of descriptors, or a peer that is gone already: others may be served again soon.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    stop.run_until_cancelled(next).await.flatten()
}

fn is_event_stream<B>(response: &Response<B>) -> bool {
    response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// A body that ends, properly, when the end was asked for.
struct UntilDrain<B> {
    body: B,
    end: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl<B: Body + Unpin> Body for UntilDrain<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
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
        self.body.size_hint()
    }
}
