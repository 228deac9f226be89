//! Lines out of a byte stream, without looking at any byte twice and without keeping a line that is too long.

use bytes::{Bytes, BytesMut};

/// How much of a line that is too long is kept to say whose answer it was.
const HEAD: usize = 4096;
/// Room asked for before each read.
const READ: usize = 64 * 1024;

/// Cuts a stream at line feeds.
///
/// Bytes are read into [`LineFramer::space`]; [`LineFramer::next_line`] then hands out what is complete. A line longer
/// than the limit is reported once, with its beginning, and its rest is thrown away as it comes.
#[derive(Debug)]
pub struct LineFramer {
    buffer: BytesMut,
    /// Bytes at the front of `buffer` that hold no line feed.
    scanned: usize,
    limit: usize,
    skipping: bool,
}

/// What came out of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A line without its end.
    Line(Bytes),
    /// A line that was longer than the limit.
    TooLong {
        /// Its first bytes, 4 KiB at most.
        head: Bytes,
    },
}

impl LineFramer {
    /// A framer for lines of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            limit,
            skipping: false,
        }
    }

    /// Where the next bytes go; there is always room.
    pub fn space(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < READ / 4 {
            // Doubling keeps the copying of a long line linear.
            self.buffer.reserve(READ.max(self.buffer.len().min(self.limit)));
        }
        &mut self.buffer
    }

    /// The next complete line, or the report of one that is too long; `None` when more bytes are needed.
    pub fn next_line(&mut self) -> Option<Frame> {
        loop {
            let Some(found) = memchr::memchr(b'\n', &self.buffer[self.scanned..]) else {
                return self.unfinished();
            };
            let mut line = self.buffer.split_to(self.scanned + found + 1);
            self.scanned = 0;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            line.truncate(line.len() - 1);
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            if line.len() > self.limit {
                return Some(Frame::TooLong {
                    head: Bytes::copy_from_slice(&line[..HEAD.min(line.len())]),
                });
            }
            return Some(Frame::Line(line.freeze()));
        }
    }

    /// What stands in the buffer when the stream has ended: a last line that nobody ended.
    pub fn finish(&mut self) -> Option<Bytes> {
        let rest = self.buffer.split();
        self.scanned = 0;
        (!std::mem::take(&mut self.skipping) && !rest.is_empty()).then(|| rest.freeze())
    }

    fn unfinished(&mut self) -> Option<Frame> {
        if self.skipping {
            self.buffer.clear();
            self.scanned = 0;
            return None;
        }
        // One more than the limit: a carriage return before the line feed does not count.
        if self.buffer.len() <= self.limit.saturating_add(1) {
            self.scanned = self.buffer.len();
            return None;
        }
        let head = Bytes::copy_from_slice(&self.buffer[..HEAD.min(self.buffer.len())]);
        self.buffer = BytesMut::new();
        self.scanned = 0;
        self.skipping = true;
        Some(Frame::TooLong { head })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(limit: usize, pieces: &[&[u8]]) -> Vec<Frame> {
        let mut framer = LineFramer::new(limit);
        let mut frames = Vec::new();
        for piece in pieces {
            framer.space().extend_from_slice(piece);
            while let Some(frame) = framer.next_line() {
                frames.push(frame);
            }
        }
        frames.extend(framer.finish().map(Frame::Line));
        frames
    }

    fn line(text: &str) -> Frame {
        Frame::Line(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn lines_end_at_line_feeds_wherever_the_stream_is_cut() {
        assert_eq!(
            frames(9, &[b"a", b"b\nc\r", b"\n\nd"]),
            [line("ab"), line("c"), line(""), line("d")]
        );
    }

    #[test]
    fn a_long_line_is_skipped_without_being_kept_and_the_stream_goes_on() {
        let head = |text: &'static [u8]| Frame::TooLong {
            head: Bytes::from_static(text),
        };
        assert_eq!(
            frames(3, &[b"abcdefgh", b"ijk", b"lm\nok\n"]),
            [head(b"abcdefgh"), line("ok")]
        );
        assert_eq!(
            frames(3, &[b"abcd\nabc\r\nab"]),
            [head(b"abcd"), line("abc"), line("ab")]
        );
        let mut framer = LineFramer::new(1000);
        for _ in 0..1000 {
            framer.space().extend_from_slice(&[b'x'; 1000]);
            while framer.next_line().is_some() {}
            assert!(framer.buffer.len() <= 2000);
        }
    }

    proptest! {
        #[test]
        fn cutting_does_not_matter(text in "[ab\n\r]{0,200}", cuts in prop::collection::vec(0usize..200, 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            let short = |frames: Vec<Frame>| -> Vec<Option<Bytes>> {
                frames.into_iter().map(|frame| match frame {
                    Frame::Line(line) => Some(line),
                    Frame::TooLong { .. } => None,
                }).collect()
            };
            prop_assert_eq!(short(frames(20, &pieces)), short(frames(20, &[bytes])));
        }
    }
}
