//! What clients see of a proxy while the server behind it comes and goes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use thv_core::{SystemClock, TransportType};

use crate::answer;
use crate::body::{self, Body};
use crate::budget::Budget;
use crate::health;
use crate::jsonrpc;
use crate::middleware::{Layer, ProxyService};

/// A request is read to this size to find its id.
const LONGEST_BODY: usize = 8 << 20;
/// How long it may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A service whose inner one can be taken away and put back. Its layers, Host and Origin checks among them, stand before
/// it also while there is none, and `/health` is answered. A cheap handle.
///
/// Services that are put in need none of these layers.
#[derive(Debug, Clone)]
pub struct Front(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    transport: TransportType,
    layers: Vec<Layer>,
    bodies: Budget,
    current: RwLock<Option<ProxyService>>,
}

impl Front {
    /// A front for a server with this transport, inside `layers`, the first of which is the outermost; there is no
    /// server yet.
    pub fn new(transport: TransportType, layers: Vec<Layer>) -> Self {
        Self(Arc::new(Shared {
            transport,
            layers,
            bodies: Budget::new(2 * LONGEST_BODY),
            current: RwLock::default(),
        }))
    }

    /// From now on requests go to `service`.
    pub fn open(&self, service: ProxyService) {
        self.set(Some(service));
    }

    /// From now on requests are answered that there is no server.
    pub fn shut(&self) {
        self.set(None);
    }

    fn set(&self, service: Option<ProxyService>) {
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = service;
    }

    /// The front as a service.
    pub fn into_service(self) -> ProxyService {
        let layers = self.0.layers.clone();
        ProxyService::passing(move |request| {
            let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner);
            match current.clone() {
                Some(service) => {
                    drop(current);
                    service.ask(request)
                }
                None => Box::pin(self.clone().alone(request)),
            }
        })
        .within(&layers)
    }

    /// The answer without a server.
    async fn alone(self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        if path == "/health" {
            return health::answer(request.method(), self.0.transport, Some(false), &SystemClock);
        }
        if path == "/metrics" || path.starts_with("/.well-known/") {
            return answer::not_found(path);
        }
        let posted = request.method() == Method::POST;
        let body = request.into_body();
        let read = body::read_all(body, LONGEST_BODY, BODY_TIMEOUT, &self.0.bodies);
        let held = if posted { read.await.ok() } else { None };
        let message = held.as_ref().map_or(&[][..], |held| &held.bytes);
        let envelope = jsonrpc::scan(message).unwrap_or_default();
        let mut response = answer::rpc_error(
            StatusCode::SERVICE_UNAVAILABLE,
            -32000,
            "the server is not running, try again later",
            envelope.id_in(message),
        );
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("5"));
        response
    }
}
