//! A server that speaks JSON-RPC lines, behind HTTP.
//!
//! The way of a call: [`streamable`] or [`sse`] takes the request and finds its session; [`core`] puts it under a
//! number of its own and queues it; [`link`] writes it and reads the answer; [`receive`] hands that to whoever waits in
//! [`calls`].

mod backend;
mod call_stream;
mod calls;
mod config;
mod core;
mod event_stream;
mod events;
mod housekeeping;
mod in_flight;
mod initialize;
mod late;
mod levels;
mod link;
mod listen;
mod param_headers;
mod receive;
mod replay;
mod request;
mod rounds;
mod server_requests;
mod sessions;
mod sse;
mod stateless;
mod streamable;
mod subscriptions;
mod tasks;

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use thv_core::{ProxyMode, SystemClock, TransportType};
use tokio_util::sync::DropGuard;

pub use self::backend::{Backend, BackendIo, Once};
pub use self::config::BridgeConfig;
use self::core::Core;
pub(crate) use self::initialize::{REVISIONS, STATELESS_REVISION};
use crate::answer;
use crate::body::Body;
use crate::error::ProxyError;
use crate::health;
use crate::middleware::ProxyService;
use crate::probe::ServerInfo;
use crate::suspension::Suspended;

/// A stdio server for many clients over HTTP.
///
/// A cheap handle: clones, routers and services of it share one connection to the server. When the last one is
/// dropped, or [`StdioBridge::shutdown`] is called, the connection is closed.
///
/// Requests are independent of each other: one that is dropped frees its place, and its server is told where the
/// protocol has a way to say so.
///
/// ```
/// use http::{Request, StatusCode};
/// use thv_proxy::{BackendIo, Body, BridgeConfig, BridgeEnd, StdioBridge};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A server is whatever reads and writes lines: a child, a container, or a test.
/// let (near, _server) = tokio::io::duplex(64 * 1024);
/// let (reader, writer) = tokio::io::split(near);
/// let config = BridgeConfig { max_sessions: 100, ..BridgeConfig::default() };
/// let bridge = StdioBridge::new(BackendIo::new(reader, writer), config)?;
///
/// // Without a listener, as a service; `into_router` makes it one among an application's own routes.
/// let health = Request::get("/health").header("host", "localhost").body(Body::empty())?;
/// let answer = bridge.clone().into_service().ask(health).await;
/// assert_eq!(answer.status(), StatusCode::OK);
///
/// bridge.shutdown().await;
/// assert_eq!(bridge.closed().await, BridgeEnd::Closed);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StdioBridge {
    core: Arc<Core>,
    _alive: Arc<DropGuard>,
}

/// Why a bridge ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BridgeEnd {
    /// The server's streams ended, and it is not to be attached to again.
    ServerEnded,
    /// The server could not be attached to again.
    Unreachable {
        /// What the last attempt said.
        reason: String,
    },
    /// This side closed it.
    Closed,
}

/// Counts of what a bridge holds and what it threw away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BridgeStats {
    /// Sessions that are known now.
    pub sessions: usize,
    /// Calls that wait for the server now.
    pub in_flight: usize,
    /// Calls among them whose clients have lost the connection and may come back: 64 at most.
    pub away: usize,
    /// Answers to nobody's call: unknown, late, repeated, or to an earlier proxy.
    pub unknown_answers: u64,
    /// Lines of the server that were no JSON-RPC message or too long.
    pub unusable_lines: u64,
    /// Notifications of the server that nobody could be given.
    pub dropped_messages: u64,
}

