//! A listener, a service, and an orderly end.

mod drain;
mod head_timer;
mod own_wakes;
mod stream;
mod threads;
mod unread;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::header::EXPECT;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

pub(crate) use self::drain::UntilDrain;
pub use self::drain::{Drain, EndsItself};
use self::head_timer::HeadTimer;
use self::own_wakes::OwnWakes;
use self::stream::Watched;
use self::threads::{Placed, Threads};
pub(crate) use self::unread::Returning;
use self::unread::Unread;
use crate::body::{Body, BodyError};
use crate::error::ProxyError;
use crate::whole_events::is_event_stream;

/// How long connections may take to say their last when the drain is over.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// A request's head, or the trailers behind its body, may have so many bytes.
const LONGEST_HEAD: usize = 64 * 1024;
/// Connections that wait to be accepted.
const MOST_WAITING: i32 = 4_096;
/// Descriptors that are left for everything else than connections.
const OTHER_DESCRIPTORS: u64 = 64;

/// How a listener is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// How long requests under way may take after the end was asked for: 30 s. Then their connections are closed.
    pub drain: Duration,
    /// How long a connection may be without a complete request head, idle ones included: 10 s.
    pub head_timeout: Duration,
    /// How long a client may leave unread what is written to it: 30 s. Then its connection is closed.
    pub write_timeout: Duration,
    /// Connections at one time: 4,096, or what the process's bound on descriptors allows at two for each. Further ones
    /// wait in the listener's queue.
    pub max_connections: usize,
    /// Threads that share the connections, the caller's runtime counted as one: 1. Each further one has a runtime of its
    /// own, begins when there is a connection for it, and ends with the listener; so do tasks that requests have started
    /// there.
    ///
    /// A [`ReverseProxy`](crate::ReverseProxy) answers more calls on several; a [`StdioBridge`](crate::StdioBridge), whose
    /// clients share one server's pipe, does not, nor does a runtime that has several threads of its own.
    pub threads: usize,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(30),
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            max_connections: 4_096,
            threads: 1,
        }
    }
}

/// As many connections as there are descriptors for: one to the client, one to a server behind it.
fn connections_for(wanted: usize, descriptors: Option<u64>) -> usize {
    let fit = descriptors.map_or(u64::MAX, |limit| limit.saturating_sub(OTHER_DESCRIPTORS) / 2);
    wanted
        .min(usize::try_from(fit).unwrap_or(usize::MAX))
        .clamp(1, Semaphore::MAX_PERMITS)
}

/// A listening socket that was made elsewhere, ready for [`serve`]: up to 4,096 clients that come at one moment may wait to
/// be accepted, or what the system allows. (It is 128 as the standard library and tokio make one; the rest are told nothing and
/// try again a second later.)
///
/// # Errors
/// [`ProxyError::Listener`] when it does not listen, or cannot be registered with the runtime.
pub fn listener(socket: std::net::TcpListener) -> Result<TcpListener, ProxyError> {
    rustix::net::listen(&socket, MOST_WAITING)
        .map_err(|error| ProxyError::Listener { source: error.into() })?;
    socket
        .set_nonblocking(true)
        .map_err(|source| ProxyError::Listener { source })?;
    TcpListener::from_std(socket).map_err(|source| ProxyError::Listener { source })
}

