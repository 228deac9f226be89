//! What is going on, for people who wait.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thv::manager::{Batch, BatchResult, PullState, PullWatcher};

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

/// What is told of a pull: in the line of a terminal, elsewhere in lines of their own.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    /// When the last line was written, and of which image.
    last: Mutex<Option<(Instant, String)>>,
}

/// In the line of a terminal: the pull under way.
static PULLING: Mutex<Option<String>> = Mutex::new(None);

/// The least time between two lines about one pull.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

impl PullWatcher for Pulls {
    fn pulling(&self, image: &str, state: &PullState) {
        if shows_a_line() {
            *lock(&PULLING) = (!state.done).then(|| pull_told(image, state));
            return;
        }
        let mut last = lock(&self.last);
        let begun = last.as_ref().is_some_and(|(_, of)| of == image);
        let line = match &*last {
            _ if state.done => {
                *last = None;
                format!("pulled {image}")
            }
            Some((at, _)) if begun && at.elapsed() < BETWEEN_LINES => return,
            _ => {
                *last = Some((Instant::now(), image.to_owned()));
                pull_told(image, state)
            }
        };
        drop(last);
        // Nobody may be reading.
        super::note(&line);
    }
}

/// As much as is known.
fn pull_told(image: &str, state: &PullState) -> String {
    let mut text = format!("pulling {image}");
    let mut between = ": ";
    if state.layers > 0 {
        let (done, layers) = (state.layers_done, state.layers);
        let _ = write!(text, "{between}{done} of {layers} layers");
        between = ", ";
    }
    if state.bytes_total > 0 {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let (done, total) = (mib(state.bytes), mib(state.bytes_total));
        let _ = write!(text, "{between}{done} of {total} MiB");
    }
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shows_a_line() -> bool {
    io::stderr().is_terminal() && super::understands_escapes()
}

async fn during_what<T>(what: impl Fn() -> String, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if !shows_a_line() {
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
                let shown = super::without_controls(&lock(&PULLING).clone().unwrap_or_else(&what));
                let _ = write!(io::stderr(), "\r{frame} {shown} …\x1b[K");
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
    fn a_pull_is_told_as_far_as_it_is_known() {
        let mut state = PullState::default();
        assert_eq!(pull_told("a:1", &state), "pulling a:1");
        (state.layers, state.layers_done) = (5, 2);
        assert_eq!(pull_told("a:1", &state), "pulling a:1: 2 of 5 layers");
        (state.bytes, state.bytes_total) = (3 << 20, (40 << 20) + 1);
        let all = "pulling a:1: 2 of 5 layers, 3 of 41 MiB";
        assert_eq!(pull_told("a:1", &state), all);
    }

    #[test]
    fn a_batch_is_one_line_with_how_far_it_has_come() {
        let names = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(told("stopping", 0, &names[..1]), "stopping a");
        assert_eq!(told("stopping", 2, &names), "stopping: 2 of 3 done");
    }
}
