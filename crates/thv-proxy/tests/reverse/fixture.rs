//! Programs of the tests: servers, the proxy before them, and a client.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, Method, Uri};
use thv_proxy::{Layer, ReverseProxy, ReverseProxyConfig, ServeOptions, serve};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

pub struct Running {
    pub address: SocketAddr,
    _stop: DropGuard,
}

impl Running {
    pub async fn new(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let options = ServeOptions {
            drain: Duration::ZERO,
            ..ServeOptions::default()
        };
        tokio::spawn(serve(listener, router, options, stop.clone()));
        Self {
            address,
            _stop: stop.drop_guard(),
        }
    }

    pub fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }
}

pub async fn proxy(target: Url, config: ReverseProxyConfig) -> Running {
    Running::new(ReverseProxy::new(target, config).unwrap().into_router()).await
}

/// What is not answered, or not to its end, fails after a minute.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(60))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// Tells what it was asked.
pub async fn mirror(method: Method, uri: Uri, headers: HeaderMap, body: String) -> String {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    format!("{method} {uri}\n{}\n\n{body}", lines.join("\n"))
}

pub fn setting(name: &'static str) -> Layer {
    Layer::headers(vec![(name.parse().unwrap(), "k".parse().unwrap())]).unwrap()
}
