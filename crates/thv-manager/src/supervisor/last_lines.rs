//! The last lines of one life of a server, for the error that says why it ended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use thv_core::WorkloadName;
use thv_runtime::{Error, InstanceRef, LogLine, LogOptions, LogSource, Runtime};

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
    /// When the last line of the life before was written, by the clock of who dates lines.
    last: Option<Timestamp>,
}

impl Mark {
    /// The mark of a life that is about to begin. `log` is where the log of a program without an engine is.
    pub(super) async fn take(runtime: &dyn Runtime, name: &WorkloadName, log: PathBuf) -> Self {
        let which = InstanceRef::named(name.clone());
        let last = tokio::time::timeout(WAIT, tail(runtime, &which, &log, 1)).await;
        Self {
            last: last.unwrap_or_default().last().and_then(|line| line.time),
            length: length(&log).unwrap_or(0),
            log,
        }
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
    let lines = tokio::time::timeout(WAIT, tail(runtime, which, &mark.log, LINES)).await;
    of_this_life(&lines.unwrap_or_default(), mark.last, mark.written())
        .iter()
        .map(|line| cut_line(&String::from_utf8_lossy(&line.line)))
        .collect()
}

/// The last lines of the instance: the runtime's, or those of the file where it keeps none.
async fn tail(runtime: &dyn Runtime, which: &InstanceRef, log: &Path, count: usize) -> Vec<LogLine> {
    let options = LogOptions {
        tail: Some(count),
        follow: false,
        ..LogOptions::default()
    };
    match runtime.logs(which, options).await {
        Ok(lines) => lines.filter_map(async |line| line.ok()).collect().await,
        Err(Error::NotLogged { .. }) => tail_of_file(log, count).await,
        Err(_) => Vec::new(),
    }
}

async fn tail_of_file(log: &Path, count: usize) -> Vec<LogLine> {
    let line = |line| LogLine {
        source: LogSource::Stderr,
        time: None,
        line,
    };
    match thv_runtime::log_file(log, Some(count), false).await {
        Ok(lines) => lines.filter_map(async |read| read.ok().map(line)).collect().await,
        Err(_) => Vec::new(),
    }
}

/// Those at the end that were written after `last`, where they have a time, and else are among the last `written` bytes.
fn of_this_life(lines: &[LogLine], last: Option<Timestamp>, written: Option<u64>) -> &[LogLine] {
    let mut room = written.unwrap_or(u64::MAX);
    let belongs = |line: &&LogLine| {
        if let Some(time) = line.time {
            return last.is_none_or(|last| time > last);
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
    use super::*;
    use bytes::Bytes;

    fn line(text: &'static str, second: Option<i64>) -> LogLine {
        LogLine {
            source: LogSource::Stderr,
            time: second.map(|second| Timestamp::from_second(second).unwrap()),
            line: Bytes::from_static(text.as_bytes()),
        }
    }

    #[test]
    fn a_line_with_a_time_belongs_to_the_life_after_the_last_one_before() {
        let lines = [line("old", Some(1)), line("new", Some(3)), line("newer", Some(4))];
        let last = Timestamp::from_second(1).ok();
        assert_eq!(of_this_life(&lines, last, Some(0)), &lines[1..]);
        assert_eq!(
            of_this_life(&lines, None, Some(0)),
            &lines,
            "there was none before"
        );
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
        let mark = |length| Mark {
            log: log.clone(),
            length,
            last: None,
        };
        assert_eq!(mark(0).written(), None);
        std::fs::write(&log, "old\n").unwrap();
        let mark = mark(4);
        assert_eq!(mark.written(), Some(0));
        std::fs::write(&log, "x\n").unwrap();
        assert_eq!(mark.written(), None);
    }
}
