//! A layer as a value.

use std::convert::Infallible;
use std::fmt;
use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tower::Service;

use super::ProxyService;
use crate::answer;
use crate::body::{Body, BodyError};
use crate::error::ProxyError;
use crate::guard::GuardConfig;

/// One layer around a proxy. A cheap handle.
///
/// Most layers make a service from the service inside it. Some only say how a proxy does what it does anyway: how large a
/// body may be, which headers the server gets. A proxy that has one of these innermost does it itself, so that it
/// costs no request anything; around any other service it is a layer like the others.
///
/// It is a [`tower::Layer`] of a [`ProxyService`]; any other tower layer becomes one by [`Layer::tower`].
#[derive(Clone)]
pub struct Layer(Kind);

#[derive(Clone)]
enum Kind {
    Wrap(Arc<dyn Fn(ProxyService) -> ProxyService + Send + Sync>),
    Setting(Setting),
}

/// A header to set.
pub(crate) type Header = (HeaderName, HeaderValue);

/// What a proxy can do without a service around it.
#[derive(Debug, Clone)]
pub(crate) enum Setting {
    BodyLimit(u64),
    RequestTimeout(Duration),
    Headers(Arc<[Header]>),
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Wrap(_) => f.write_str("Layer"),
            // The values are marked sensitive.
            Kind::Setting(setting) => f.debug_tuple("Layer").field(setting).finish(),
        }
    }
}

impl Layer {
    /// A layer from what wraps a service.
    pub fn new(wrap: impl Fn(ProxyService) -> ProxyService + Send + Sync + 'static) -> Self {
        Self(Kind::Wrap(Arc::new(wrap)))
    }

