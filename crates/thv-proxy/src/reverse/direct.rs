//! Connections to a server on this machine that speaks plain HTTP/1.1.
//!
//! Each is driven by the request that uses it: no task of its own, no channel between tasks, no wake-up of another
//! thread. One that is idle is driven by nobody; whether the server has closed it is seen when it is taken again.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue};
use http::{Method, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use url::{Position, Url};

use crate::body::{Body, BodyError};

/// Idle connections that are kept, and for how long.
const MOST_IDLE: usize = 128;
const LONGEST_IDLE: Duration = Duration::from_secs(90);

/// A connection and what asks on it.
struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    /// None when it has ended.
    connection: Option<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>,
}

impl Link {
    /// Lets the connection do what it can.
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
        url: &Url,
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
        *request.uri_mut() = url[Position::BeforePath..Position::AfterQuery].parse()?;
        *request.headers_mut() = headers;
        loop {
            let (mut link, used) = match self.take() {
                Some(mut link) => {
                    poll_fn(|cx| Poll::Ready(link.drive(cx))).await;
                    if !link.is_ready() {
                        continue;
                    }
                    (link, true)
                }
                None => (self.connect().await?, false),
            };
            let mut answer = pin!(link.sender.try_send_request(request));
            let (connection, sent) = (&mut link.connection, &mut answer);
            let outcome = poll_fn(|cx| {
                if let Some(driven) = connection
                    && Pin::new(driven).poll(cx).is_ready()
                {
                    *connection = None;
                }
                sent.as_mut().poll(cx)
            })
            .await;
            match outcome {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let rest = Some((link, Arc::clone(self)));
                    let mut body = Driven { body, rest };
                    if body.is_end_stream() {
                        poll_fn(|cx| Poll::Ready(body.finish(cx))).await;
                    }
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
        let watched = idle.watcher.as_ref().is_some_and(|watcher| !watcher.is_finished());
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
    fn finish(&mut self, cx: &mut Context<'_>) {
        if let Some((mut link, direct)) = self.rest.take() {
            link.drive(cx);
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
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending()
            && let Some((link, _)) = &mut self.rest
        {
            link.drive(cx);
            polled = Pin::new(&mut self.body).poll_frame(cx);
        }
        match &polled {
            Poll::Ready(None) => self.finish(cx),
            Poll::Ready(Some(Ok(_))) if self.body.is_end_stream() => self.finish(cx),
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
