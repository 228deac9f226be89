//! `/health`.

use http::{Method, Response, StatusCode};
use serde::Serialize;
use thv_core::{Clock, TransportType};

use crate::answer;
use crate::body::Body;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    timestamp: String,
    transport: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp: Option<Mcp>,
}

#[derive(Serialize)]
struct Mcp {
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    last_checked: String,
}

/// The answer to a request for `/health`. `available` is what the proxy knows of the server without asking it; a
/// server that is away makes it `degraded`, which is still 200.
pub(crate) fn answer(
    method: &Method,
    transport: TransportType,
    available: Option<bool>,
    clock: &dyn Clock,
) -> Response<Body> {
    if method != Method::GET {
        return answer::method_not_allowed("GET");
    }
    let timestamp = clock.now().timestamp().to_string();
    let health = Health {
        status: if available == Some(false) {
            "degraded"
        } else {
            "healthy"
        },
        transport: transport.as_str(),
        mcp: available.map(|available| Mcp {
            available,
            error: (!available).then_some("the server is not connected"),
            last_checked: timestamp.clone(),
        }),
        timestamp,
    };
    answer::json(StatusCode::OK, serde_json::to_vec(&health).unwrap_or_default())
}
