//! What clients come in by: one listener whose service is swapped while servers come and go.

use std::time::Duration;

use thv_proxy::{Front, ProxyService, ServeOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long open requests may take when the proxy closes.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// The proxy's listener: it answers through the current service, and says so when there is none.
#[derive(Clone)]
pub(crate) struct Door {
    front: Front,
    closing: CancellationToken,
    cut: CancellationToken,
    closed: CancellationToken,
}

impl Door {
    pub(crate) fn new(front: Front) -> Self {
        Self {
            front,
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            closed: CancellationToken::new(),
        }
    }

    /// From now on requests go to `service`.
    pub(crate) fn open(&self, service: ProxyService) {
        self.front.open(service);
    }

    /// From now on requests are answered that there is no server.
    pub(crate) fn shut(&self) {
        self.front.shut();
    }

    /// Serves on so many threads until [`close`](Self::close).
    pub(crate) async fn serve(&self, listener: TcpListener, threads: usize) {
        let options = ServeOptions {
            drain: DRAIN,
            threads,
            ..ServeOptions::default()
        };
        // Also when this future is dropped: nobody may wait for a door that is gone.
        let _closed = self.closed.clone().drop_guard();
        let service = self.front.clone().into_service();
        let serving = thv_proxy::serve(listener, service, options, self.closing.clone());
        self.cut.run_until_cancelled(serving).await;
    }

    /// Takes no more connections and returns when the open requests are done, or their time is over.
    pub(crate) async fn close(&self) {
        self.close_within(DRAIN).await;
    }

    /// The same, with less patience: what is open after `limit` is cut.
    pub(crate) async fn close_within(&self, limit: Duration) {
        self.closing.cancel();
        if limit < DRAIN
            && tokio::time::timeout(limit, self.closed.cancelled())
                .await
                .is_err()
        {
            self.cut.cancel();
        }
        self.closed.cancelled().await;
    }
}
