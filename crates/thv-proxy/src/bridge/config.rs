//! What a bridge can be told.

use std::time::Duration;

use thv_core::ProxyMode;

use crate::error::ProxyError;
use crate::forwarded::is_prefix;
use crate::middleware::{Layer, Setting};

/// How a [`StdioBridge`](crate::StdioBridge) behaves. All bounds have the defaults of the format.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// Streamable HTTP at `/mcp`, the default, or SSE at `/sse`.
    pub mode: ProxyMode,
    /// What ids sent to the server begin with: 1–64 of `[A-Za-z0-9_-]`, new for each claim, so that answers to an
    /// earlier proxy are recognised and dropped. The default is random.
    pub id_prefix: String,
    /// Largest request body in bytes: 8 MiB.
    pub body_limit: usize,
    /// Longest line from the server in bytes: 32 MiB.
    pub line_limit: usize,
    /// Bytes of large request bodies in memory at one time, over all clients: 64 MiB, `body_limit` at least.
    pub body_budget: usize,
    /// Bytes of large answers and notifications in memory that clients have not read, over all clients: 128 MiB,
    /// `line_limit` at least.
    pub answer_budget: usize,
    /// How long a call may take: 60 s.
    pub request_timeout: Duration,
    /// How long a client may take to send a body: 30 s.
    pub body_timeout: Duration,
    /// A session without requests or an open stream is forgotten after this, earlier when there are too many: 2 h.
    pub session_ttl: Duration,
    /// Sessions at one time: 10,000.
    pub max_sessions: usize,
    /// Calls waiting for the server at one time: 4,096.
    pub max_in_flight: usize,
    /// Messages that wait to be written to the server: 1,024.
    pub queue: usize,
    /// Messages that wait to be read by one event stream: 100.
    pub stream_buffer: usize,
    /// Bytes of them: 4 MiB. A single larger one is taken while no other waits.
    pub stream_bytes: usize,
    /// How often an event stream gets a comment to keep it open: 30 s.
    pub keep_alive: Duration,
    /// Pauses before asking for a new connection to the server: none before the first, then doubling from this, 2 s, to
    /// 30 s.
    pub reconnect_delay: Duration,
    /// A client that names a revision that is not known is refused, as the protocol asks. It may be one that is to come:
    /// without this it is served. On by default.
    pub strict_versions: bool,
    /// A request that a trusted proxy passed on: its `X-Forwarded-Host`, `-Port` and `-Prefix` are believed.
    /// Off by default.
    pub trust_forwarded: bool,
    /// Put before the path in the `endpoint` event, for a proxy behind another that removes it; begins with `/`.
    /// Empty by default: then it is where axum nests the router, if it does.
    pub endpoint_prefix: String,
    /// How often a new connection is asked for before the server counts as gone: 10.
    pub reconnect_attempts: u32,
    /// Layers around the bridge, outermost first: [`Layer::standard`]. What they say of `body_limit` and
    /// `request_timeout` counts, of several the least.
    pub layers: Vec<Layer>,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self {
            mode: ProxyMode::StreamableHttp,
            id_prefix: format!("t{}-", &random[..16]),
            body_limit: 8 << 20,
            line_limit: 32 << 20,
            body_budget: 64 << 20,
            answer_budget: 128 << 20,
            request_timeout: Duration::from_mins(1),
            body_timeout: Duration::from_secs(30),
            session_ttl: Duration::from_hours(2),
            max_sessions: 10_000,
            max_in_flight: 4_096,
            queue: 1_024,
            stream_buffer: 100,
            stream_bytes: 4 << 20,
            keep_alive: Duration::from_secs(30),
            reconnect_delay: Duration::from_secs(2),
            strict_versions: true,
            trust_forwarded: false,
            endpoint_prefix: String::new(),
            reconnect_attempts: 10,
            layers: Layer::standard(),
        }
    }
}

impl BridgeConfig {
    /// Takes what the layers say of what the bridge does itself.
    pub(crate) fn settle(&mut self) {
        if let Some(bytes) = Layer::body_limit_of(&self.layers) {
            self.body_limit = bytes;
        }
        let timeouts = Layer::settings(&self.layers).filter_map(|setting| match setting {
            Setting::RequestTimeout(timeout) => Some(*timeout),
            _ => None,
        });
        if let Some(timeout) = timeouts.min() {
            self.request_timeout = timeout;
        }
        // Headers among them: there is no request to the server that could carry them.
        Layer::take_innermost(&mut self.layers, |_| true);
    }

    pub(crate) fn check(&self) -> Result<(), ProxyError> {
        let invalid = |what, reason: &str| {
            Err(ProxyError::Invalid {
                what,
                reason: reason.to_owned(),
            })
        };
        let prefix = self.id_prefix.as_bytes();
        if !(1..=64).contains(&prefix.len())
            || !prefix
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        {
            return invalid("id_prefix", "use 1 to 64 letters, digits, \"_\" or \"-\"");
        }
        if self.queue == 0 || self.stream_buffer == 0 || self.max_in_flight == 0 || self.max_sessions == 0 {
            return invalid(
                "bound",
                "queue, stream_buffer, max_in_flight and max_sessions must be at least 1",
            );
        }
        if self.request_timeout.is_zero() || self.keep_alive.is_zero() || self.body_timeout.is_zero() {
            return invalid(
                "duration",
                "request_timeout, body_timeout and keep_alive must be longer than 0",
            );
        }
        if !self.endpoint_prefix.is_empty() && !is_prefix(&self.endpoint_prefix) {
            return invalid("endpoint_prefix", "use a path that begins with one \"/\"");
        }
        if self.body_limit == 0
            || self.body_limit > 1 << 30
            || self.line_limit == 0
            || self.line_limit > 1 << 30
        {
            return invalid("size", "body_limit and line_limit must be 1 byte to 1 GiB");
        }
        Ok(())
    }
}
