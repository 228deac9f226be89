//! Lines out of the engine's streams: bounded, and put together again where frames split them.

use bytes::{Buf, Bytes, BytesMut};
use jiff::Timestamp;
use thv_runtime::{LogLine, LogSource};

use crate::error::EngineError;

/// A longer line is handed on in pieces of this size.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// A header of the multiplexed stream: source, three zeros, length.
pub(crate) const HEADER: usize = 8;

/// The longest timestamp that an engine writes before a line, with its space.
const MAX_STAMP: usize = 40;

/// The source of a frame in which an engine says why its stream is not the whole one.
pub(crate) const ENGINE: u8 = 3;

/// No more of an engine's words is read.
const MAX_WORDS: usize = 2000;

/// Which stream a frame belongs to, and how long it is.
pub(crate) fn frame(header: [u8; HEADER]) -> Result<(u8, usize), EngineError> {
    match header {
        [source @ 0..=ENGINE, 0, 0, 0, a, b, c, d] => Ok((source, u32::from_be_bytes([a, b, c, d]) as usize)),
        _ => Err(EngineError::Nonsense(format!(
            "{header:?} is no frame of a multiplexed stream"
        ))),
    }
}

/// Splits the multiplexed log into lines. Each frame begins with a timestamp; only its end of line ends a line.
#[derive(Debug, Default)]
pub(crate) struct LogLines {
    input: BytesMut,
    frame: Option<Frame>,
    stdout: Partial,
    stderr: Partial,
}

#[derive(Debug)]
struct Frame {
    source: LogSource,
    left: usize,
    /// The timestamp was not looked at yet.
    fresh: bool,
}

#[derive(Debug, Default)]
struct Partial {
    line: BytesMut,
    time: Option<Timestamp>,
}

impl LogLines {
    /// Takes what the engine sent.
    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        self.input.extend_from_slice(chunk);
    }

    /// The next line, if there is a whole one.
    pub(crate) fn next_line(&mut self) -> Result<Option<LogLine>, EngineError> {
        loop {
            let Some(frame) = &mut self.frame else {
                let Some(header) = self.input.first_chunk::<HEADER>() else {
                    return Ok(None);
                };
                let (source, left) = frame(*header)?;
                if source == ENGINE {
                    let Some(words) = self.input.get(HEADER..HEADER + left.min(MAX_WORDS)) else {
                        return Ok(None);
                    };
                    let words = String::from_utf8_lossy(words).trim().to_owned();
                    return Err(EngineError::BrokeOff(words));
                }
                self.input.advance(HEADER);
                let source = if source == 2 {
                    LogSource::Stderr
                } else {
                    LogSource::Stdout
                };
                self.frame = Some(Frame {
                    source,
                    left,
                    fresh: true,
                });
                continue;
            };
            let partial = match frame.source {
                LogSource::Stdout => &mut self.stdout,
                LogSource::Stderr => &mut self.stderr,
            };
            if frame.fresh {
                if self.input.len() < frame.left.min(MAX_STAMP) {
                    return Ok(None);
                }
                frame.fresh = false;
                if let Some((time, length)) = stamp(&self.input[..frame.left.min(MAX_STAMP)]) {
                    self.input.advance(length);
                    frame.left -= length;
                    partial.time.get_or_insert(time);
                }
            }
            let ready = frame.left.min(self.input.len());
            let room = MAX_LINE - partial.line.len();
            let part = &self.input[..ready.min(room)];
            let end = memchr::memchr(b'\n', part);
            let taken = end.unwrap_or(part.len());
            partial.line.extend_from_slice(&part[..taken]);
            let consumed = taken + usize::from(end.is_some());
            self.input.advance(consumed);
            frame.left -= consumed;
            let source = frame.source;
            if frame.left == 0 {
                self.frame = None;
            }
            if end.is_some() || partial.line.len() == MAX_LINE {
                return Ok(Some(partial.take(source)));
            }
            if self.frame.is_some() && self.input.is_empty() {
                return Ok(None);
            }
        }
    }

    /// What is left when the stream ended: lines without an end.
    pub(crate) fn rest(&mut self) -> Vec<LogLine> {
        self.frame = None;
        self.input.clear();
        [
            (LogSource::Stdout, &mut self.stdout),
            (LogSource::Stderr, &mut self.stderr),
        ]
        .into_iter()
        .filter(|(_, partial)| !partial.line.is_empty())
        .map(|(source, partial)| partial.take(source))
        .collect()
    }
}

