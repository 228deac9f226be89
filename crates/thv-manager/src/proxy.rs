//! Which proxy stands before a server.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use thv_core::{Env, Json, RunConfig};
use thv_proxy::{
    BackendIo, BridgeConfig, BridgeEnd, Front, GuardConfig, Layer, MiddlewareFactory, ProxyError,
    ProxyService, ReverseProxy, ReverseProxyConfig, ServerInfo, StdioBridge, ToolPolicy,
};
use thv_runtime::Stdio;
use url::Url;

use crate::deploy_spec::inbound_hosts;
use crate::{Error, Result};

/// How long a request may take; a Go duration.
const REQUEST_TIMEOUT_ENV: &str = "TOOLHIVE_PROXY_REQUEST_TIMEOUT";
/// Largest request body and longest line of a server, in bytes, where the run configuration says nothing.
const BODY_LIMIT_ENV: &str = "TOOLHIVE_PROXY_MAX_BODY_BYTES";
const LINE_LIMIT_ENV: &str = "TOOLHIVE_PROXY_MAX_LINE_BYTES";
/// Of a file of CA certificates so many bytes are read.
const LONGEST_BUNDLE: u64 = 1 << 20;
/// How long one try to initialize an HTTP server may take.
const PROBE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A proxy and the server behind it.
pub(crate) struct Backend {
    server: Server,
    layers: Vec<Layer>,
}

enum Server {
    /// Streams, shared by many clients.
    Stdio { bridge: StdioBridge },
    /// An HTTP server, here or elsewhere.
    Http { proxy: ReverseProxy },
}

/// What clients see of a proxy, whatever server is behind it.
pub(crate) fn front(config: &RunConfig) -> Front {
    Front::new(config.transport, guard(config))
}

/// The bridge before a stdio server, whose standard error the caller reads. Ids sent to it begin with the claim, which is new for each proxy.
pub(crate) fn stdio(config: &RunConfig, claim: &str, env: &Env, io: Stdio) -> Result<Backend> {
    let mut bridge = BridgeConfig {
        mode: config.effective_proxy_mode(),
        id_prefix: format!("{}-", &claim[..claim.len().min(16)]),
        // The front has them.
        layers: Vec::new(),
        trust_forwarded: config.trust_proxy_headers,
        endpoint_prefix: config.endpoint_prefix.clone(),
        ..BridgeConfig::default()
    };
    if let Ok(Some(ttl)) = config.session_ttl() {
        bridge.session_ttl = ttl;
    }
    if let Some(timeout) = request_timeout(env) {
        bridge.request_timeout = timeout;
    }
    let limits = &config.thv.proxy;
    bridge.body_limit = limit(limits.max_body_bytes, env, BODY_LIMIT_ENV, bridge.body_limit);
    bridge.line_limit = limit(limits.max_line_bytes, env, LINE_LIMIT_ENV, bridge.line_limit);
    let layers = layers(config, bridge.body_limit)?;
    let bridge = StdioBridge::new(
        BackendIo {
            reader: io.stdout,
            writer: io.stdin,
        },
        bridge,
    )
    .map_err(|error| failed(config, error))?;
    Ok(Backend {
        server: Server::Stdio { bridge },
        layers,
    })
}

