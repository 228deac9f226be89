//! Which proxy stands before a server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thv_core::RunConfig;
use thv_proxy::{
    BackendIo, BridgeConfig, BridgeEnd, Front, MiddlewareFactory, ProxyError, ProxyService, ReverseProxy,
    ReverseProxyConfig, ServerInfo, StdioBridge, Suspended,
};
use thv_runtime::Stdio;
use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

use crate::supervisor::causes;
use crate::tuning::Tuning;
use crate::{Error, Remotes, Result, middleware};

/// Of a file of CA certificates so many bytes are read.
const LONGEST_BUNDLE: u64 = 1 << 20;
/// How long one try to initialize an HTTP server may take.
const PROBE: Duration = Duration::from_secs(10);
/// Most servers listen by then.
const USUAL_START: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A proxy and the server behind it.
pub(crate) struct Backend(Server);

enum Server {
    /// Streams, shared by many clients.
    Stdio { bridge: StdioBridge },
    /// An HTTP server of this machine.
    Http { proxy: ReverseProxy },
    /// An HTTP server elsewhere, and who asks whether it is there.
    Remote {
        proxy: ReverseProxy,
        url: String,
        remotes: Arc<dyn Remotes>,
    },
}

/// What clients see of a proxy, whatever server is behind it.
pub(crate) fn front(own: &MiddlewareFactory, config: &RunConfig) -> Result<Front> {
    let layers = middleware::front(own, config).map_err(|error| failed(config, error))?;
    Ok(Front::new(config.transport, layers))
}

/// The bridge before a stdio server, whose standard error the caller reads. Ids sent to it begin with the claim, which
/// is new for each proxy.
pub(crate) fn stdio(
    own: &MiddlewareFactory,
    config: &RunConfig,
    claim: &str,
    tuning: &Tuning,
    io: Stdio,
) -> Result<Backend> {
    let mut bridge = BridgeConfig {
        mode: config.effective_proxy_mode(),
        id_prefix: format!("{}-", &claim[..claim.len().min(16)]),
        layers: middleware::inner(own, config, tuning).map_err(|error| failed(config, error))?,
        trust_forwarded: config.trust_proxy_headers,
        endpoint_prefix: config.endpoint_prefix.clone(),
        ..BridgeConfig::default()
    };
    if let Ok(Some(ttl)) = config.session_ttl() {
        bridge.session_ttl = ttl;
    }
    if let Some(timeout) = tuning.request_timeout {
        bridge.request_timeout = timeout;
    }
    let (configured, default) = (config.thv.proxy.max_line_bytes, bridge.line_limit);
    bridge.line_limit = limit(configured, tuning.max_line, default);
    let bridge = StdioBridge::new(
        BackendIo {
            reader: io.stdout,
            writer: io.stdin,
        },
        bridge,
    )
    .map_err(|error| failed(config, error))?;
    Ok(Backend(Server::Stdio { bridge }))
}

/// The reverse proxy before an HTTP server of a runtime.
pub(crate) fn http(
    own: &MiddlewareFactory,
    config: &RunConfig,
    tuning: &Tuning,
    address: SocketAddr,
) -> Result<Backend> {
    let proxy = reverse(own, config, tuning, parse(config, &format!("http://{address}"))?)?;
    Ok(Backend(Server::Http { proxy }))
}

/// The certificates of the configuration's file; none without one.
fn ca_certificates(config: &RunConfig) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let path = &config.thv_ca_bundle;
    if config.is_remote() && !path.is_empty() {
        let reading =
            std::fs::File::open(path).and_then(|file| file.take(LONGEST_BUNDLE).read_to_end(&mut text));
        reading.map_err(|error| Error::Invalid {
            what: format!("CA certificates \"{path}\" of workload \"{}\"", config.base_name),
            detail: format!("they cannot be read: {error}"),
        })?;
    }
    Ok(text)
}

/// The reverse proxy before a remote server.
pub(crate) fn remote(
    own: &MiddlewareFactory,
    config: &RunConfig,
    tuning: &Tuning,
    remotes: &Arc<dyn Remotes>,
) -> Result<Backend> {
    Ok(Backend(Server::Remote {
        proxy: reverse(own, config, tuning, parse(config, &config.remote_url)?)?,
        url: config.remote_url.clone(),
        remotes: remotes.clone(),
    }))
}

