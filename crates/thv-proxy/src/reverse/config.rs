//! What a reverse proxy can be told.

use std::fmt;
use std::time::Duration;

use thv_core::TransportType;
use url::Url;

use crate::error::ProxyError;
use crate::forwarded::is_prefix;
use crate::middleware::{Header, Layer, Setting};

/// How a [`ReverseProxy`](crate::ReverseProxy) behaves. What can be switched on is off by default, texts are empty.
#[derive(Clone)]
pub struct ReverseProxyConfig {
    /// [`TransportType::StreamableHttp`], the default, or [`TransportType::Sse`].
    pub transport: TransportType,
    /// The target is not a server of ours: its path replaces the client's, its query comes before the client's, and it
    /// is not told which host the client named.
    pub remote: bool,
    /// The server keeps no sessions: methods other than POST and OPTIONS are answered with 405.
    pub stateless: bool,
    /// Certificates of authorities in PEM, which are believed beside those of the system; of a local server none are
    /// asked for.
    pub ca_certificates: Vec<u8>,
    /// Put before the path in the `endpoint` event of an SSE server, for a proxy behind another that removes it.
    /// Where there is none, it is where axum nests the router, if it does.
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
    /// Layers around the proxy, outermost first: [`Layer::standard`]. What they say of `body_limit` counts, of several
    /// the least; the headers that they set are on the proxy's own requests too.
    pub layers: Vec<Layer>,
}

/// Of the certificates only their size: nobody reads PEM in a log.
impl fmt::Debug for ReverseProxyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReverseProxyConfig")
            .field("transport", &self.transport)
            .field("remote", &self.remote)
            .field("stateless", &self.stateless)
            .field(
                "ca_certificates",
                &format_args!("{} bytes", self.ca_certificates.len()),
            )
            .field("endpoint_prefix", &self.endpoint_prefix)
            .field("trust_forwarded", &self.trust_forwarded)
            .field("strict_versions", &self.strict_versions)
            .field("session_ttl", &self.session_ttl)
            .field("body_limit", &self.body_limit)
            .field("body_budget", &self.body_budget)
            .field("body_timeout", &self.body_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("layers", &self.layers)
            .finish()
    }
}

impl Default for ReverseProxyConfig {
    fn default() -> Self {
        Self {
            transport: TransportType::StreamableHttp,
            remote: false,
            stateless: false,
            ca_certificates: Vec::new(),
            endpoint_prefix: String::new(),
            trust_forwarded: false,
            strict_versions: false,
            session_ttl: Duration::from_hours(2),
            body_limit: 8 << 20,
            body_budget: 64 << 20,
            body_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            layers: Layer::standard(),
        }
    }
}

impl ReverseProxyConfig {
    /// Takes what the layers say of what the proxy does itself.
    pub(super) fn settle(&mut self) -> OwnHeaders {
        if let Some(bytes) = Layer::body_limit_of(&self.layers) {
            self.body_limit = bytes;
        }
        let for_probes = Layer::headers_of(&self.layers);
        let taken = Layer::take_innermost(&mut self.layers, |setting| {
            !matches!(setting, Setting::RequestTimeout(_))
        });
        OwnHeaders {
            for_probes,
            for_clients: Layer::headers_of(&taken),
        }
    }

    pub(super) fn check(&self, target: &Url) -> Result<(), ProxyError> {
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
        if self.body_limit == 0 || self.body_limit > 1 << 30 {
            return invalid("size", "body_limit must be 1 byte to 1 GiB".into());
        }
        if self.body_timeout.is_zero() || self.connect_timeout.is_zero() {
            return invalid(
                "duration",
                "body_timeout and connect_timeout must be longer than 0".into(),
            );
        }
        if !self.endpoint_prefix.is_empty() && !is_prefix(&self.endpoint_prefix) {
            return invalid("endpoint_prefix", "use a path that begins with one \"/\"".into());
        }
        Ok(())
    }
}

/// Headers that the proxy sets towards the server.
#[derive(Debug)]
pub(super) struct OwnHeaders {
    /// On requests of its own.
    pub(super) for_probes: Vec<Header>,
    /// On requests of clients: what outer layers set is on them already.
    pub(super) for_clients: Vec<Header>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_no_numbers_in_a_log() {
        let config = ReverseProxyConfig {
            ca_certificates: b"-----BEGIN CERTIFICATE-----".to_vec(),
            ..ReverseProxyConfig::default()
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("ca_certificates: 27 bytes"), "{shown}");
    }
}
