//! A bridge without HTTP around it, and its server, which the test plays: everything is in memory.

use std::sync::Arc;

use thv_proxy::{Backend, BackendIo, BridgeConfig, ProxyService, StdioBridge};

use super::{Wire, wire};

pub struct Played {
    pub bridge: StdioBridge,
    pub service: ProxyService,
    pub wire: Wire,
}

impl Played {
    /// A bridge whose server has answered `initialize`.
    pub async fn new(config: BridgeConfig) -> Self {
        Self::start(config, StdioBridge::new).await
    }

    /// As [`new`](Self::new); `backend` is asked for the next server when this one ends.
    pub async fn with_backend(backend: Arc<dyn Backend>, config: BridgeConfig) -> Self {
        Self::start(config, |io, config| {
            StdioBridge::with_backend(io, backend, config)
        })
        .await
    }

    async fn start(
        config: BridgeConfig,
        make: impl FnOnce(BackendIo, BridgeConfig) -> Result<StdioBridge, thv_proxy::ProxyError>,
    ) -> Self {
        let (io, mut wire) = wire();
        let bridge = make(io, config).unwrap();
        let (ready, ()) = tokio::join!(bridge.initialize(), wire.handshake());
        ready.unwrap();
        Self {
            service: bridge.clone().into_service(),
            bridge,
            wire,
        }
    }
}