fn reverse(
    own: &MiddlewareFactory,
    config: &RunConfig,
    tuning: &Tuning,
    target: Url,
) -> Result<ReverseProxy> {
    let mut options = ReverseProxyConfig {
        layers: middleware::inner(own, config, tuning).map_err(|error| failed(config, error))?,
        transport: config.transport,
        ..ReverseProxyConfig::default()
    };
    options.remote = config.is_remote();
    options.ca_certificates = ca_certificates(config)?;
    if let Ok(Some(ttl)) = config.session_ttl() {
        options.session_ttl = ttl;
    }
    options.stateless = config.stateless;
    options.strict_versions = config.strict_protocol_validation;
    options.trust_forwarded = config.trust_proxy_headers;
    options.endpoint_prefix.clone_from(&config.endpoint_prefix);
    ReverseProxy::new(target, options).map_err(|error| failed(config, error))
}

fn parse(config: &RunConfig, url: &str) -> Result<Url> {
    url.parse().map_err(|e| Error::Invalid {
        what: format!("URL of workload \"{}\"", config.base_name),
        detail: format!("it cannot be parsed: {e}"),
    })
}

fn failed(config: &RunConfig, error: ProxyError) -> Error {
    Error::Proxy {
        name: config.base_name.clone(),
        detail: error.to_string(),
        source: std::error::Error::source(&error).map(|cause| cause.to_string().into()),
    }
}

/// Largest request body in bytes. What cannot be a limit is refused when the layer for it is made.
pub(crate) fn body_limit(config: &RunConfig, tuning: &Tuning) -> i64 {
    let wanted = config.thv.proxy.max_body_bytes;
    if wanted < 0 {
        return wanted;
    }
    i64::try_from(limit(wanted, tuning.max_body, 8 << 20)).unwrap_or(i64::MAX)
}

/// A limit in bytes: the configuration's, else the environment's, else the default. What cannot be a limit is refused
/// by the proxy.
fn limit(configured: i64, environments: Option<usize>, default: usize) -> usize {
    if configured != 0 {
        return usize::try_from(configured).unwrap_or(0);
    }
    environments.unwrap_or(default)
}

impl Backend {
    pub(crate) fn service(&self) -> ProxyService {
        match &self.0 {
            Server::Stdio { bridge } => bridge.clone().into_service(),
            Server::Http { proxy } | Server::Remote { proxy, .. } => proxy.clone().into_service(),
        }
    }

