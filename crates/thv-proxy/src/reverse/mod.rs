//! A server that speaks HTTP itself, behind the same address for as long as its workload lives.

mod again;
mod config;
mod direct;
mod ending;
mod endpoint;
mod endpoint_watch;
mod event_reader;
mod headers;
mod http1;
mod redirects;
mod sessions;
mod sse_stream;
mod standstill;

use std::fmt;
use std::future::ready;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};

use axum::extract::ConnectInfo;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ALLOW, CONNECTION, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use thv_core::{SystemClock, TransportType, WithoutCredentials};
use url::{Position, Url};

use self::again::Outgoing;
use self::config::OwnHeaders;
pub use self::config::ReverseProxyConfig;
use self::direct::Direct;
pub(crate) use self::direct::Driven;
use self::ending::Ending;
use self::endpoint::EndpointRewriter;
pub(crate) use self::event_reader::{Data, EventReader};
pub(crate) use self::headers::is_restricted;
use self::redirects::{is_redirect, may_follow, redirect};
use self::sessions::Sessions;
use self::sse_stream::{SseStream, Streams};
use self::standstill::WhileWorking;
use crate::answer;
use crate::body::{self, Body, BodyError, Held, ReadError};
use crate::bridge::STATELESS_REVISION;
use crate::budget::Budget;
use crate::error::ProxyError;
use crate::forwarded::{Outside, nested_under};
use crate::health;
use crate::jsonrpc::{self, Kind};
use crate::mcp_headers::PROTOCOL_VERSION;
use crate::middleware::{Header, ProxyService};
use crate::serve::{Drain, EndsItself, UntilDrain};
use crate::suspension::{Suspended, Suspension};
use crate::whole_events::{is_coded, is_event_stream};

const MOST_REDIRECTS: usize = 10;

/// A proxy in front of an SSE or streamable HTTP server, local or remote. A cheap handle: clones share the connections, the
/// sessions and what is known of the server.
///
/// A request whose future is dropped is given up at the server too, by closing its connection or stream. An answer whose
/// head has more than 64 KiB or 100 headers is none: its client gets status 502.
///
/// ```
/// use std::time::Duration;
///
/// use thv_proxy::{ReverseProxy, ReverseProxyConfig};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let target = "http://127.0.0.1:1".parse()?; // where nobody listens
/// let proxy = ReverseProxy::new(target, ReverseProxyConfig::default())?;
/// assert_eq!(proxy.available(), None);
/// let reached = proxy.reachable(Duration::from_secs(5)).await;
/// assert!(reached.is_err_and(|error| error.is_retryable()));
/// assert_eq!(proxy.available(), Some(false));
///
/// // Its clients are answered all the same: /health says `degraded`, calls get an error.
/// let app: axum::Router = proxy.into_router();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ReverseProxy(Arc<Shared>);

/// The query of a remote server's address may be a credential, and so may anybody's headers.
impl fmt::Debug for ReverseProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReverseProxy")
            .field("target", &WithoutCredentials(self.0.target.as_str()))
            .field("transport", &self.0.config.transport)
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

struct Shared {
    target: Url,
    config: ReverseProxyConfig,
    own_headers: OwnHeaders,
    client: Client,
    /// What is asked in plain HTTP, with nothing between, is asked without the client.
    direct: Option<Arc<Direct>>,
    /// Memory for what clients send.
    bodies: Budget,
    /// The sessions of a streamable HTTP server.
    sessions: Sessions,
    /// The open streams of an SSE server.
    streams: Arc<Streams>,
    ending: Ending,
    suspension: Arc<Suspension>,
    /// What the last request to the server showed: one of the values below.
    seen: AtomicU8,
}

/// Made when it is first needed: most servers of this machine never do, and it reads all roots of the machine.
type Client = Arc<LazyLock<MadeClient, Box<dyn FnOnce() -> MadeClient + Send>>>;
type MadeClient = Result<reqwest::Client, Arc<reqwest::Error>>;

