//! What is going on, for people who wait.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use thv::manager::{Batch, BatchResult};

/// Shows `what` on a terminal while `work` takes more than a second.
pub(crate) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
    during_what(|| what.to_owned(), work).await
}

/// The same of a batch, with how far it has come.
pub(crate) async fn during_batch<T: Send + 'static>(what: &str, batch: Batch<T>) -> Vec<BatchResult<T>> {
    let (finished, names) = (batch.finished(), batch.names().to_vec());
    let said = move || told(what, *finished.borrow(), &names);
    during_what(said, batch.into_future()).await
}

/// One line, however many names there are.
fn told(what: &str, finished: usize, names: &[String]) -> String {
    match names {
        [name] => format!("{what} {name}"),
        names => format!("{what}: {finished} of {} done", names.len()),
    }
}

async fn during_what<T>(what: impl Fn() -> String, work: impl Future<Output = T>) -> T {
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
                let _ = write!(io::stderr(), "\r{frame} {} …\x1b[K", what());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_one_line_with_how_far_it_has_come() {
        let names = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(told("stopping", 0, &names[..1]), "stopping a");
        assert_eq!(told("stopping", 2, &names), "stopping: 2 of 3 done");
    }
}
