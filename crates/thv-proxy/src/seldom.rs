//! What may happen without end, and is worth a line in the log only now and then.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long nothing is said after something was.
const QUIET: Duration = Duration::from_mins(1);

/// Counts what happens, and says when it is to be told of.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    untold: u64,
    told: Option<Instant>,
}

impl Seldom {
    /// It has happened. How often since it was told of, where that is to be done now: at first, and then once a minute at
    /// most.
    pub(crate) fn happened(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold += 1;
        let now = Instant::now();
        if state.told.is_some_and(|told| now < told + QUIET) {
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_told_at_first_and_then_once_in_a_while_with_how_often() {
        let seldom = Seldom::default();
        assert_eq!(seldom.happened(), Some(1));
        for _ in 0..10 {
            assert_eq!(seldom.happened(), None);
        }
        tokio::time::advance(QUIET).await;
        assert_eq!((seldom.happened(), seldom.happened()), (Some(11), None));
    }
}