const SEEN_NOTHING: u8 = 0;
const SEEN_ALIVE: u8 = 1;
const SEEN_DEAD: u8 = 2;

impl ReverseProxy {
    /// A proxy for the server at `target`: for a local one only scheme, host and port count. Where that is under TLS the
    /// certificates that this machine trusts are read from its disk, which takes some milliseconds.
    ///
    /// # Errors
    /// [`ProxyError::Invalid`] names what cannot be used: the target, or the transport.
    pub fn new(target: Url, mut config: ReverseProxyConfig) -> Result<Self, ProxyError> {
        let own_headers = config.settle();
        config.check(&target)?;
        let mut builder = reqwest::Client::builder()
            .http2_max_header_list_size(http1::MOST_HEAD)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(config.connect_timeout);
        let near = !config.remote || is_loopback(&target);
        if near {
            // What runs on this machine is not reached through the environment's proxy.
            builder = builder.no_proxy();
        }
        if !config.remote && target.scheme() == "http" {
            // Nothing will be verified: the machine's roots need not be in memory.
            builder = builder.tls_certs_only([]);
        }
        let own_authorities = !config.ca_certificates.is_empty();
        if own_authorities {
            builder = builder.tls_certs_merge(authorities(&config.ca_certificates)?);
            // They are in the client now.
            config.ca_certificates = Vec::new();
        }
        let client: Client = Arc::new(LazyLock::new(Box::new(|| builder.build().map_err(Arc::new))));
        if (own_authorities || target.scheme() == "https")
            && let Err(error) = &**client
        {
            let reason = "no HTTP client can be built".to_owned();
            if own_authorities {
                // What is in a certificate is looked at here only.
                return Err(unusable(
                    &std::error::Error::source(error).map_or(reason, ToString::to_string),
                ));
            }
            return Err(ProxyError::Unavailable {
                reason,
                source: Some(Box::new(Arc::clone(error))),
            });
        }
        let direct =
            (near && target.scheme() == "http").then(|| Direct::new(&target, config.connect_timeout));
        Ok(Self(Arc::new(Shared {
            direct: direct.flatten(),
            target,
            sessions: Sessions::new(config.session_ttl),
            bodies: Budget::new(config.body_budget.max(config.body_limit)),
            config,
            own_headers,
            client,
            streams: Arc::default(),
            ending: Ending::default(),
            suspension: Arc::default(),
            seen: AtomicU8::new(SEEN_NOTHING),
        })))
    }

    /// The server stands still as long as what this gives is kept, which who runs it knows: it is paused. Requests under way
    /// and new ones fail at once with `reason`; sessions and the streams that clients listen to stay. Of several reasons clients
    /// are told the oldest.
    pub fn suspend(&self, reason: &str) -> Suspended {
        self.0.suspension.begin(reason)
    }

    /// Whether the server counts as standing still.
    pub fn is_suspended(&self) -> bool {
        self.0.suspension.reason().is_some()
    }

    /// Whether the last request reached the server, which does not stand still; `None` before the first.
    pub fn available(&self) -> Option<bool> {
        if self.is_suspended() {
            return Some(false);
        }
        match self.0.seen.load(Ordering::Relaxed) {
            SEEN_NOTHING => None,
            seen => Some(seen == SEEN_ALIVE),
        }
    }

    /// Ends the event streams that clients listen to now, those of an SSE server each once its client has the answers
    /// that are to come on it. [`serve`](crate::serve) does so itself when it is told to stop.
    pub fn end_streams(&self) {
        self.0.ending.end();
    }

    /// The proxy as a service.
    pub fn into_service(self) -> ProxyService {
        let layers = self.0.config.layers.clone();
        let layered = ProxyService::passing(move |request| self.route(request)).within(&layers);
        // Before the layers: a client must not take away what they set.
        ProxyService::passing(move |mut request| {
            headers::strip_named(request.headers_mut());
            layered.ask(request)
        })
    }

