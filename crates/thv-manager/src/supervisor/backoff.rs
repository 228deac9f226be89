//! When an instance that ended is tried again. Pure.

use std::time::Duration;

/// The most attempts in a row.
pub(crate) const MAX_ATTEMPTS: u32 = 10;
const FIRST_DELAY: Duration = Duration::from_secs(5);
const MAX_DELAY: Duration = Duration::from_secs(60);
/// A run of this length forgets what came before.
const STABLE: Duration = Duration::from_secs(30);

/// Five seconds doubling to sixty, ten attempts, and at once after a run that was stable.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    attempt: u32,
    delay: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self {
            attempt: 1,
            delay: FIRST_DELAY,
        }
    }

    /// How long to wait before the next attempt after a run of `ran`; `None` when it is time to give up.
    pub(crate) fn after(&mut self, ran: Duration) -> Option<Duration> {
        if ran >= STABLE {
            *self = Self::new();
            return Some(Duration::ZERO);
        }
        if self.attempt >= MAX_ATTEMPTS {
            return None;
        }
        self.attempt += 1;
        let wait = self.delay;
        self.delay = (self.delay * 2).min(MAX_DELAY);
        Some(wait)
    }

    /// Which attempt is the current one, counted from one.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_attempts_with_doubling_delays_then_none() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = std::iter::from_fn(|| backoff.after(Duration::from_secs(1)))
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60, 60, 60, 60]);
        assert_eq!(backoff.attempt(), MAX_ATTEMPTS);
    }

    #[test]
    fn a_stable_run_starts_over_at_once() {
        let mut backoff = Backoff::new();
        while backoff.after(Duration::ZERO).is_some() {}
        assert_eq!(backoff.after(Duration::from_secs(30)), Some(Duration::ZERO));
        assert_eq!(
            backoff.after(Duration::from_secs(29)),
            Some(Duration::from_secs(5))
        );
    }
}
