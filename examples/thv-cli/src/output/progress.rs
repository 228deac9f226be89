//! What is going on, for people who wait.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Shows `what` on a terminal while `work` takes more than a second.
pub(crate) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if !io::stderr().is_terminal() || !super::understands_escapes() {
        return work.await;
    }
    if let Ok(done) = tokio::time::timeout(Duration::from_secs(1), &mut work).await {
        return done;
    }
    let _line = Line;
    let mut ticks = tokio::time::interval(Duration::from_millis(120));
    let mut frames = ["⠋", "⠙", "⠸", "⠴", "⠦", "⠇"].iter().cycle();
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => {
                let frame = frames.next().unwrap_or(&"");
                let _ = write!(io::stderr(), "\r{frame} {what} …\x1b[K");
            }
        }
    }
}

/// Leaves a clean line behind, also when the work is dropped.
struct Line;

impl Drop for Line {
    fn drop(&mut self) {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}
