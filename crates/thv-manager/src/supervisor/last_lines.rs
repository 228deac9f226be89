//! The last lines of one life of a server, for the error that says why it ended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use thv_runtime::{InstanceRef, LogLine, LogOptions, Runtime};

use crate::launcher::cut_line;

/// How many lines an error shows.
const LINES: usize = 10;
/// How long they may take to arrive.
const WAIT: Duration = Duration::from_secs(2);

/// Where a life begins in a log that earlier lives wrote to as well.
#[derive(Debug)]
pub(super) struct Mark {
    log: PathBuf,
    length: u64,
}

impl Mark {
    /// The mark of a life that begins now. `log` is where the log of a program without an engine is.
    pub(super) fn new(log: PathBuf) -> Self {
        let length = length(&log).unwrap_or(0);
        Self { log, length }
    }

    /// How many bytes were written since; `None` when that cannot be told: there is no such file, or it is another one.
    fn written(&self) -> Option<u64> {
        length(&self.log)?.checked_sub(self.length)
    }
}

fn length(log: &Path) -> Option<u64> {
    std::fs::metadata(log).ok().map(|metadata| metadata.len())
}

/// The last lines that the instance wrote since `mark`; none when they cannot be had.
pub(super) async fn read(runtime: &dyn Runtime, which: &InstanceRef, mark: &Mark) -> Vec<String> {
    let reading = async {
        let options = LogOptions {
            tail: Some(LINES),
            follow: false,
            ..LogOptions::default()
        };
        let Ok(lines) = runtime.logs(which, options).await else {
            return Vec::new();
        };
        let lines: Vec<_> = lines.filter_map(async |line| line.ok()).collect().await;
        // By the engine's clock, as the times of its lines are.
        let started = match runtime.inspect(&which.name).await {
            Ok(Some(instance)) => instance.started,
            _ => None,
        };
        of_this_life(&lines, started, mark.written())
            .iter()
            .map(|line| cut_line(&String::from_utf8_lossy(&line.line)))
            .collect()
    };
    tokio::time::timeout(WAIT, reading).await.unwrap_or_default()
}

/// Those at the end that were written after the start, where they have a time, and else are among the last `written` bytes.
fn of_this_life(lines: &[LogLine], started: Option<Timestamp>, written: Option<u64>) -> &[LogLine] {
    let mut room = written.unwrap_or(u64::MAX);
    let belongs = |line: &&LogLine| {
        if let (Some(time), Some(started)) = (line.time, started) {
            return time >= started;
        }
        let fits = room > 0;
        room = room.saturating_sub(line.line.len() as u64 + 1);
        fits
    };
    let count = lines.iter().rev().take_while(belongs).count();
    &lines[lines.len() - count..]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use thv_runtime::LogSource;

    use super::*;

    fn line(text: &'static str, second: Option<i64>) -> LogLine {
        LogLine {
            source: LogSource::Stderr,
            time: second.map(|second| Timestamp::from_second(second).unwrap()),
            line: Bytes::from_static(text.as_bytes()),
        }
    }

    #[test]
    fn a_line_with_a_time_belongs_to_the_life_that_had_begun() {
        let lines = [line("old", Some(1)), line("new", Some(3)), line("newer", Some(4))];
        let started = Timestamp::from_second(3).ok();
        assert_eq!(of_this_life(&lines, started, Some(0)), &lines[1..]);
        assert_eq!(of_this_life(&lines, None, None), &lines);
    }

    #[test]
    fn a_line_without_a_time_belongs_to_the_life_that_wrote_its_bytes() {
        let lines = [line("boom", None), line("boom", None), line("boom", None)];
        for (written, count) in [(0, 0), (5, 1), (9, 2), (10, 2), (15, 3), (99, 3)] {
            let found = of_this_life(&lines, None, Some(written));
            assert_eq!(found.len(), count, "{written}");
        }
    }

    #[test]
    fn a_log_that_was_replaced_is_all_new() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(Mark::new(log.clone()).written(), None);
        std::fs::write(&log, "old\n").unwrap();
        let mark = Mark::new(log.clone());
        assert_eq!(mark.written(), Some(0));
        std::fs::write(&log, "x\n").unwrap();
        assert_eq!(mark.written(), None);
    }
}