impl StdioBridge {
    /// Serves the server behind `io`; when its streams end, so does the bridge.
    ///
    /// # Errors
    /// [`ProxyError::Invalid`] names a configuration value that cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(io: BackendIo, config: BridgeConfig) -> Result<Self, ProxyError> {
        Self::with_backend(io, Arc::new(Once), config)
    }

    /// As [`StdioBridge::new`], but when the streams end, `backend` is asked for new ones. Calls under way fail at
    /// once; sessions stay, and the new connection is initialized for them.
    ///
    /// # Errors
    /// As [`StdioBridge::new`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn with_backend(
        io: BackendIo,
        backend: Arc<dyn Backend>,
        mut config: BridgeConfig,
    ) -> Result<Self, ProxyError> {
        config.settle();
        config.check()?;
        let core = Arc::new(Core::new(config));
        let running = Arc::clone(&core);
        // The first connection is there before anybody can ask.
        let first = link::Connection::new(&core, io);
        let supervisor = link::supervise(Arc::clone(&core), first, backend);
        core.tasks.spawn(housekeeping::keep(Arc::clone(&core)));
        core.tasks.spawn(async move {
            let end = supervisor.await;
            running.sessions.clear();
            running.listeners.end();
            running.ended.send_replace(Some(end));
        });
        Ok(Self {
            _alive: Arc::new(core.stop.clone().drop_guard()),
            core,
        })
    }

    /// Makes sure that the server is initialized: asks it if nobody has, else tells what it said. It waits for as long as
    /// that takes, ten minutes at most: whoever wants less sets a bound of its own.
    ///
    /// # Errors
    /// [`ProxyError::Unavailable`] without a connection, [`ProxyError::Refused`] when it answers with an error,
    /// [`ProxyError::Timeout`] when it does not answer at all. Cancel-safe.
    pub async fn initialize(&self) -> Result<ServerInfo, ProxyError> {
        let asking = async {
            let link = self.core.link()?;
            self.core.initialized(&link).await
        };
        match asking.await {
            Ok(ready) => Ok(ready.info()),
            Err(error) => Err(refused(&error)),
        }
    }

    /// Waits for the end of the bridge. Cancel-safe.
    pub async fn closed(&self) -> BridgeEnd {
        let mut ended = self.core.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(BridgeEnd::Closed),
            Err(_) => BridgeEnd::Closed,
        }
    }

    /// Closes the connection and waits until everything of the bridge has ended. Calls under way fail. Cancel-safe: who
    /// stops waiting does not call the end off.
    pub async fn shutdown(&self) {
        self.core.stop.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
    }

    /// Ends the event streams of all clients, each once its client has the answers that are to come on it. Does not wait
    /// for that.
    pub fn end_streams(&self) {
        self.core.sessions.end_streams();
        self.core.listeners.end();
    }

    /// The server stands still as long as what this gives is kept, which who runs it knows: paused, or out of reach of what
    /// carries its streams. Calls of clients, those under way and new ones, fail at once with `reason`; sessions, event streams
    /// and the connection stay, and the server goes on where it was. Of several reasons clients are told the oldest.
    pub fn suspend(&self, reason: &str) -> Suspended {
        let suspended = self.core.suspension.begin(reason);
        self.core.suspended();
        suspended
    }

    /// Whether the server counts as standing still.
    pub fn is_suspended(&self) -> bool {
        self.core.suspension.reason().is_some()
    }

    /// Comes when a call waits for its answer: 5 s after it was made, and after each 5 s that it still does. Nothing is wrong with
    /// a server that takes its time; who can find out whether it still has its streams does so now. For one who waits;
    /// cancel-safe.
    pub async fn doubted(&self) {
        self.core.doubted.notified().await;
    }

    /// What it holds now.
    pub fn stats(&self) -> BridgeStats {
        let counters = &self.core.counters;
        BridgeStats {
            sessions: self.core.sessions.len(),
            in_flight: self.core.calls.len(),
            away: self.core.away.load(Ordering::Relaxed),
            unknown_answers: counters.unknown_answers.load(Ordering::Relaxed),
            unusable_lines: counters.unusable_lines.load(Ordering::Relaxed),
            dropped_messages: counters.dropped_messages.load(Ordering::Relaxed),
        }
    }

    /// The bridge as a service: what [`serve`](crate::serve) takes with the least work for each request.
    pub fn into_service(self) -> ProxyService {
        let layers = self.core.config.layers.clone();
        ProxyService::passing(move |request| self.route(request)).within(&layers)
    }

    /// The bridge as an axum router, to be nested under any path of an application's own once that has its state
    /// (`with_state`). Its layers come along: hosts other than this machine's are refused unless they say otherwise. Clients
    /// that speak SSE are told that path, unless [`endpoint_prefix`](BridgeConfig::endpoint_prefix) is another.
    /// Its event streams have no end of their own: an application that shuts down calls [`end_streams`](Self::end_streams).
    pub fn into_router(self) -> axum::Router {
        self.into_service().into_router()
    }

    fn route(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let (path, bridge) = (request.uri().path(), self.clone());
        let response = match (self.core.config.mode, path) {
            (ProxyMode::StreamableHttp, "/mcp") if request.method() == Method::POST => {
                return Box::pin(streamable::post(bridge, request));
            }
            (ProxyMode::StreamableHttp, "/mcp") => streamable::answer(&self.core, &request),
            (ProxyMode::Sse, "/sse") => sse::connect(&self.core, &request),
            (ProxyMode::Sse, "/messages") => return Box::pin(sse::message(bridge, request)),
            (_, "/health") => {
                let available = self.core.available();
                health::answer(
                    request.method(),
                    TransportType::Stdio,
                    Some(available),
                    &SystemClock,
                )
            }
            _ => answer::not_found(path),
        };
        Box::pin(ready(response))
    }
}

fn refused(error: &calls::CallError) -> ProxyError {
    match error {
        calls::CallError::InitializeError { error } => {
            let reason = format!("initialize answered with {}", String::from_utf8_lossy(error));
            ProxyError::Refused { reason }
        }
        calls::CallError::Timeout => ProxyError::Timeout {
            what: "initialize",
            seconds: initialize::PATIENCE.as_secs(),
        },
        other => ProxyError::Unavailable {
            reason: other.describe().2,
            source: None,
        },
    }
}