/// The reverse proxy before an HTTP server of a runtime.
pub(crate) fn http(config: &RunConfig, env: &Env, address: SocketAddr) -> Result<Backend> {
    reverse(config, env, parse(config, &format!("http://{address}"))?)
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
pub(crate) fn remote(config: &RunConfig, env: &Env) -> Result<Backend> {
    reverse(config, env, parse(config, &config.remote_url)?)
}

fn reverse(config: &RunConfig, env: &Env, target: Url) -> Result<Backend> {
    let mut options = ReverseProxyConfig {
        layers: Vec::new(),
        transport: config.transport,
        ..ReverseProxyConfig::default()
    };
    if let Some(forward) = &config.header_forward {
        for (name, value) in &forward.add_plaintext_headers {
            options.headers.push(header(name, value)?);
        }
    }
    options.remote = config.is_remote();
    options.ca_certificates = ca_certificates(config)?;
    if let Ok(Some(ttl)) = config.session_ttl() {
        options.session_ttl = ttl;
    }
    options.stateless = config.stateless;
    options.strict_versions = config.strict_protocol_validation;
    options.trust_forwarded = config.trust_proxy_headers;
    options.endpoint_prefix.clone_from(&config.endpoint_prefix);
    let wanted = config.thv.proxy.max_body_bytes;
    options.body_limit = limit(wanted, env, BODY_LIMIT_ENV, options.body_limit);
    let layers = layers(config, options.body_limit)?;
    let proxy = ReverseProxy::new(target, options).map_err(|error| failed(config, error))?;
    Ok(Backend {
        server: Server::Http { proxy },
        layers,
    })
}

/// What stands between the front and the proxy, in the order of the configuration's list where it names it.
fn layers(config: &RunConfig, body_limit: usize) -> Result<Vec<Layer>> {
    let filtered = !config.tools_filter.is_empty() || !config.tools_override.is_empty();
    let mut wanted = Vec::new();
    if config.debug {
        wanted.push("access-log");
    }
    if filtered {
        let list = config.middleware_configs.iter().map(|one| one.kind.as_str());
        let known = ["tool-filter", "tool-call-filter"];
        for kind in list.chain(known).filter(|kind| known.contains(kind)) {
            if !wanted.contains(&kind) {
                wanted.push(kind);
            }
        }
    }
    // The fields of a configuration say what is filtered; the parameters in its list say the same, or it is refused.
    let policy = ToolPolicy::new(&config.tools_filter, &config.tools_override);
    let policy = policy.map_err(|error| failed(config, error))?;
    let (lists, calls) = (policy.clone(), policy);
    let factory = MiddlewareFactory::standard()
        .with("tool-filter", move |_| Ok(Some(Layer::tool_lists(lists.clone()))))
        .with("tool-call-filter", move |_| {
            Ok(Some(Layer::tool_calls(calls.clone(), body_limit)))
        });
    let made = wanted.into_iter().map(|kind| factory.make(kind, &Json::Null));
    let made = made.filter_map(std::result::Result::transpose);
    made.collect::<std::result::Result<_, _>>()
        .map_err(|error| failed(config, error))
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let invalid = |detail: &str| Error::Invalid {
        what: format!("forwarded header \"{name}\""),
        detail: detail.into(),
    };
    let parsed = name.parse().map_err(|_| invalid("it is no header name"))?;
    let mut value = HeaderValue::from_str(value).map_err(|_| invalid("its value is no header value"))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

fn guard(config: &RunConfig) -> GuardConfig {
    let loopback = crate::ports::bind_address(&config.host).is_ok_and(|address| address.is_loopback());
    // Bound to more than loopback on request, it is reached by the machine's addresses and its own name. Any name
    // would be one that a web page can rebind.
    let own_name = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let hosts = config.thv.proxy.allowed_hosts.iter();
    GuardConfig {
        any_address: !loopback,
        hosts: hosts.cloned().chain((!loopback).then(own_name)).collect(),
        only: inbound_hosts(config).to_vec(),
        origins: config.allowed_origins.clone(),
        ..GuardConfig::default()
    }
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

/// A limit in bytes: the configuration's, else the environment's, else the default. What cannot be a limit is refused
/// by the proxy.
fn limit(configured: i64, env: &Env, variable: &'static str, default: usize) -> usize {
    if configured != 0 {
        return usize::try_from(configured).unwrap_or(0);
    }
    let Some(text) = env.non_empty(variable) else {
        return default;
    };
    text.parse().ok().filter(|limit| *limit > 0).unwrap_or_else(|| {
        tracing::warn!(variable, "not a number of bytes above zero, the default is used");
        default
    })
}

fn request_timeout(env: &Env) -> Option<Duration> {
    let text = env.non_empty(REQUEST_TIMEOUT_ENV)?;
    let parsed = text
        .parse::<thv_core::gojson::GoDuration>()
        .ok()
        .and_then(thv_core::gojson::GoDuration::to_std);
    let valid = parsed.filter(|timeout| !timeout.is_zero());
    if valid.is_none() {
        tracing::warn!(
            variable = REQUEST_TIMEOUT_ENV,
            "not a duration above zero, the default is used"
        );
    }
    valid
}

impl Backend {
    pub(crate) fn service(&self) -> ProxyService {
        let service = match &self.server {
            Server::Stdio { bridge } => bridge.clone().into_service(),
            Server::Http { proxy } => proxy.clone().into_service(),
        };
        service.within(&self.layers)
    }

    /// Returns when the server has answered `initialize`; tries again while it cannot be reached.
    pub(crate) async fn ready(&self) -> Result<ServerInfo, ProxyError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.ready_once().await {
                Err(error) if error.is_retryable() && matches!(self.server, Server::Http { .. }) => {
                    tracing::debug!(%error, "the server is not ready yet");
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
        match &self.server {
            Server::Stdio { bridge } => bridge.initialize().await,
            Server::Http { proxy } => Box::pin(proxy.initialize(PROBE)).await,
        }
    }

    /// Whether there is something to look at again and again.
    pub(crate) fn is_http(&self) -> bool {
        matches!(self.server, Server::Http { .. })
    }

    /// Whether an HTTP server is there.
    pub(crate) async fn reachable(&self, timeout: Duration) -> Result<(), ProxyError> {
        match &self.server {
            Server::Stdio { .. } => Ok(()),
            Server::Http { proxy } => Box::pin(proxy.reachable(timeout)).await,
        }
    }

    /// Resolves when the connection to the server has ended for good, with the words for it.
    pub(crate) async fn closed(&self) -> String {
        match &self.server {
            Server::Stdio { bridge } => match bridge.closed().await {
                BridgeEnd::Unreachable { reason } => format!("the server cannot be reached: {reason}"),
                _ => "the server closed its output".into(),
            },
            Server::Http { .. } => std::future::pending().await,
        }
    }

    /// Ends the event streams of clients, so that a proxy that drains can finish.
    pub(crate) fn end_streams(&self) {
        if let Server::Stdio { bridge } = &self.server {
            bridge.end_streams();
        }
    }

    /// Closes the connection: a stdio server sees the end of its input.
    pub(crate) async fn shutdown(&self) {
        if let Server::Stdio { bridge } = &self.server {
            bridge.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_configurations_then_the_environments() {
        let env = Env::from_vars([(BODY_LIMIT_ENV, "1000"), (LINE_LIMIT_ENV, "much")]);
        for (configured, variable, expected) in [
            (0, BODY_LIMIT_ENV, 1000),
            (7, BODY_LIMIT_ENV, 7),
            (0, LINE_LIMIT_ENV, 5),
            (-1, LINE_LIMIT_ENV, 0),
        ] {
            assert_eq!(
                limit(configured, &env, variable, 5),
                expected,
                "{configured} {variable}"
            );
        }
    }

    #[test]
    fn a_limit_that_is_none_and_a_name_that_is_not_the_machines_are_refused() {
        let config = |thv: &str| {
            let text = format!(
                r#"{{"base_name": "w", "transport": "sse", "remote_url": "http://localhost:1/sse", "host": "0.0.0.0", "thv": {thv}}}"#
            );
            RunConfig::from_json(text.as_bytes()).unwrap()
        };
        let env = Env::default();
        assert!(remote(&config(r#"{"proxy": {"max_body_bytes": 100}}"#), &env).is_ok());
        assert!(remote(&config(r#"{"proxy": {"max_body_bytes": -1}}"#), &env).is_err());
        let guard = guard(&config(r#"{"proxy": {"allowed_hosts": ["proxy.internal"]}}"#));
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for (host, served) in [
            ("192.168.1.7:8080", true),
            ("localhost", true),
            ("proxy.internal", true),
            (own.as_str(), true),
            ("rebound.example", false),
        ] {
            let mut headers = http::HeaderMap::new();
            headers.insert("host", host.parse().unwrap());
            let verdict = guard.check_head(&http::Uri::from_static("/mcp"), &headers);
            assert_eq!(verdict.is_ok(), served, "{host}");
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
        assert!(remote(&far, &Env::default()).is_err(), "it is not there");
        std::fs::write(&path, "no certificate").unwrap();
        assert!(remote(&far, &Env::default()).is_err(), "it says nothing");
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
            let backend = http(&config, &Env::default(), nobody).unwrap();
            let request = http::Request::get("/mcp").body(thv_proxy::Body::empty()).unwrap();
            let answer = tower::Service::call(&mut backend.service(), request).await;
            assert_eq!(answer.unwrap().status().as_u16(), expected);
        }
    }
}
