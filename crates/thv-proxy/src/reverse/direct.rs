//! Connections to a server on this machine that speaks plain HTTP/1.1.
//!
//! Each is driven by the request that uses it: no task of its own, no channel between tasks, no wake-up of another
//! thread. One that is idle is driven by nobody; whether the server has closed it is seen when it is taken again.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{Method, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::net::TcpStream;
use tokio::runtime::{self, Handle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::http1::{Connection, WireError};
use crate::body::{Body, BodyError};

/// Idle connections that are kept, and for how long: servers of Node and of Python close theirs after five seconds, and
/// a request that meets such a close is lost.
const MOST_IDLE: usize = 1024;
const LONGEST_IDLE: Duration = Duration::from_secs(4);

/// The connections to one server.
pub(super) struct Direct {
    host: String,
    port: u16,
    host_header: HeaderValue,
    connect_timeout: Duration,
    /// By the runtime that a connection belongs to: what it waits for comes at once only there.
    idle: Mutex<HashMap<runtime::Id, Idle>>,
    /// Ends the tasks that watch them.
    gone: CancellationToken,
}

/// Those of one runtime.
#[derive(Default)]
struct Idle {
    /// With the moment at which each was given back: the oldest first.
    connections: VecDeque<(Instant, Box<Connection>)>,
    /// A task closes those that are not used.
    is_watched: bool,
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

impl Direct {
    /// The connections to the server of `target`; none when its host cannot be written in a header.
    pub(super) fn new(target: &Url, connect_timeout: Duration) -> Option<Arc<Self>> {
        let port = target.port_or_known_default()?;
        let named = target.host_str()?;
        let host_header = match target.port() {
            Some(port) => format!("{named}:{port}").parse(),
            None => named.parse(),
        };
        Some(Arc::new(Self {
            // An IPv6 address stands in brackets in a URL, and nowhere else.
            host: named.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            host_header: host_header.ok()?,
            connect_timeout,
            idle: Mutex::default(),
            gone: CancellationToken::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<runtime::Id, Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and waits for the head of its answer. A request that an idle connection did not take is sent on
    /// another; one that it took and did not answer, only where nothing changes if the server gets it twice. When the future
    /// is dropped, the connection is closed, by which the server sees that nobody waits.
    pub(super) async fn send(
        self: &Arc<Self>,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, BodyError> {
        let home = Handle::current().id();
        behind_those_that_are_ready().await;
        loop {
            let (mut connection, used) = match self.take(home) {
                Some(idle) if idle.is_closed() => continue,
                Some(idle) => (idle, true),
                None => (Box::pin(self.connect()).await?, false),
            };
            let asked = connection.ask(method, uri, &self.host_header, headers, body.clone());
            match asked.await {
                Ok(response) => {
                    let direct = Arc::clone(self);
                    let rest = Some(Under {
                        connection,
                        home,
                        direct,
                    });
                    let mut body = Driven { rest };
                    body.finish_at_end();
                    return Ok(response.map(|()| Body::from(body)));
                }
                Err(unanswered)
                    if used && (unanswered.unsent || (method.is_safe() && unanswered.reason.is_end())) => {}
                Err(unanswered) => return Err(unanswered.reason.into()),
            }
        }
    }

    async fn connect(&self) -> Result<Box<Connection>, BodyError> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| "the connection takes too long")??;
        // Small requests must not wait for the server's acknowledgement.
        stream.set_nodelay(true)?;
        Ok(Box::new(Connection::new(stream)))
    }

    /// The one that was used last, of those that were made on `home`.
    fn take(&self, home: runtime::Id) -> Option<Box<Connection>> {
        let (_, idle) = self.lock().get_mut(&home)?.connections.pop_back()?;
        Some(idle)
    }

    /// Keeps a connection that was made on `home`, where that is still this runtime.
    fn give_back(self: &Arc<Self>, connection: Box<Connection>, home: runtime::Id) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if runtime.id() != home {
            return;
        }
        let mut pools = self.lock();
        let idle = pools.entry(home).or_default();
        if idle.connections.len() >= MOST_IDLE {
            return;
        }
        idle.connections.push_back((Instant::now(), connection));
        let was_watched = mem::replace(&mut idle.is_watched, true);
        // A runtime that ends drops what it is given.
        drop(pools);
        if !was_watched {
            let watch = Watch {
                connections: Arc::downgrade(self),
                of: home,
                is_over: false,
            };
            let gone = self.gone.clone();
            runtime.spawn(async move { gone.run_until_cancelled_owned(watch.keep()).await });
        }
    }

    /// Closes what has been idle for too long; when to look again, if there is anything left.
    fn close_idle(&self, of: runtime::Id) -> Option<Instant> {
        let mut pools = self.lock();
        let idle = pools.get_mut(&of)?;
        let now = Instant::now();
        while let Some((since, _)) = idle.connections.front() {
            let until = *since + LONGEST_IDLE;
            if until > now {
                return Some(until);
            }
            idle.connections.pop_front();
        }
        // Whoever comes next starts another watch.
        pools.remove(&of);
        None
    }
}

/// Lets the tasks go first that can go on now. So requests that come together are all read before one is sent on: the
/// server is woken once for many, and each step is done for all of them while the processor knows it. It is a twelfth of the
/// throughput of 64 sessions. (`yield_now` waits for further events, too, and gains nothing.)
async fn behind_those_that_are_ready() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Watches the idle connections of one runtime; with it, they go.
struct Watch {
    connections: Weak<Direct>,
    of: runtime::Id,
    is_over: bool,
}

impl Watch {
    async fn keep(mut self) {
        while let Some(until) = self
            .connections
            .upgrade()
            .and_then(|direct| direct.close_idle(self.of))
        {
            tokio::time::sleep_until(until).await;
        }
        self.is_over = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(direct) = self.connections.upgrade()
        {
            let left = direct.lock().remove(&self.of);
            drop(left);
        }
    }
}

/// The body of an answer, which drives the connection that it comes from and gives it back at its end.
pub(crate) struct Driven {
    /// None when it has ended.
    rest: Option<Under>,
}

/// A connection in the middle of an answer.
struct Under {
    connection: Box<Connection>,
    /// Where it was made.
    home: runtime::Id,
    direct: Arc<Direct>,
}

impl Driven {
    fn finish_at_end(&mut self) {
        if let Some(ended) = self.rest.take_if(|under| under.connection.is_end())
            && ended.connection.is_reusable()
        {
            ended.direct.give_back(ended.connection, ended.home);
        }
    }
}

impl HttpBody for Driven {
    type Data = Bytes;
    type Error = WireError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        let Some(under) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let data = ready!(under.connection.poll_data(cx));
        self.finish_at_end();
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            None => SizeHint::with_exact(0),
            Some(under) => under
                .connection
                .length()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::{ReverseProxy, ReverseProxyConfig};
    use super::*;

    /// Reads one request (its body is empty) and answers it.
    async fn answer(stream: &mut TcpStream, text: &str) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("GET /mcp?a=b HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: 127.0.0.1:"), "{head}");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    async fn server() -> (TcpListener, Arc<Direct>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap());
        let direct = Direct::new(&target.parse().unwrap(), Duration::from_secs(60)).unwrap();
        (listener, direct)
    }

    async fn ask(direct: &Arc<Direct>) -> String {
        let uri = Uri::from_static("/mcp?a=b");
        let response = direct
            .send(&Method::GET, &uri, &HeaderMap::new(), Bytes::new())
            .await;
        let (mut body, mut all) = (response.unwrap().into_body(), Vec::new());
        while let Some(chunk) = body.chunk().await.unwrap() {
            all.extend_from_slice(&chunk);
        }
        String::from_utf8(all).unwrap()
    }

    fn kept(direct: &Direct) -> usize {
        direct.lock().values().map(|idle| idle.connections.len()).sum()
    }

    #[tokio::test]
    async fn a_connection_is_used_again_until_the_server_closes_it_or_nobody_uses_it() {
        let (listener, direct) = server().await;
        let serving = async {
            let (mut first, _) = listener.accept().await.unwrap();
            for text in ["one", "", "three"] {
                answer(&mut first, text).await;
            }
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            answer(&mut second, "four").await;
            second
        };
        let asking = async {
            for expected in ["one", "", "three"] {
                assert_eq!(ask(&direct).await, expected);
            }
            // Until the end of the first connection has come: then it is not taken. (Where it came together with the
            // answer, the connection was not given back.)
            let open = || {
                let pools = direct.lock();
                let idle = pools.values().flat_map(|idle| &idle.connections);
                idle.last().is_some_and(|(_, idle)| !idle.is_closed())
            };
            while open() {
                tokio::task::yield_now().await;
            }
            assert_eq!(ask(&direct).await, "four");
        };
        let (_second, ()) = tokio::join!(serving, asking);
        assert_eq!(kept(&direct), 1, "the one that ended is gone");
        let home = Handle::current().id();
        assert!(direct.lock()[&home].is_watched);
        tokio::time::pause();
        tokio::time::advance(LONGEST_IDLE / 2).await;
        assert!(direct.close_idle(home).is_some());
        tokio::time::advance(LONGEST_IDLE / 2).await;
        assert!(direct.close_idle(home).is_none() && kept(&direct) == 0);
    }

    #[tokio::test]
    async fn a_request_is_sent_behind_those_that_have_come_with_it() {
        let (listener, direct) = server().await;
        let serving = async {
            let mut stream = listener.accept().await.unwrap().0;
            answer(&mut stream, "one").await;
            stream
        };
        let (mut stream, _) = tokio::join!(serving, ask(&direct));
        let mut asking = pin!(ask(&direct));
        assert!(asking.as_mut().now_or_never().is_none());
        let seen = stream.try_read(&mut [0]);
        assert_eq!(seen.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        let (text, ()) = tokio::join!(asking, answer(&mut stream, "two"));
        assert_eq!(text, "two");
    }

    #[tokio::test]
    async fn the_connection_of_a_probe_is_not_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap());
        let proxy = ReverseProxy::new(target.parse().unwrap(), ReverseProxyConfig::default()).unwrap();
        let serving = async {
            let mut stream = listener.accept().await.unwrap().0;
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") {
                seen.push(stream.read_u8().await.unwrap());
            }
            // It does not do as it is told.
            let answer = b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            stream
        };
        let asking = proxy.ask_server(Method::GET, HeaderMap::new(), Bytes::new());
        let (_stream, answer) = tokio::join!(serving, asking);
        assert!(answer.unwrap().into_body().chunk().await.unwrap().is_none());
        assert_eq!(kept(proxy.0.direct.as_ref().unwrap()), 0);
    }

    #[tokio::test]
    async fn the_server_sees_that_nobody_waits_any_more() {
        let (listener, direct) = server().await;
        let uri = Uri::from_static("/mcp");
        let headers = HeaderMap::new();
        let asking = direct.send(&Method::GET, &uri, &headers, Bytes::new());
        let mut stream = tokio::select! {
            _ = asking => panic!("nobody has answered"),
            accepted = async {
                let mut stream = listener.accept().await.unwrap().0;
                stream.read_u8().await.unwrap();
                stream
            } => accepted,
        };
        let mut rest = Vec::new();
        // It ends because the connection is closed.
        let _ = stream.read_to_end(&mut rest).await;
        assert_eq!(kept(&direct), 0);
    }
}