    /// Any tower layer that takes and gives HTTP, and fails never.
    ///
    /// ```
    /// use http::{HeaderValue, Response};
    /// use tower::util::MapResponseLayer;
    ///
    /// let layer = thv_proxy::Layer::tower(MapResponseLayer::new(|mut response: Response<thv_proxy::Body>| {
    ///     response.headers_mut().insert("x-served-by", HeaderValue::from_static("me"));
    ///     response
    /// }));
    /// ```
    pub fn tower<L, B>(layer: L) -> Self
    where
        L: tower::Layer<ProxyService> + Send + Sync + 'static,
        L::Service: Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as Service<Request<Body>>>::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        Self::new(move |inner| ProxyService::tower(layer.layer(inner)))
    }

    /// The layers of every proxy that is not told otherwise, outermost first: hosts and origins of this machine only,
    /// and a panic is an answer.
    pub fn standard() -> Vec<Self> {
        vec![Self::guard(GuardConfig::default()), Self::recovery()]
    }

    /// A layer that changes each request, or answers it itself.
    pub fn before(
        change: impl Fn(&mut Request<Body>) -> Option<Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        let change = Arc::new(change);
        Self::new(move |inner| {
            let change = Arc::clone(&change);
            ProxyService::passing(move |mut request| match change(&mut request) {
                Some(answer) => Box::pin(ready(answer)),
                None => inner.ask(request),
            })
        })
    }

    /// `service` inside this layer.
    pub fn around(&self, service: ProxyService) -> ProxyService {
        match &self.0 {
            Kind::Wrap(wrap) => wrap(service),
            Kind::Setting(setting) => setting.around(service),
        }
    }

    /// A panic becomes an answer with status 500.
    pub fn recovery() -> Self {
        Self::new(|inner| {
            ProxyService::new(move |request| {
                let inner = inner.clone();
                AssertUnwindSafe(async move { inner.ask(request).await })
                    .catch_unwind()
                    .map(|outcome| {
                        outcome.unwrap_or_else(|_| {
                            tracing::error!("a request handler panicked");
                            answer::text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
                        })
                    })
            })
        })
    }

    /// Hosts and origins are checked.
    pub fn guard(config: GuardConfig) -> Self {
        Self::before(move |request| {
            let refusal = config.check(request.uri(), request.headers()).err()?;
            Some(answer::json(refusal.status(), refusal.body()))
        })
    }

    /// A body that is announced to be longer is answered with status 413, and a proxy inside reads none that is longer.
    pub fn body_limit(bytes: u64) -> Self {
        Self(Kind::Setting(Setting::BodyLimit(bytes)))
    }

    /// A request other than GET whose answer has not begun after this long is answered with status 504. A bridge ends the
    /// call at this time, and tells its server.
    pub fn request_timeout(timeout: Duration) -> Self {
        Self(Kind::Setting(Setting::RequestTimeout(timeout)))
    }

    /// The client's `Authorization`, `Cookie` and `Proxy-Authorization` are removed.
    pub fn strip_auth() -> Self {
        Self::before(|request| {
            for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
                request.headers_mut().remove(name);
            }
            None
        })
    }

    /// These headers are set on each request, a reverse proxy's own included; they replace the client's. Their values
    /// are never logged.
    ///
    /// # Errors
    /// [`ProxyError::Invalid`] for a header that belongs to the connection.
    pub fn headers(mut headers: Vec<(HeaderName, HeaderValue)>) -> Result<Self, ProxyError> {
        for (name, value) in &mut headers {
            if crate::reverse::is_restricted(name) {
                return Err(ProxyError::Invalid {
                    what: "forwarded header",
                    reason: format!("\"{name}\" belongs to the connection and cannot be set"),
                });
            }
            value.set_sensitive(true);
        }
        Ok(Self(Kind::Setting(Setting::Headers(headers.into()))))
    }

    /// One line in the log for each request: method, path, status, and how long the head of the answer took. Neither
    /// query nor headers: they carry ids and secrets.
    pub fn access_log() -> Self {
        Self::new(|inner| {
            ProxyService::new(move |request: Request<Body>| {
                let (inner, begun) = (inner.clone(), Instant::now());
                let (method, path) = (request.method().clone(), request.uri().path().to_owned());
                async move {
                    let response = inner.ask(request).await;
                    let (status, took) = (response.status().as_u16(), begun.elapsed());
                    tracing::info!(target: "thv_proxy::access", %method, %path, status, ?took, "request");
                    response
                }
            })
        })
    }

    /// What these layers say of what a proxy does itself, the innermost last.
    pub(crate) fn settings(layers: &[Self]) -> impl Iterator<Item = &Setting> {
        layers.iter().filter_map(|layer| match &layer.0 {
            Kind::Setting(setting) => Some(setting),
            Kind::Wrap(_) => None,
        })
    }

    /// The longest body that all of these layers let through; none where none of them says.
    pub(crate) fn body_limit_of(layers: &[Self]) -> Option<usize> {
        let limits = Self::settings(layers).filter_map(|setting| match setting {
            Setting::BodyLimit(bytes) => Some(usize::try_from(*bytes).unwrap_or(usize::MAX)),
            _ => None,
        });
        limits.min()
    }

    /// Takes the innermost ones away, as long as `taken` says that the proxy does them itself.
    pub(crate) fn take_innermost(layers: &mut Vec<Self>, taken: impl Fn(&Setting) -> bool) -> Vec<Self> {
        let stays = |layer: &Self| match &layer.0 {
            Kind::Setting(setting) => !taken(setting),
            Kind::Wrap(_) => true,
        };
        let first = layers.iter().rposition(stays).map_or(0, |last| last + 1);
        layers.split_off(first)
    }

    /// The headers that these layers set; of the innermost last.
    pub(crate) fn headers_of(layers: &[Self]) -> Vec<Header> {
        let lists = Self::settings(layers).filter_map(|setting| match setting {
            Setting::Headers(headers) => Some(headers.iter().cloned()),
            _ => None,
        });
        lists.flatten().collect()
    }
}

impl tower::Layer<ProxyService> for Layer {
    type Service = ProxyService;

    fn layer(&self, inner: ProxyService) -> ProxyService {
        self.around(inner)
    }
}

impl Setting {
    fn around(&self, service: ProxyService) -> ProxyService {
        match self.clone() {
            Self::BodyLimit(bytes) => Layer::before(move |request| {
                (request.body().size_hint().lower() > bytes).then(answer::too_large)
            })
            .around(service),
            Self::Headers(headers) => Layer::before(move |request| {
                for (name, value) in headers.iter() {
                    request.headers_mut().insert(name.clone(), value.clone());
                }
                None
            })
            .around(service),
            Self::RequestTimeout(timeout) => ProxyService::new(move |request: Request<Body>| {
                let (inner, listens) = (service.clone(), request.method() == Method::GET);
                async move {
                    if listens {
                        return inner.ask(request).await;
                    }
                    let answer = tokio::time::timeout(timeout, inner.ask(request)).await;
                    answer.unwrap_or_else(|_| {
                        let message = "no answer within the time allowed";
                        answer::rpc_error(StatusCode::GATEWAY_TIMEOUT, -32000, message, b"")
                    })
                }
            }),
        }
    }
}