    /// Returns when the server has answered `initialize`; tries again while it cannot be reached. What is in its way is told
    /// to `unready` when a server on its way up would be there.
    pub(crate) async fn ready(&self, unready: &watch::Sender<String>) -> Result<ServerInfo, ProxyError> {
        let (mut pause, began) = (FIRST_PAUSE, Instant::now());
        loop {
            match self.ready_once().await {
                Err(error) if error.is_retryable() && self.is_http() => {
                    let problem = causes(&error);
                    tracing::debug!(%problem, "the server is not ready yet");
                    if began.elapsed() >= USUAL_START {
                        unready.send_if_modified(|known| {
                            let differs = *known != problem;
                            *known = problem;
                            differs
                        });
                    }
                }
                answer => return answer,
            }
            // An HTTP server gives no sign when it begins to listen.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks the server once.
    pub(crate) async fn ready_once(&self) -> Result<ServerInfo, ProxyError> {
        match &self.0 {
            Server::Stdio { bridge } => bridge.initialize().await,
            Server::Http { proxy } => Box::pin(proxy.initialize(PROBE)).await,
            Server::Remote { proxy, url, remotes } => remotes.initialize(url, proxy, PROBE).await,
        }
    }

    /// Whether there is something to look at again and again.
    pub(crate) fn is_http(&self) -> bool {
        !matches!(self.0, Server::Stdio { .. })
    }

    /// Whether an HTTP server is there.
    pub(crate) async fn reachable(&self, timeout: Duration) -> Result<(), ProxyError> {
        match &self.0 {
            Server::Stdio { .. } => Ok(()),
            Server::Http { proxy } => Box::pin(proxy.reachable(timeout)).await,
            Server::Remote { proxy, url, remotes } => remotes.reachable(url, proxy, timeout).await,
        }
    }

    /// Resolves when the connection to the server has ended for good, with the words for it.
    pub(crate) async fn closed(&self) -> String {
        match &self.0 {
            Server::Stdio { bridge } => match bridge.closed().await {
                BridgeEnd::Unreachable { reason } => format!("the server cannot be reached: {reason}"),
                _ => "the server closed its output".into(),
            },
            Server::Http { .. } | Server::Remote { .. } => std::future::pending().await,
        }
    }

    /// The server stands still while what this gives is kept: calls fail at once, with the reason.
    pub(crate) fn suspend(&self, reason: &str) -> Suspended {
        match &self.0 {
            Server::Stdio { bridge } => bridge.suspend(reason),
            Server::Http { proxy } | Server::Remote { proxy, .. } => proxy.suspend(reason),
        }
    }

    pub(crate) fn is_suspended(&self) -> bool {
        match &self.0 {
            Server::Stdio { bridge } => bridge.is_suspended(),
            Server::Http { proxy } | Server::Remote { proxy, .. } => proxy.is_suspended(),
        }
    }

    /// Comes when a call has waited for a while whose answer comes by way of the engine. Cancel-safe.
    pub(crate) async fn doubted(&self) {
        match &self.0 {
            Server::Stdio { bridge } => bridge.doubted().await,
            // Their answers do not.
            Server::Http { .. } | Server::Remote { .. } => std::future::pending().await,
        }
    }

    /// Ends the event streams of clients, so that a proxy that drains can finish.
    pub(crate) fn end_streams(&self) {
        if let Server::Stdio { bridge } = &self.0 {
            bridge.end_streams();
        }
    }

    /// Closes the connection: a stdio server sees the end of its input.
    pub(crate) async fn shutdown(&self) {
        if let Server::Stdio { bridge } = &self.0 {
            bridge.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Arc<dyn Remotes> {
        Arc::new(crate::NetworkRemotes)
    }

    #[test]
    fn limits_are_the_configurations_then_the_environments() {
        for (configured, environments, expected) in [
            (0, Some(1000), 1000),
            (7, Some(1000), 7),
            (0, None, 5),
            (-1, None, 0),
        ] {
            let limit = limit(configured, environments, 5);
            assert_eq!(limit, expected, "{configured} {environments:?}");
        }
    }

    #[tokio::test]
    async fn a_limit_that_is_none_and_a_name_that_is_not_the_machines_are_refused() {
        let config = |thv: &str| {
            let text = format!(
                r#"{{"base_name": "w", "transport": "sse", "remote_url": "http://localhost:1/sse", "host": "0.0.0.0", "thv": {thv}}}"#
            );
            RunConfig::from_json(text.as_bytes()).unwrap()
        };
        let tuning = Tuning::default();
        let own = MiddlewareFactory::new();
        let made = |config: &RunConfig| remote(&own, config, &tuning, &network());
        assert!(made(&config(r#"{"proxy": {"max_body_bytes": 100}}"#)).is_ok());
        assert!(made(&config(r#"{"proxy": {"max_body_bytes": -1}}"#)).is_err());
        let front = front(
            &own,
            &config(r#"{"proxy": {"allowed_hosts": ["proxy.internal"]}}"#),
        );
        let front = front.unwrap().into_service();
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for (host, served) in [
            ("192.168.1.7:8080", true),
            ("localhost", true),
            ("proxy.internal", true),
            (own.as_str(), true),
            ("rebound.example", false),
        ] {
            let request = http::Request::get("/mcp").header("host", host);
            let answer = front.ask(request.body(thv_proxy::Body::empty()).unwrap()).await;
            assert_eq!(answer.status() != 403, served, "{host}");
        }
    }

    #[test]
    fn a_file_of_certificates_is_read_when_a_remote_server_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let config = |url: &str| RunConfig {
            transport: thv_core::TransportType::StreamableHttp,
            remote_url: url.into(),
            thv_ca_bundle: path.to_str().unwrap().into(),
            ..RunConfig::default()
        };
        let far = config("https://example.com/mcp");
        let made = || remote(&MiddlewareFactory::new(), &far, &Tuning::default(), &network());
        assert!(made().is_err(), "it is not there");
        std::fs::write(&path, "no certificate").unwrap();
        assert!(made().is_err(), "it says nothing");
        assert_eq!(ca_certificates(&far).unwrap(), b"no certificate");
        assert_eq!(
            ca_certificates(&config("")).unwrap(),
            b"",
            "of a local server nobody asks"
        );
    }

    #[tokio::test]
    async fn before_a_server_without_sessions_only_post_is_passed_on() {
        let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
        for (stateless, expected) in [(true, 405), (false, 502)] {
            let text =
                format!(r#"{{"base_name": "w", "transport": "streamable-http", "stateless": {stateless}}}"#);
            let config = RunConfig::from_json(text.as_bytes()).unwrap();
            let backend = http(&MiddlewareFactory::new(), &config, &Tuning::default(), nobody).unwrap();
            let request = http::Request::get("/mcp").body(thv_proxy::Body::empty()).unwrap();
            let answer = tower::Service::call(&mut backend.service(), request).await;
            assert_eq!(answer.unwrap().status().as_u16(), expected);
        }
    }
}