/// Serves HTTP/1.1 on `listener` until `stop` is cancelled, then takes no more connections, lets requests under way
/// finish, ends event streams that clients only listen to, and closes what is left after [`ServeOptions::drain`].
///
/// A request whose head is longer than 64 KiB, or has more than 100 headers, is answered with status 431, and one whose
/// target alone is so long with 414; either ends its connection.
///
/// A client that closes its half of a connection before it has its answer has gone, though it could still read: nothing
/// tells the two apart, and calls of those that have gone must not go on for nobody.
///
/// When it returns, the port is free and no task of it is left. `service` is an axum router, a
/// [`ProxyService`](crate::ProxyService), or any other tower service; requests carry the peer's address as axum's
/// [`ConnectInfo`]. Dropping the future closes everything at once.
pub async fn serve<S, B>(listener: TcpListener, service: S, options: ServeOptions, stop: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let places = Arc::new(Semaphore::new(connections_for(
        options.max_connections,
        descriptors,
    )));
    let connections = TaskTracker::new();
    let (over, force) = (CancellationToken::new(), CancellationToken::new());
    let drain = Drain::new(stop.clone(), over.clone());
    // A connection looks for the one, and then for the other: dropped in this order.
    let ended = stop.child_token();
    let end_on_drop = ended.clone().drop_guard();
    let close_on_drop = force.clone().drop_guard();
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(options.head_timeout)
        // The buffer may hold more than that: what is read at once of a body.
        .max_header_size(LONGEST_HEAD);
    let mut threads = Threads::new(options.threads);
    while let Some((stream, peer, place)) = accept(&listener, &places, &stop).await {
        let shared = Arc::new(Connection {
            peer,
            drain: drain.clone(),
            draining: stop.clone(),
        });
        let service = service.clone();
        let service = service_fn(move |request| handle(service.clone(), request, Arc::clone(&shared)));
        let Placed {
            stream,
            runtime,
            counted,
        } = match threads.place(stream) {
            Ok(placed) => placed,
            Err(error) => {
                tracing::warn!(%error, "cannot serve a connection");
                continue;
            }
        };
        let stream = TokioIo::new(Watched::new(stream, options.write_timeout));
        builder.timer(HeadTimer::new());
        let connection = builder.serve_connection(stream, service);
        let (ended, force) = (ended.clone(), force.clone());
        let serving = async move {
            let _held = (place, counted);
            let (mut connection, wakes) = (pin!(connection), OwnWakes::new());
            let serving = poll_fn(|cx| wakes.poll(cx, connection.as_mut()));
            let mut outcome = ended.run_until_cancelled(serving).await;
            if outcome.is_none() {
                connection.as_mut().graceful_shutdown();
                let serving = poll_fn(|cx| wakes.poll(cx, connection.as_mut()));
                outcome = force.run_until_cancelled(serving).await;
            }
            if let Some(Err(error)) = outcome {
                tracing::debug!(%error, "a connection ended");
            }
        };
        connections.spawn_on(serving, &runtime);
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(options.drain, connections.wait())
        .await
        .is_err()
    {
        over.cancel();
        let _ = tokio::time::timeout(LAST_WORDS, connections.wait()).await;
        tracing::info!(
            left = connections.len(),
            "closing connections that did not finish in time"
        );
    }
    drop((close_on_drop, end_on_drop));
    connections.wait().await;
    threads.end().await;
}

/// What the requests of one connection have in common.
struct Connection {
    peer: SocketAddr,
    drain: Drain,
    draining: CancellationToken,
}

/// One request, from its head to the head of its answer.
async fn handle<S, B>(
    mut service: S,
    request: Request<Incoming>,
    connection: Arc<Connection>,
) -> Result<Response<UntilDrain<B>>, Infallible>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let listens = request.method() == Method::GET;
    // Such a client sends nothing before it is asked to.
    let waits = request.headers().contains_key(EXPECT);
    let unread = Unread::default();
    let mut request = request.map(|body| Body::from(unread.watch(body)));
    request.extensions_mut().insert(ConnectInfo(connection.peer));
    if listens {
        request.extensions_mut().insert(connection.drain.clone());
    }
    poll_fn(|cx| service.poll_ready(cx)).await?;
    let response = service.call(request).await?;
    if !waits {
        unread.discard().await;
    }
    let endless =
        listens && is_event_stream(response.headers()) && response.extensions().get::<EndsItself>().is_none();
    let end = endless.then(|| Box::pin(connection.draining.clone().cancelled_owned()));
    Ok(response.map(|body| UntilDrain { body, end }))
}

/// The next connection and its place; none once the end was asked for.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let next = async {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // Small answers must not wait for the peer's acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return Some((stream, peer, place));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_bounded_by_the_descriptors_that_there_are() {
        for (wanted, descriptors, expected) in [
            (4096, None, 4096),
            (4096, Some(1_000_000), 4096),
            (4096, Some(1024), 480),
            (4096, Some(256), 96),
            (10, Some(1024), 10),
            (4096, Some(20), 1),
            (0, None, 1),
        ] {
            assert_eq!(
                connections_for(wanted, descriptors),
                expected,
                "{wanted} {descriptors:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_crowd_that_comes_at_once_gets_its_connections() {
        const CROWD: u32 = 300;
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        if allowed.trim().parse::<u32>().unwrap() < CROWD {
            return;
        }
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let _nobody_accepts = listener(socket).unwrap();
        let connect = |_| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(20));
        let crowd: Result<Vec<_>, _> = (0..CROWD).map(connect).collect();
        assert_eq!(crowd.unwrap().len(), 300);
    }

    #[tokio::test]
    async fn small_answers_do_not_wait_for_the_peers_acknowledgement() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let places = Arc::new(Semaphore::new(1));
        let accepted = accept(&listener, &places, &CancellationToken::new()).await;
        assert!(accepted.unwrap().0.nodelay().unwrap());
    }
}