    /// The proxy as an axum router, to be nested under any path of an application's own once that has its state
    /// (`with_state`). Its layers come along: hosts other than this machine's are refused unless they say otherwise. Clients
    /// of an SSE server are told that path, unless [`endpoint_prefix`](ReverseProxyConfig::endpoint_prefix) is another.
    /// Its event streams last as long as the server's: an application that shuts down calls
    /// [`end_streams`](Self::end_streams).
    pub fn into_router(self) -> axum::Router {
        self.into_service().into_router()
    }

    fn route(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let path = request.uri().path();
        let response = if path == "/health" {
            let (transport, available) = (self.0.config.transport, self.available());
            health::answer(request.method(), transport, available, &SystemClock)
        } else if path == "/metrics" || path.starts_with("/.well-known/") {
            answer::not_found(path)
        } else {
            return Box::pin(self.clone().forward(request));
        };
        Box::pin(ready(response))
    }

    async fn forward(self, request: Request<Body>) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        if let Some(refusal) = self.0.gate(&head.method, &head.headers) {
            return refusal;
        }
        if self.0.config.strict_versions
            && let Some(refusal) = answer::unknown_version(&head.headers, b"")
        {
            return refusal;
        }
        let (limit, within) = (self.0.config.body_limit, self.0.config.body_timeout);
        // The share is given back when the server has answered, or cannot be reached.
        let Held {
            bytes: body,
            share: _share,
        } = match body::read_all(body, limit, within, &self.0.bodies).await {
            Ok(held) => held,
            Err(ReadError::Starved) => return answer::starved(),
            Err(ReadError::TooLarge) => return answer::too_large(),
            Err(ReadError::TooSlow) => return answer::text(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
            Err(ReadError::Broken) => return answer::text(StatusCode::BAD_REQUEST, "Bad Request"),
        };
        headers::say_as_http1(&head.uri, &mut head.headers);
        headers::detach(&mut head.uri, &mut head.headers);
        let posted = head.method == Method::POST;
        if posted && jsonrpc::is_batch(&body) {
            return answer::batch();
        }
        let of_events = self.0.config.transport == TransportType::Sse;
        let id = || jsonrpc::scan(&body).map_or(&[][..], |envelope| envelope.id_in(&body));
        if let Some(reason) = self.0.suspension.reason() {
            return answer::rpc_error(StatusCode::SERVICE_UNAVAILABLE, -32000, &reason, id());
        }
        let expected = if of_events && posted {
            jsonrpc::scan(&body)
                .ok()
                .filter(|envelope| envelope.kind() == Kind::Request)
                .and_then(|envelope| {
                    let path = head.uri.path_and_query()?.as_str();
                    self.0.streams.expect(path, envelope.id_in(&body))
                })
        } else {
            None
        };
        let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|ConnectInfo(peer)| peer.ip());
        let outside = (of_events && head.method == Method::GET).then(|| {
            let nested = nested_under(&head.uri, &head.extensions);
            let (trusted, prefix) = (self.0.config.trust_forwarded, &self.0.config.endpoint_prefix);
            Outside::of(&head.headers, nested, trusted, prefix)
        });
        let own_headers = &self.0.own_headers.for_clients;
        let mut request = Outgoing {
            uri: head.uri,
            headers: self.0.headers(head.headers, own_headers, peer),
            method: head.method,
            body: body.clone(),
        };
        let sent = tokio::select! {
            biased;
            sent = self.0.send_in_session(&mut request) => sent,
            reason = self.0.suspension.begun() => {
                return answer::rpc_error(StatusCode::SERVICE_UNAVAILABLE, -32000, &reason, id());
            }
        };
        match sent {
            Ok(None) => answer::session_not_found(id()),
            Ok(Some((redirected, response))) => {
                if let Some(expected) = expected.filter(|_| response.status().is_success()) {
                    expected.accepted();
                }
                let drain = head.extensions.get::<Drain>();
                self.0.pass_back(&request, redirected, outside, response, drain)
            }
            Err(reason) => {
                tracing::warn!(%reason, "a request did not reach the server");
                answer::rpc_error(reason.status(), -32000, reason.message(), id())
            }
        }
    }

    pub(crate) fn transport(&self) -> TransportType {
        self.0.config.transport
    }

    /// Asks the server at the place where clients ask it.
    pub(crate) async fn ask_server(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let path = match (self.0.config.transport, self.0.config.remote) {
            (TransportType::Sse, _) => "/sse",
            (_, false) => "/mcp",
            (_, true) => "/",
        };
        let mut headers = self.0.headers(headers, &self.0.own_headers.for_probes, None);
        if self.0.direct.is_some() {
            // It is asked seldom: a connection that is kept would wake the proxy only to be closed.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let request = Outgoing {
            method,
            uri: Uri::from_static(path),
            headers,
            body,
        };
        let asked = self.0.send(&request).await;
        asked.map(|(_, response)| response)
    }
}

