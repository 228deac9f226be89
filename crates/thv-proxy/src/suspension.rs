//! A server that lives and can do nothing for a while, which only who runs it knows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Whether a server stands still, and why.
#[derive(Debug, Default)]
pub(crate) struct Suspension {
    state: RwLock<State>,
    /// Whether there is a reason: each call asks.
    stands: AtomicBool,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    reasons: Vec<Arc<str>>,
    /// Since when there is a reason.
    since: Option<Instant>,
    /// How long it has stood still before.
    stood: Duration,
}

/// As long as this is kept the server counts as standing still: calls fail at once with the reason.
#[derive(Debug)]
#[must_use = "dropped, the server counts as working again"]
pub struct Suspended {
    of: Arc<Suspension>,
    reason: Arc<str>,
}

impl Suspension {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// It stands still from now on, for this reason; there may be others.
    pub(crate) fn begin(self: &Arc<Self>, reason: &str) -> Suspended {
        let reason = Arc::<str>::from(reason);
        {
            let mut state = self.write();
            state.reasons.push(Arc::clone(&reason));
            state.since.get_or_insert_with(Instant::now);
            self.stands.store(true, Ordering::Release);
        }
        self.changed.notify_waiters();
        Suspended {
            of: Arc::clone(self),
            reason,
        }
    }

    /// Why it stands still, if it does.
    pub(crate) fn reason(&self) -> Option<Arc<str>> {
        if !self.stands.load(Ordering::Acquire) {
            return None;
        }
        self.read().reasons.first().cloned()
    }

    /// Comes when it stands still, with the reason; at once where it does. Cancel-safe.
    pub(crate) async fn begun(&self) -> Arc<str> {
        loop {
            let changed = self.changed.notified();
            if let Some(reason) = self.reason() {
                return reason;
            }
            changed.await;
        }
    }

    /// Comes when it does not stand still. Cancel-safe.
    pub(crate) async fn ended(&self) {
        loop {
            let changed = self.changed.notified();
            if self.reason().is_none() {
                return;
            }
            changed.await;
        }
    }

    /// Now, by a clock that stands still when the server does: how long it has had for something.
    pub(crate) fn servers_now(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.stood()).unwrap_or(now)
    }

    /// How long it has stood still in all.
    pub(crate) fn stood(&self) -> Duration {
        let state = self.read();
        state.stood + state.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        let mut state = self.of.write();
        state.reasons.retain(|reason| !Arc::ptr_eq(reason, &self.reason));
        if state.reasons.is_empty()
            && let Some(since) = state.since.take()
        {
            state.stood += since.elapsed();
            self.of.stands.store(false, Ordering::Release);
        }
        drop(state);
        self.of.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_stands_still_as_long_as_there_is_a_reason_and_so_does_its_clock() {
        let suspension = Arc::new(Suspension::default());
        let (begun, second) = (suspension.servers_now(), Duration::from_secs(1));
        assert_eq!(suspension.reason(), None);
        tokio::time::advance(second).await;
        let paused = suspension.begin("paused");
        let away = suspension.begin("away");
        assert_eq!(&*suspension.begun().await, "paused");
        tokio::time::advance(60 * second).await;
        assert_eq!(suspension.servers_now() - begun, second);
        drop(paused);
        assert_eq!(suspension.reason().as_deref(), Some("away"));
        tokio::time::advance(60 * second).await;
        drop(away);
        assert_eq!(suspension.reason(), None);
        tokio::time::advance(second).await;
        assert_eq!(suspension.servers_now() - begun, 2 * second);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_of_it() {
        let suspension = Arc::new(Suspension::default());
        let waiting = suspension.begun();
        let beginning = async {
            tokio::task::yield_now().await;
            suspension.begin("paused")
        };
        let both = async { tokio::join!(waiting, beginning) };
        let (reason, _held) = tokio::time::timeout(Duration::from_secs(1), both).await.unwrap();
        assert_eq!(&*reason, "paused");
    }
}
