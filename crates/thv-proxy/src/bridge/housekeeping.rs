//! What has to be done when clients are gone.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use thv_core::ProxyMode;
use tokio::sync::Notify;

use super::calls::CallError;
use super::core::{Ask, Core};
use super::sessions::Session;
use crate::jsonrpc;

/// URIs that may wait for the server to be told.
const MOST_ORPHANS: usize = 4096;
/// How often it is looked for sessions that nobody uses, at least and at most.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

impl Core {
    /// A new session; none when there are too many.
    pub(super) fn open_session(&self) -> Option<Arc<Session>> {
        let opened = self.sessions.open()?;
        if !opened.gone.is_empty() {
            self.forget(opened.gone);
            self.orphaned.notify_one();
        }
        Some(opened.session)
    }

    /// The end of a session.
    pub(super) fn close_session(&self, key: u128) {
        self.sessions.close(key);
        self.forget([key]);
        self.orphaned.notify_one();
    }

    /// What sessions that are gone have left.
    pub(super) fn forget(&self, sessions: impl IntoIterator<Item = u128>) {
        for session in sessions {
            let orphans = self.subscriptions.leave_all(session);
            self.orphan(orphans);
            self.server_tasks.leave(session);
            self.client_gone(session);
        }
    }

    /// The server is to be told that nobody listens to these any more.
    pub(super) fn orphan(&self, uris: impl IntoIterator<Item = Arc<str>>) {
        let mut orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST_ORPHANS.saturating_sub(orphans.len());
        let before = orphans.len();
        orphans.extend(uris.into_iter().take(room));
        if orphans.len() > before {
            self.orphaned.notify_one();
        }
    }

    fn next_orphan(&self) -> Option<Arc<str>> {
        let mut orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        orphans.pop()
    }
}

/// Tells whoever keeps the sessions when a stream ends.
pub(super) struct Departure(Arc<Core>);

impl Departure {
    pub(super) fn of(core: &Arc<Core>) -> Self {
        Self(Arc::clone(core))
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.0.orphaned.notify_one();
    }
}

/// Looks after the sessions of a bridge until it ends. A server that does not answer what it is told because of one that is
/// gone keeps nobody from noticing the next.
pub(super) async fn keep(core: Arc<Core>) {
    let (stop, left) = (core.stop.clone(), Notify::new());
    let both = async { tokio::join!(sweep(&core, &left), tell(&core, &left)) };
    stop.run_until_cancelled(both).await;
}

/// Forgets who is gone.
async fn sweep(core: &Core, left: &Notify) {
    let pause = (core.config.session_ttl / 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    loop {
        let _ = tokio::time::timeout(pause, core.orphaned.notified()).await;
        core.forget(core.sessions.sweep());
        if core.config.mode == ProxyMode::Sse {
            core.forget(core.sessions.without_stream());
        }
        left.notify_one();
    }
}

/// Tells the server what nobody wants any more.
async fn tell(core: &Arc<Core>, left: &Notify) {
    loop {
        left.notified().await;
        if let Err(error) = core.adjust_level().await {
            tracing::debug!(?error, "the server was not told what to log");
        }
        while let Some(uri) = core.next_orphan() {
            // Somebody may want it again.
            if !core.subscriptions.is_wanted(&uri)
                && let Err(error) = unsubscribe(core, &uri).await
            {
                tracing::debug!(?error, "the server was not told that nobody listens");
            }
        }
    }
}

async fn unsubscribe(core: &Arc<Core>, uri: &str) -> Result<(), CallError> {
    core.ask_about("resources/unsubscribe", uri).await
}

impl Core {
    /// A request of the proxy itself about one resource.
    pub(super) async fn ask_about(self: &Arc<Self>, method: &str, uri: &str) -> Result<(), CallError> {
        let uri = jsonrpc::quoted(uri);
        let message = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"{method}","params":{{"uri":{uri}}}}}"#);
        let mut call = self.begin(Ask::own(message.into())?).await?;
        call.reply().await.map(drop)
    }
}
