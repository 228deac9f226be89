//! Connections to a server on this machine that speaks plain HTTP/1.1.
//!
//! Each is driven by the request that uses it: no task of its own, no channel between tasks, no wake-up of another
//! thread. One that is idle is driven by nobody; whether the server has closed it is seen when it is taken again.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use url::Url;

use crate::body::{Body, BodyError};

/// Idle connections that are kept, and for how long: servers of Node and of Python close theirs after five seconds, and
/// a request that meets such a close is lost.
const MOST_IDLE: usize = 1024;
const LONGEST_IDLE: Duration = Duration::from_secs(4);

/// A connection and what asks on it.
struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    /// None when it has ended.
    connection: Option<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>,
}

impl Link {
    /// Lets the connection do what it can now, and wakes nobody for it.
    fn settle(&mut self) {
        self.drive(&mut Context::from_waker(Waker::noop()));
    }

    /// Lets the connection do what it can, and wakes whoever asks when it can do more.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            self.connection = None;
        }
    }

    fn is_ready(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }
}

/// The connections to one server.
pub(super) struct Direct {
    host: String,
    port: u16,
    host_header: HeaderValue,
    connect_timeout: Duration,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// With the moment at which each was given back: the oldest first.
    links: VecDeque<(Instant, Box<Link>)>,
    /// Closes those that are not used.
    watcher: Option<AbortHandle>,
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
        if let Some(watcher) = self.lock().watcher.take() {
            watcher.abort();
        }
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
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and waits for the head of its answer. A request that an idle connection did not take is sent on
    /// another. When the future is dropped, the connection is closed, by which the server sees that nobody waits.
    pub(super) async fn send(
        self: &Arc<Self>,
        method: &Method,
        uri: Uri,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, BodyError> {
        headers.insert(HOST, self.host_header.clone());
        if !headers.contains_key(ACCEPT) {
            headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        }
        if body.is_empty() && *method == Method::POST {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        loop {
            let (mut link, used) = match self.take() {
                Some(mut link) => {
                    link.settle();
                    if !link.is_ready() {
                        continue;
                    }
                    (link, true)
                }
                None => (Box::pin(self.connect()).await?, false),
            };
            let mut answer = pin!(link.sender.try_send_request(request));
            let (connection, sent) = (&mut link.connection, &mut answer);
            let outcome = poll_fn(|cx| {
                if let Some(driven) = connection
                    && Pin::new(driven).poll(cx).is_ready()
                {
                    *connection = None;
                }
                // Nothing comes but from the connection, which wakes this task itself.
                sent.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            })
            .await;
            match outcome {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let rest = Some((link, Arc::clone(self)));
                    let mut body = Driven { body, rest };
                    body.begin();
                    return Ok(Response::from_parts(head, Body::from(body)));
                }
                Err(mut error) => match error.take_message().filter(|_| used) {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
    }

    async fn connect(&self) -> Result<Box<Link>, BodyError> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| "the connection takes too long")??;
        // Small requests must not wait for the server's acknowledgement.
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Box::new(Link {
            sender,
            connection: Some(connection),
        }))
    }

    /// The one that was used last.
    fn take(&self) -> Option<Box<Link>> {
        self.lock().links.pop_back().map(|(_, link)| link)
    }

    fn give_back(self: &Arc<Self>, link: Box<Link>) {
        let mut idle = self.lock();
        if idle.links.len() >= MOST_IDLE {
            return;
        }
        idle.links.push_back((Instant::now(), link));
        let watched = idle
            .watcher
            .as_ref()
            .is_some_and(|watcher| !watcher.is_finished());
        if !watched && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let watching = runtime.spawn(watch(Arc::downgrade(self)));
            idle.watcher = Some(watching.abort_handle());
        }
    }

    /// Closes what has been idle for too long; when to look again, if there is anything left.
    fn close_idle(&self) -> Option<Instant> {
        let mut idle = self.lock();
        let now = Instant::now();
        while let Some((since, _)) = idle.links.front() {
            let until = *since + LONGEST_IDLE;
            if until > now {
                return Some(until);
            }
            idle.links.pop_front();
        }
        // Whoever comes next starts another.
        idle.watcher = None;
        None
    }
}

async fn watch(connections: Weak<Direct>) {
    while let Some(until) = connections.upgrade().and_then(|direct| direct.close_idle()) {
        tokio::time::sleep_until(until).await;
    }
}

/// The body of an answer, which drives the connection that it comes from and gives it back at its end.
pub(crate) struct Driven {
    body: Incoming,
    rest: Option<(Box<Link>, Arc<Direct>)>,
}

impl Driven {
    /// The connection waits for somebody who wants the body: who comes for it drives it, and need not be woken.
    fn begin(&mut self) {
        if self.body.is_end_stream() {
            self.finish();
        } else if let Some((link, _)) = &mut self.rest {
            link.settle();
        }
    }

    fn finish(&mut self) {
        if let Some((mut link, direct)) = self.rest.take() {
            link.settle();
            if link.is_ready() {
                direct.give_back(link);
            }
        }
    }
}

impl HttpBody for Driven {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Nothing comes but from the connection, which wakes this task itself.
        let nobody = &mut Context::from_waker(Waker::noop());
        let mut polled = Pin::new(&mut self.body).poll_frame(nobody);
        if polled.is_pending()
            && let Some((link, _)) = &mut self.rest
        {
            link.drive(cx);
            polled = Pin::new(&mut self.body).poll_frame(nobody);
        }
        match &polled {
            Poll::Ready(None) => self.finish(),
            Poll::Ready(Some(Ok(_))) if self.body.is_end_stream() => self.finish(),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
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
            .send(&Method::GET, uri, HeaderMap::new(), Bytes::new())
            .await;
        let (mut body, mut all) = (response.unwrap().into_body(), Vec::new());
        while let Some(chunk) = body.chunk().await.unwrap() {
            all.extend_from_slice(&chunk);
        }
        String::from_utf8(all).unwrap()
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
                let mut idle = direct.lock();
                idle.links.back_mut().is_some_and(|(_, link)| {
                    link.settle();
                    link.is_ready()
                })
            };
            while open() {
                tokio::task::yield_now().await;
            }
            assert_eq!(ask(&direct).await, "four");
        };
        let (_second, ()) = tokio::join!(serving, asking);
        assert_eq!(direct.lock().links.len(), 1, "the one that ended is gone");
        assert!(direct.lock().watcher.is_some());
        tokio::time::pause();
        tokio::time::advance(LONGEST_IDLE / 2).await;
        assert!(direct.close_idle().is_some());
        tokio::time::advance(LONGEST_IDLE / 2).await;
        assert!(direct.close_idle().is_none() && direct.lock().links.is_empty());
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
        assert!(proxy.0.direct.as_ref().unwrap().lock().links.is_empty());
    }

    #[tokio::test]
    async fn the_server_sees_that_nobody_waits_any_more() {
        let (listener, direct) = server().await;
        let uri = Uri::from_static("/mcp");
        let asking = direct.send(&Method::GET, uri, HeaderMap::new(), Bytes::new());
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
        assert!(direct.lock().links.is_empty());
    }
}
