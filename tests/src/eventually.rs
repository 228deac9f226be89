//! The one way to wait for what sends no event.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long to wait for what should come soon. Nothing is measured here: only a broken promise waits so long, however slow and
/// busy the machine is.
pub const WAIT: Duration = Duration::from_mins(2);

const BETWEEN: Duration = Duration::from_millis(20);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none by the deadline; `what` says what was awaited.
pub async fn eventually<T>(deadline: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        sleep(BETWEEN).await;
    }
}
