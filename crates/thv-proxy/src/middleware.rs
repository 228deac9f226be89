//! Layers around a proxy, in an order that is data.

mod factory;
mod layer;
mod tool_calls;
mod tool_lists;
mod tool_policy;

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tower::{Service, ServiceExt};

pub use self::factory::MiddlewareFactory;
pub use self::layer::Layer;
pub(crate) use self::layer::{Header, Setting};
pub use self::tool_policy::ToolPolicy;
use crate::body::{Body, BodyError};

/// A whole proxy as a tower service: for hyper directly ([`serve`](crate::serve)) or as the fallback of an axum router.
/// A cheap handle.
#[derive(Clone)]
pub struct ProxyService(Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>);

impl fmt::Debug for ProxyService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyService")
    }
}

impl ProxyService {
    /// A service from what handles one request.
    pub fn new<F, Fut>(handle: F) -> Self
    where
        F: Fn(Request<Body>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response<Body>> + Send + 'static,
    {
        Self(Arc::new(move |request| handle(request).boxed()))
    }

    /// Any tower service that takes and gives HTTP, and fails never: another application's axum router, for example.
    ///
    /// ```
    /// use http::{Request, StatusCode};
    /// use thv_proxy::{Body, Layer, ProxyService};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), http::Error> {
    /// let mine = axum::Router::new().route("/mine", axum::routing::get(async || "hello"));
    /// let guarded = ProxyService::tower(mine).within(&Layer::standard());
    /// let asked = async |host| {
    ///     let request = Request::get("/mine").header("host", host).body(Body::empty())?;
    ///     Ok::<_, http::Error>(guarded.ask(request).await.status())
    /// };
    /// assert_eq!(asked("localhost").await?, StatusCode::OK);
    /// assert_eq!(asked("evil.example").await?, StatusCode::FORBIDDEN);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tower<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        Self::new(move |request| {
            let service = service.clone();
            async move {
                match service.oneshot(request).await {
                    Ok(response) => response.map(Body::boxed),
                    Err(never) => match never {},
                }
            }
        })
    }

    /// As [`new`](Self::new), where mostly another service's future is passed on.
    pub(crate) fn passing(
        handle: impl Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(handle))
    }

    /// This service inside `layers`, the first of which is the outermost.
    pub fn within(self, layers: &[Layer]) -> Self {
        layers.iter().rev().fold(self, |inner, layer| layer.around(inner))
    }

    /// The answer to one request.
    pub fn ask(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        (self.0)(request)
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
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        Answering(self.ask(request.map(Body::from)))
    }
}

/// The answer of a [`ProxyService`] to one request, on its way.
pub struct Answering(BoxFuture<'static, Response<Body>>);

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answering")
    }
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}
