//! What a reverse proxy can be told.

use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use thv_core::TransportType;
use url::Url;

use super::headers;
use crate::error::ProxyError;
use crate::forwarded::is_prefix;
use crate::guard::GuardConfig;
use crate::middleware::MiddlewareKind;

/// How a [`ReverseProxy`](crate::ReverseProxy) behaves.
#[derive(Debug, Clone)]
pub struct ReverseProxyConfig {
    /// [`TransportType::Sse`] or [`TransportType::StreamableHttp`].
    pub transport: TransportType,
    /// The target is not a server of ours: its path replaces the client's, its query comes before the client's, and it
    /// is not told which host the client named.
    pub remote: bool,
    /// The server keeps no sessions: methods other than POST and OPTIONS are answered with 405.
    pub stateless: bool,
    /// Headers set on every request to the server; they replace the client's. Marked sensitive, so never logged.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Certificates of authorities in PEM, which are believed beside those of the system; of a local server none are
    /// asked for.
    pub ca_certificates: Vec<u8>,
    /// The client's `Authorization`, `Cookie` and `Proxy-Authorization` are not passed on.
    pub strip_auth: bool,
    /// Put before the path in the `endpoint` event of an SSE server, for a proxy behind another that removes it.
    pub endpoint_prefix: String,
    /// A request that a trusted proxy passed on: its `X-Forwarded-For`, `-Host`, `-Proto`, `-Port` and `-Prefix` are
    /// believed.
    pub trust_forwarded: bool,
    /// A client that names a revision of the protocol that is not known is refused. Without this the server decides.
    pub strict_versions: bool,
    /// A session that is not used for this long is not made again when the server has forgotten it: 2 h.
    pub session_ttl: Duration,
    /// Largest request body in bytes: 8 MiB.
    pub body_limit: usize,
    /// Bytes of large request bodies in memory at one time, over all clients: 64 MiB, `body_limit` at least.
    pub body_budget: usize,
    /// How long a client may take to send a body: 30 s.
    pub body_timeout: Duration,
    /// How long a connection to the server may take: 10 s. An answer may take any time.
    pub connect_timeout: Duration,
    /// Which hosts and origins are served.
    pub guard: GuardConfig,
    /// Layers around the proxy, outermost first.
    pub layers: Vec<MiddlewareKind>,
}

impl Default for ReverseProxyConfig {
    fn default() -> Self {
        Self {
            transport: TransportType::StreamableHttp,
            remote: false,
            stateless: false,
            headers: Vec::new(),
            ca_certificates: Vec::new(),
            strip_auth: false,
            endpoint_prefix: String::new(),
            trust_forwarded: false,
            strict_versions: false,
            session_ttl: Duration::from_hours(2),
            body_limit: 8 << 20,
            body_budget: 64 << 20,
            body_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            guard: GuardConfig::default(),
            layers: MiddlewareKind::standard(),
        }
    }
}

impl ReverseProxyConfig {
    pub(super) fn check(&mut self, target: &Url) -> Result<(), ProxyError> {
        let invalid = |what, reason: String| Err(ProxyError::Invalid { what, reason });
        if !matches!(target.scheme(), "http" | "https") || target.host_str().is_none_or(str::is_empty) {
            return invalid("target", "use an http or https URL with a host".into());
        }
        if !target.username().is_empty() || target.password().is_some() {
            return invalid(
                "target",
                "a URL must not carry a user name or password; forward a header".into(),
            );
        }
        if !matches!(self.transport, TransportType::Sse | TransportType::StreamableHttp) {
            return invalid(
                "transport",
                format!(
                    "a reverse proxy serves sse or streamable-http, not {}",
                    self.transport
                ),
            );
        }
        for (name, value) in &mut self.headers {
            if headers::is_restricted(name) {
                return invalid(
                    "forwarded header",
                    format!("\"{name}\" belongs to the connection and cannot be set"),
                );
            }
            value.set_sensitive(true);
        }
        if self.body_limit == 0 || self.body_limit > 1 << 30 {
            return invalid("size", "body_limit must be 1 byte to 1 GiB".into());
        }
        if !self.endpoint_prefix.is_empty() && !is_prefix(&self.endpoint_prefix) {
            return invalid("endpoint_prefix", "use a path that begins with one \"/\"".into());
        }
        Ok(())
    }
}
