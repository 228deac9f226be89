//! What servers write.

use bytes::Bytes;
use jiff::Timestamp;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogSource {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line, without its line end. Bytes, because servers write what they want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Which stream it came from.
    pub source: LogSource,
    /// When it was written, where known.
    pub time: Option<Timestamp>,
    /// The line.
    pub line: Bytes,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Only the last so many lines of what is there; `None` is all.
    pub tail: Option<usize>,
    /// Go on with what comes.
    pub follow: bool,
    /// Leave standard output out, where the runtime can tell: of a stdio server it is its users' data.
    pub without_stdout: bool,
}