/// Why there is no answer of the server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Unreachable(BodyError),
    #[error("redirected more than {MOST_REDIRECTS} times")]
    TooManyRedirects,
    #[error("redirected to another host or to plain text")]
    ForeignRedirect,
    /// Nothing was sent.
    #[error("what is asked for is too long as a URL")]
    TooLong,
}

impl Failure {
    pub(crate) fn message(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "the server is not reachable",
            Self::TooManyRedirects => "the server redirects in circles",
            Self::ForeignRedirect => {
                "the server redirects to another host or to plain text, which is not followed"
            }
            Self::TooLong => "the path is too long for the server",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::URI_TOO_LONG,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

impl Shared {
    /// Methods that are not passed on.
    fn gate(&self, method: &Method, headers: &HeaderMap) -> Option<Response<Body>> {
        if matches!(*method, Method::CONNECT | Method::TRACE) {
            return Some(answer::method_not_allowed("GET, HEAD, POST, DELETE, OPTIONS"));
        }
        let gated = matches!(*method, Method::GET | Method::HEAD | Method::DELETE);
        let modern = || {
            let version = headers.get(&PROTOCOL_VERSION);
            version.is_some_and(|version| version == STATELESS_REVISION)
        };
        if !gated || !(self.config.stateless || modern()) {
            return None;
        }
        let mut refusal = answer::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        refusal
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
        Some(refusal)
    }

    fn headers(&self, headers: HeaderMap, own: &[Header], peer: Option<IpAddr>) -> HeaderMap {
        let mut headers = headers::for_server(headers, &self.config, self.target.scheme(), peer);
        for (name, value) in own {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }

    /// Where a request goes.
    fn url(&self, method: &Method, asked: &Uri) -> Url {
        let mut url = self.target.clone();
        url.set_fragment(None);
        // An SSE server names a path of its own for messages; only its stream is where the remote URL says.
        let replaced = self.config.remote
            && !matches!(self.target.path(), "" | "/")
            && (self.config.transport != TransportType::Sse || *method != Method::POST);
        if !replaced {
            url.set_path(asked.path());
        }
        let own = self.target.query().filter(|_| self.config.remote);
        let query = match (own.filter(|query| !query.is_empty()), asked.query()) {
            (Some(own), Some(client)) => Some(format!("{own}&{client}")),
            (own, client) => own.or(client).map(str::to_owned),
        };
        url.set_query(query.as_deref());
        url
    }

    /// Asks the server, following its redirects by the rules: same host, never from TLS to plain text, method and
    /// body kept. With the answer comes the URL to which it has redirected, if it has.
    async fn send(&self, request: &Outgoing) -> Result<(Option<Url>, Response<Body>), Failure> {
        let sent = self.follow(request).await;
        let seen = match &sent {
            Err(Failure::TooLong) => return sent,
            Err(Failure::Unreachable(_)) => SEEN_DEAD,
            _ => SEEN_ALIVE,
        };
        self.seen.store(seen, Ordering::Relaxed);
        sent
    }

    async fn follow(&self, request: &Outgoing) -> Result<(Option<Url>, Response<Body>), Failure> {
        let mut redirected = None;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.send_to(redirected.as_ref(), request).await?;
            if !is_redirect(response.status()) {
                return Ok((redirected, response));
            }
            let from = redirected.unwrap_or_else(|| self.url(&request.method, &request.uri));
            let Some(next) = redirect(&from, &response) else {
                return Ok((Some(from), response));
            };
            if !may_follow(&from, &next) {
                return Err(Failure::ForeignRedirect);
            }
            redirected = Some(next);
        }
        Err(Failure::TooManyRedirects)
    }

    /// Sends a request where it belongs, or where the server has redirected it.
    async fn send_to(&self, redirected: Option<&Url>, request: &Outgoing) -> Result<Response<Body>, Failure> {
        let direct = self.direct.as_ref();
        let direct = direct.filter(|_| redirected.is_none_or(|url| url.scheme() == "http"));
        let url = || match redirected {
            Some(url) => url.clone(),
            None => self.url(&request.method, &request.uri),
        };
        let (method, headers, body) = (&request.method, &request.headers, request.body.clone());
        let sent = match direct {
            Some(direct) if redirected.is_none() && !self.config.remote && is_plain(&request.uri) => {
                direct.send(method, &request.uri, headers, body).await
            }
            Some(direct) => {
                let target = uri(&url()[Position::BeforePath..Position::AfterQuery])?;
                direct.send(method, &target, headers, body).await
            }
            None => {
                let url = url();
                uri(url.as_str())?;
                Box::pin(self.send_by_client(method, url, headers.clone(), body)).await
            }
        };
        sent.map_err(Failure::Unreachable)
    }

    async fn send_by_client(
        &self,
        method: &Method,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, BodyError> {
        let mut request = reqwest::Request::new(method.clone(), url);
        *request.headers_mut() = headers;
        if !body.is_empty() || *method == Method::POST {
            *request.body_mut() = Some(body.into());
        }
        let client = made(&self.client).await?;
        let sent = client.execute(request).await;
        let response: Response<reqwest::Body> = sent.map_err(reqwest::Error::without_url)?.into();
        http1::check_head(response.headers())?;
        Ok(response.map(|body| Body::boxed(body.map_err(reqwest::Error::without_url))))
    }

    /// The server's answer for the client: as it comes, without waiting for its end. `outside` is given where an event
    /// stream names an endpoint.
    fn pass_back(
        &self,
        request: &Outgoing,
        redirected: Option<Url>,
        outside: Option<Outside>,
        response: Response<Body>,
        drain: Option<&Drain>,
    ) -> Response<Body> {
        // What answers a POST is no stream of a session, whatever its form.
        let listens = request.method == Method::GET && is_event_stream(response.headers());
        let rewriting = outside.filter(|_| listens);
        if rewriting.is_some() && is_coded(response.headers()) {
            // Its endpoint event would lead clients past the proxy.
            let message =
                "the server compresses its event stream, which cannot be looked at and is not passed on";
            return answer::rpc_error(StatusCode::BAD_GATEWAY, -32000, message, b"");
        }
        let (mut head, body) = response.into_parts();
        headers::strip_hop_by_hop(&mut head.headers);
        headers::say_length_once(&mut head.headers);
        head.version = http::Version::HTTP_11;
        head.extensions = http::Extensions::new();
        if is_event_stream(&head.headers) {
            // It may end before its time, or say more than the server has said.
            head.headers.remove(http::header::CONTENT_LENGTH);
        }
        let Some(outside) = rewriting else {
            let body = if listens {
                Body::boxed(UntilDrain::new(body, self.ending.of_now()))
            } else if is_event_stream(&head.headers) && !is_coded(&head.headers) {
                self.while_working(request, body)
            } else {
                body
            };
            return Response::from_parts(head, body);
        };
        head.extensions.insert(EndsItself);
        let url = redirected.unwrap_or_else(|| self.url(&request.method, &request.uri));
        let rewriter = EndpointRewriter::new(url, outside);
        let stream = SseStream::new(
            body,
            rewriter,
            Arc::clone(&self.streams),
            drain.cloned(),
            self.ending.of_now(),
            Arc::clone(&self.suspension),
        );
        Response::from_parts(head, stream.into_body())
    }
}

impl Shared {
    /// The event stream that answers a request.
    fn while_working(&self, request: &Outgoing, body: Body) -> Body {
        let envelope = jsonrpc::scan(&request.body).unwrap_or_default();
        let id = envelope.id_in(&request.body);
        if id.is_empty() {
            return body;
        }
        let (id, suspension) = (Bytes::copy_from_slice(id), Arc::clone(&self.suspension));
        Body::boxed(WhileWorking::new(body, id, suspension))
    }
}

/// The client, made on a thread that may block when it is not there yet. Whoever stops waiting for that leaves it to the
/// next.
async fn made(client: &Client) -> Result<reqwest::Client, BodyError> {
    if let Some(made) = LazyLock::get(client) {
        return Ok(made.as_ref().map_err(Arc::clone)?.clone());
    }
    let client = Arc::clone(client);
    let making = tokio::task::spawn_blocking(move || MadeClient::clone(&client));
    Ok(making.await??)
}

/// The certificates in a PEM text.
fn authorities(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, ProxyError> {
    let found = reqwest::Certificate::from_pem_bundle(pem).map_err(|_| unusable("they are no PEM text"))?;
    if found.is_empty() {
        return Err(unusable("there is no certificate among them"));
    }
    Ok(found)
}

fn unusable(reason: &str) -> ProxyError {
    ProxyError::Invalid {
        what: "CA certificates",
        reason: reason.to_owned(),
    }
}

/// Whether `url` is on this machine: then no proxy of the environment stands between.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

/// A URL, or its path and query, as it is asked for: only its length can be against that.
fn uri(text: &str) -> Result<Uri, Failure> {
    text.parse().map_err(|_| Failure::TooLong)
}

/// Whether a URL parser would leave this path and query as they are.
fn is_plain(uri: &Uri) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/!$&()*+,;=:@".contains(&byte);
    let path = uri.path();
    uri.authority().is_none()
        && path.starts_with('/')
        && path.bytes().all(fits)
        && !path.contains("/.")
        && uri.query().is_none_or(|query| query.bytes().all(fits))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_in_plain_http_on_this_machine_needs_no_client_with_certificates() {
        let proxy =
            |target: &str| ReverseProxy::new(target.parse().unwrap(), ReverseProxyConfig::default()).unwrap();
        let is_made = |proxy: &ReverseProxy| LazyLock::get(&proxy.0.client).is_some();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        let plain = proxy(&format!("http://{address}"));
        let asked = plain.ask_server(Method::GET, HeaderMap::new(), Bytes::new());
        assert!(asked.await.is_err() && !is_made(&plain));
        assert!(
            is_made(&proxy("https://localhost")),
            "what is wrong with it is said at once"
        );
    }

    #[tokio::test]
    async fn the_client_is_made_once_and_on_a_thread_that_may_block() {
        let (sender, threads) = std::sync::mpsc::channel();
        let make = move || {
            sender.send(thread::current().id()).unwrap();
            let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
            builder.build().map_err(Arc::new)
        };
        let client: Client = Arc::new(LazyLock::new(Box::new(make)));
        // Whoever asked first does not wait for it.
        assert!(made(&client).now_or_never().is_none());
        for _ in 0..2 {
            made(&client).await.unwrap();
        }
        let threads: Vec<_> = threads.iter().collect();
        assert_eq!(threads.len(), 1);
        assert_ne!(threads[0], thread::current().id());
    }
}
