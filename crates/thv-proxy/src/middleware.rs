//! Layers around a proxy, in an order that is data.

mod factory;
mod layer;
mod tool_calls;
mod tool_lists;
mod tool_policy;

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tower::util::BoxCloneSyncService;
use tower::{Service, service_fn};

pub use self::factory::MiddlewareFactory;
pub use self::layer::Layer;
pub(crate) use self::layer::{Header, Setting};
pub use self::tool_policy::ToolPolicy;
use crate::body::Body;

/// A whole proxy as a tower service: for hyper directly ([`serve`](crate::serve)) or as the fallback of an axum router.
#[derive(Clone)]
pub struct ProxyService(BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>);

impl std::fmt::Debug for ProxyService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProxyService")
    }
}

impl ProxyService {
    /// A service from what handles one request.
    pub fn new<F, Fut>(handle: F) -> Self
    where
        F: Fn(Request<Body>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response<Body>> + Send + 'static,
    {
        Self(BoxCloneSyncService::new(service_fn(move |request| {
            handle(request).map(Ok)
        })))
    }

    /// This service inside `layers`, the first of which is the outermost.
    pub fn within(self, layers: &[Layer]) -> Self {
        layers.iter().rev().fold(self, |inner, layer| layer.around(inner))
    }

    /// The answer to one request.
    pub async fn ask(&self, request: Request<Body>) -> Response<Body> {
        match self.0.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// An axum router that serves everything through this service.
    pub fn into_router(self) -> axum::Router {
        axum::Router::new().fallback_service(self)
    }
}

impl<B> Service<Request<B>> for ProxyService
where
    Body: From<B>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(self.0.call(request.map(Body::from)))
    }
}
