//! What clients come in by: one listener whose service is swapped while servers come and go.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use thv_proxy::{Body, ProxyService, ServeOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// How long open requests may take when the proxy closes.
const DRAIN: Duration = Duration::from_secs(5);

/// The proxy's front: it answers through the current service, and says so when there is none.
#[derive(Clone, Default)]
pub(crate) struct Door {
    current: Arc<RwLock<Option<ProxyService>>>,
    closing: CancellationToken,
    closed: CancellationToken,
}

impl Door {
    /// From now on requests go to `service`.
    pub(crate) fn open(&self, service: ProxyService) {
        self.set(Some(service));
    }

    /// From now on requests are answered that there is no server.
    pub(crate) fn shut(&self) {
        self.set(None);
    }

    fn set(&self, service: Option<ProxyService>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = service;
    }

    /// Serves until [`close`](Self::close).
    pub(crate) async fn serve(&self, listener: TcpListener) {
        let options = ServeOptions {
            drain: DRAIN,
            ..ServeOptions::default()
        };
        // Also when this future is dropped: nobody may wait for a door that is gone.
        let _closed = self.closed.clone().drop_guard();
        thv_proxy::serve(listener, self.service(), options, self.closing.clone()).await;
    }

    /// Takes no more connections and returns when the open requests are done, or their time is over.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.closed.cancelled().await;
    }

    fn service(&self) -> ProxyService {
        let door = self.clone();
        ProxyService::new(move |request: Request<Body>| {
            let current = door
                .current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            async move {
                match current {
                    Some(mut service) => match service.call(request).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    },
                    None => unavailable(),
                }
            }
        })
    }
}

fn unavailable() -> Response<Body> {
    const BODY: &str = concat!(
        r#"{"error":{"code":-32000,"message":"the server is not running, try again later"},"#,
        r#""id":null,"jsonrpc":"2.0"}"#
    );
    let mut response = Response::new(Body::full(BODY));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
    response
}
