//! The timers of heads of requests.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// The timers of one connection: mostly a head is there long before its time is over, and the next one follows. So one that
/// is not needed any more goes on as it is, and is put right only when its moment comes.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadTimer(Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>);

struct HeadSleep {
    /// Until `until`, or a moment before.
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    until: tokio::time::Instant,
    timer: HeadTimer,
}

impl HeadTimer {
    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Pin<Box<tokio::time::Sleep>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let until = deadline.into();
        let kept = self.kept().take().filter(|kept| kept.deadline() <= until);
        Box::pin(HeadSleep {
            sleep: kept.or_else(|| Some(Box::pin(tokio::time::sleep_until(until)))),
            until,
            timer: self.clone(),
        })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

impl Future for HeadSleep {
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

impl Sleep for HeadSleep {}

impl Drop for HeadSleep {
    fn drop(&mut self) {
        *self.timer.kept() = self.sleep.take();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_used_again_ends_when_its_last_time_is_over() {
        let timer = HeadTimer::default();
        let seconds = Duration::from_secs;
        let begun = tokio::time::Instant::now();
        for _ in 0..3 {
            let mut first = timer.sleep(seconds(10));
            // It is on its way now.
            assert!(
                first
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                    .is_pending()
            );
            tokio::time::advance(seconds(8)).await;
        }
        assert!(timer.kept().is_some(), "there is one for the next");
        timer.sleep(seconds(10)).await;
        assert_eq!(begun.elapsed(), seconds(3 * 8 + 10));

        drop(timer.sleep(seconds(60)));
        timer.sleep(seconds(1)).await;
        assert_eq!(
            begun.elapsed(),
            seconds(3 * 8 + 11),
            "nor later, where the one before had longer"
        );
    }
}