impl Partial {
    fn take(&mut self, source: LogSource) -> LogLine {
        let mut line = self.line.split().freeze();
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        LogLine {
            source,
            time: self.time.take(),
            line,
        }
    }
}

fn stamp(start: &[u8]) -> Option<(Timestamp, usize)> {
    let space = memchr::memchr(b' ', start)?;
    let time = std::str::from_utf8(&start[..space]).ok()?.parse().ok()?;
    Some((time, space + 1))
}

/// Splits JSON lines.
#[derive(Debug, Default)]
pub(crate) struct JsonLines(BytesMut);

impl JsonLines {
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Result<(), EngineError> {
        if self.0.len() + chunk.len() > 16 * MAX_LINE {
            return Err(EngineError::Nonsense("a line beyond 16 MiB".to_owned()));
        }
        self.0.extend_from_slice(chunk);
        Ok(())
    }

    /// The next line that is not empty.
    pub(crate) fn next_line(&mut self) -> Option<Bytes> {
        loop {
            let end = memchr::memchr(b'\n', &self.0)?;
            let line = self.0.split_to(end + 1).freeze();
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }

    /// A last line without an end.
    pub(crate) fn rest(&mut self) -> Option<Bytes> {
        let rest = self.0.split().freeze();
        (!rest.trim_ascii().is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(source: u8, text: &[u8]) -> Vec<u8> {
        let mut frame = vec![source, 0, 0, 0];
        frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend(text);
        frame
    }

    /// The same whatever way the bytes arrive.
    fn check(stream: &[u8], expected: &[(LogSource, &str)]) {
        for chunk in [1, 3, 7, stream.len()] {
            let mut lines = LogLines::default();
            let mut seen = Vec::new();
            for part in stream.chunks(chunk) {
                lines.feed(part);
                while let Some(line) = lines.next_line().unwrap() {
                    seen.push(line);
                }
            }
            seen.extend(lines.rest());
            let seen: Vec<_> = seen
                .iter()
                .map(|l| (l.source, std::str::from_utf8(&l.line).unwrap()))
                .collect();
            assert_eq!(seen, expected, "in chunks of {chunk}");
        }
    }

    #[test]
    fn a_line_that_frames_split_is_one_line() {
        let mut stream = framed(1, b"2026-01-02T03:04:05.000000006Z hello ");
        stream.extend(framed(2, b"2026-01-02T03:04:05.1Z oops\n"));
        stream.extend(framed(1, b"2026-01-02T03:04:06Z world\r\n"));
        stream.extend(framed(1, b"2026-01-02T03:04:07Z \nno stamp here"));
        check(
            &stream,
            &[
                (LogSource::Stderr, "oops"),
                (LogSource::Stdout, "hello world"),
                (LogSource::Stdout, ""),
                (LogSource::Stdout, "no stamp here"),
            ],
        );
    }

    #[test]
    fn a_line_without_end_comes_in_bounded_pieces() {
        let mut lines = LogLines::default();
        lines.feed(&framed(1, &vec![b'x'; MAX_LINE + 5]));
        assert_eq!(lines.next_line().unwrap().unwrap().line.len(), MAX_LINE);
        assert!(lines.next_line().unwrap().is_none());
        assert_eq!(lines.rest()[0].line.len(), 5);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        let mut lines = LogLines::default();
        lines.feed(b"HTTP/1.1");
        assert!(lines.next_line().is_err());
    }

    #[test]
    fn a_line_of_json_has_an_end() {
        let mut lines = JsonLines::default();
        let chunk = vec![b'x'; MAX_LINE];
        for _ in 0..16 {
            lines.feed(&chunk).unwrap();
        }
        assert!(lines.feed(b"x").is_err());
    }

    #[test]
    fn an_engine_that_breaks_off_says_why() {
        let mut stream = framed(1, b"hello\n");
        stream.extend(framed(ENGINE, b"Error grabbing logs: log file is gone\n"));
        let mut lines = LogLines::default();
        let (most, last) = stream.split_at(stream.len() - 1);
        lines.feed(most);
        assert_eq!(lines.next_line().unwrap().unwrap().line, "hello");
        assert!(lines.next_line().unwrap().is_none());
        lines.feed(last);
        let words = lines.next_line().unwrap_err().to_string();
        assert!(
            words.ends_with("Error grabbing logs: log file is gone"),
            "{words}"
        );
        let mut lines = LogLines::default();
        lines.feed(&framed(ENGINE, &[b'x'; 9000]));
        assert!(lines.next_line().unwrap_err().to_string().len() < 2100);
    }
}
