//! Timers that mostly end before their time.
//!
//! To start one and to end it costs more than most calls do otherwise, and each that would be the first to end wakes the
//! runtime up. So one that is not needed any more goes on as it is, and is put right only when its moment comes: whoever
//! comes next takes it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// Timers of one kind. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Timers(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    most: usize,
    sleeps: Mutex<Vec<Pin<Box<Sleep>>>>,
}

/// Resolves when its time has come.
#[derive(Debug)]
pub(crate) struct Timer {
    /// Until `until`, or before: then it is put right. None once it was given back.
    sleep: Option<Pin<Box<Sleep>>>,
    until: Instant,
    timers: Timers,
}

impl Timers {
    /// So many are kept that nobody needs at the moment.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Kept {
            most,
            sleeps: Mutex::default(),
        }))
    }

    fn sleeps(&self) -> MutexGuard<'_, Vec<Pin<Box<Sleep>>>> {
        self.0.sleeps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn until(&self, until: Instant) -> Timer {
        let mut sleeps = self.sleeps();
        let fitting = sleeps.iter().rposition(|sleep| sleep.deadline() <= until);
        let kept = fitting.map(|at| sleeps.swap_remove(at));
        drop(sleeps);
        Timer {
            sleep: kept.or_else(|| Some(Box::pin(tokio::time::sleep_until(until)))),
            until,
            timers: self.clone(),
        }
    }

    /// What `future` gives, if it does so in time. Cancel-safe where `future` is.
    pub(crate) async fn timeout_at<F: Future + Unpin>(&self, until: Instant, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.until(until) => None,
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        let Some(sleep) = &mut self.sleep else {
            return Poll::Ready(());
        };
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut sleeps = self.timers.sleeps();
        if sleeps.len() < self.timers.0.most {
            sleeps.extend(self.sleep.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_used_again_ends_when_its_last_time_is_over() {
        let timers = Timers::new(1);
        let in_seconds = |seconds| timers.until(Instant::now() + Duration::from_secs(seconds));
        let begun = Instant::now();
        for _ in 0..3 {
            let mut first = in_seconds(10);
            // It is on its way now.
            let mut cx = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut first).poll(&mut cx).is_pending());
            tokio::time::advance(Duration::from_secs(8)).await;
        }
        assert_eq!(timers.sleeps().len(), 1, "there is one for the next");
        in_seconds(10).await;
        assert_eq!(begun.elapsed().as_secs(), 3 * 8 + 10);

        let mut long = in_seconds(60);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut long).poll(&mut cx).is_pending());
        drop(long);
        in_seconds(1).await;
        assert_eq!(
            begun.elapsed().as_secs(),
            3 * 8 + 11,
            "nor later, where the one before had longer"
        );
        drop((in_seconds(1), in_seconds(2)));
        assert_eq!(timers.sleeps().len(), 1, "and no more than that are kept");

        let until = Instant::now() + Duration::from_secs(5);
        assert_eq!(timers.timeout_at(until, pending::<()>()).await, None);
        assert_eq!(Instant::now(), until);
    }
}
