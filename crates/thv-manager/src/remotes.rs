//! How a remote server is asked whether it is there.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use thv_proxy::{ProxyError, ReverseProxy, ServerInfo};

/// Asks remote servers whether they are there, for the proxies before them. Cancel-safe.
#[async_trait]
pub trait Remotes: Debug + Send + Sync + 'static {
    /// Asks the server at `url`, behind `proxy`, to `initialize`.
    ///
    /// # Errors
    /// As [`ReverseProxy::initialize`].
    async fn initialize(
        &self,
        url: &str,
        proxy: &ReverseProxy,
        limit: Duration,
    ) -> Result<ServerInfo, ProxyError>;

    /// Whether the server at `url`, behind `proxy`, answers at all.
    ///
    /// # Errors
    /// As [`ReverseProxy::reachable`].
    async fn reachable(&self, url: &str, proxy: &ReverseProxy, limit: Duration) -> Result<(), ProxyError>;
}

/// Asks over the network.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetworkRemotes;

#[async_trait]
impl Remotes for NetworkRemotes {
    async fn initialize(
        &self,
        _: &str,
        proxy: &ReverseProxy,
        limit: Duration,
    ) -> Result<ServerInfo, ProxyError> {
        proxy.initialize(limit).await
    }

    async fn reachable(&self, _: &str, proxy: &ReverseProxy, limit: Duration) -> Result<(), ProxyError> {
        proxy.reachable(limit).await
    }
}

/// Remote servers that are there or away as a test says, with no network between. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryRemotes(Arc<Mutex<BTreeSet<String>>>);

impl MemoryRemotes {
    /// Says whether the server at `url` is away; until then each is there.
    pub fn set_away(&self, url: &str, away: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if away {
            all.insert(url.to_owned());
        } else {
            all.remove(url);
        }
    }

    fn asked(&self, url: &str) -> Result<(), ProxyError> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains(url) {
            return Ok(());
        }
        Err(ProxyError::Unavailable {
            reason: format!("{url} is away"),
            source: None,
        })
    }
}

#[async_trait]
impl Remotes for MemoryRemotes {
    async fn initialize(&self, url: &str, _: &ReverseProxy, _: Duration) -> Result<ServerInfo, ProxyError> {
        self.asked(url).map(|()| ServerInfo::default())
    }

    async fn reachable(&self, url: &str, _: &ReverseProxy, _: Duration) -> Result<(), ProxyError> {
        self.asked(url)
    }
}
