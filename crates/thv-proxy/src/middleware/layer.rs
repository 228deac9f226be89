//! A layer as a value.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use http::header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use http::{HeaderValue, Request};
use http_body::Body as _;

use super::ProxyService;
use crate::answer;
use crate::body::Body;
use crate::guard::GuardConfig;

/// One layer around a proxy: what makes a service from the service inside it. A cheap handle.
#[derive(Clone)]
pub struct Layer(Arc<dyn Fn(ProxyService) -> ProxyService + Send + Sync>);

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Layer")
    }
}

impl Layer {
    /// A layer from what wraps a service.
    pub fn new(wrap: impl Fn(ProxyService) -> ProxyService + Send + Sync + 'static) -> Self {
        Self(Arc::new(wrap))
    }

    /// A layer that changes each request, or answers it itself.
    pub(super) fn before(
        change: impl Fn(&mut Request<Body>) -> Option<http::Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        let change = Arc::new(change);
        Self::new(move |inner| {
            let change = Arc::clone(&change);
            ProxyService::new(move |mut request| {
                let answer = change(&mut request);
                let inner = inner.clone();
                async move {
                    match answer {
                        Some(answer) => answer,
                        None => inner.ask(request).await,
                    }
                }
            })
        })
    }

    /// `service` inside this layer.
    pub fn around(&self, service: ProxyService) -> ProxyService {
        (self.0)(service)
    }

    /// A panic becomes an answer with status 500.
    pub fn recovery() -> Self {
        Self::new(ProxyService::recovering)
    }

    /// Hosts and origins are checked.
    pub fn guard(config: GuardConfig) -> Self {
        let config = Arc::new(config);
        Self::new(move |inner| inner.guarded(Arc::clone(&config)))
    }

    /// A body that is announced to be longer is answered with status 413. (What is not announced is bounded where the
    /// body is read.)
    pub fn body_limit(bytes: u64) -> Self {
        Self::before(move |request| (request.body().size_hint().lower() > bytes).then(answer::too_large))
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

    /// These headers are set on each request; they replace the client's.
    pub fn headers(headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self::before(move |request| {
            for (name, value) in &headers {
                request.headers_mut().insert(name.clone(), value.clone());
            }
            None
        })
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
}
