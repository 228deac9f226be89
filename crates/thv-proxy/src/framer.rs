//! Lines out of a byte stream, without looking at any byte twice and without keeping a line that is too long.

use bytes::{Buf, Bytes, BytesMut};

/// How much of either end of a line that is too long is kept to say whose answer it was.
const END: usize = 4096;
/// Room asked for before each read.
const READ: usize = 64 * 1024;
/// After a longer line the buffer is a new one, so that its memory is not kept for good.
const LARGE: usize = 5 << 18;

/// Cuts a stream at line feeds.
///
/// Bytes are read into [`LineFramer::space`]; [`LineFramer::next_line`] then hands out what is complete. A line longer
/// than the limit is reported with its beginning as soon as that is known; its rest is thrown away as it comes, and
/// its end is reported too.
#[derive(Debug)]
pub struct LineFramer {
    buffer: BytesMut,
    /// Bytes at the front of `buffer` that hold no line feed.
    scanned: usize,
    limit: usize,
    skipping: bool,
    /// The end of a line that was too long and whose beginning was just reported.
    tail: Option<Bytes>,
    was_large: bool,
}

/// What came out of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A line without its end.
    Line(Bytes),
    /// A line that is longer than the limit.
    TooLong {
        /// Its first bytes, 4 KiB at most.
        head: Bytes,
    },
    /// The end of the line that was reported as too long.
    Skipped {
        /// Its last bytes, 4 KiB at most.
        tail: Bytes,
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
            tail: None,
            was_large: false,
        }
    }

    /// Where the next bytes go; there is always room.
    pub fn space(&mut self) -> &mut BytesMut {
        if self.was_large && self.buffer.len() <= READ {
            self.was_large = false;
            let mut fresh = BytesMut::with_capacity(READ);
            fresh.extend_from_slice(&self.buffer);
            self.buffer = fresh;
        }
        if self.buffer.capacity() - self.buffer.len() < READ / 4 {
            // Doubling keeps the copying of a long line linear.
            self.buffer.reserve(READ.max(self.buffer.len().min(self.limit)));
        }
        &mut self.buffer
    }

    /// The next complete line, or the report of one that is too long; `None` when more bytes are needed.
    pub fn next_line(&mut self) -> Option<Frame> {
        if let Some(tail) = self.tail.take() {
            return Some(Frame::Skipped { tail });
        }
        let Some(found) = memchr::memchr(b'\n', &self.buffer[self.scanned..]) else {
            return self.unfinished();
        };
        let mut line = self.buffer.split_to(self.scanned + found + 1);
        self.scanned = 0;
        self.was_large |= line.len() > LARGE;
        line.truncate(line.len() - 1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if std::mem::take(&mut self.skipping) {
            return Some(Frame::Skipped { tail: end_of(&line) });
        }
        if line.len() > self.limit {
            self.tail = Some(end_of(&line));
            return Some(Frame::TooLong {
                head: start_of(&line),
            });
        }
        Some(Frame::Line(line.freeze()))
    }

    /// What stands in the buffer when the stream has ended: a last line that nobody ended.
    pub fn finish(&mut self) -> Option<Bytes> {
        let rest = self.buffer.split();
        self.scanned = 0;
        (!std::mem::take(&mut self.skipping) && !rest.is_empty()).then(|| rest.freeze())
    }

    fn unfinished(&mut self) -> Option<Frame> {
        if self.skipping {
            self.buffer.advance(self.buffer.len().saturating_sub(END));
            self.scanned = self.buffer.len();
            return None;
        }
        // One more than the limit: a carriage return before the line feed does not count.
        if self.buffer.len() <= self.limit.saturating_add(1) {
            self.scanned = self.buffer.len();
            return None;
        }
        let head = start_of(&self.buffer);
        self.buffer = BytesMut::from(&self.buffer[self.buffer.len().saturating_sub(END)..]);
        self.scanned = self.buffer.len();
        self.skipping = true;
        Some(Frame::TooLong { head })
    }
}

fn start_of(line: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&line[..END.min(line.len())])
}

fn end_of(line: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&line[line.len().saturating_sub(END)..])
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

    fn head(text: &'static str) -> Frame {
        Frame::TooLong { head: text.into() }
    }

    fn tail(text: &'static str) -> Frame {
        Frame::Skipped { tail: text.into() }
    }

    #[test]
    fn a_long_line_is_skipped_without_being_kept_and_the_stream_goes_on() {
        assert_eq!(
            frames(3, &[b"abcdefgh", b"ijk", b"lm\nok\n"]),
            [head("abcdefgh"), tail("abcdefghijklm"), line("ok")]
        );
        assert_eq!(
            frames(3, &[b"abcd\nabc\r\nab"]),
            [head("abcd"), tail("abcd"), line("abc"), line("ab")]
        );
        let mut framer = LineFramer::new(1000);
        for _ in 0..1000 {
            framer.space().extend_from_slice(&[b'x'; 1000]);
            while framer.next_line().is_some() {}
            assert!(framer.buffer.len() <= END);
        }
        framer.space().extend_from_slice(b"end\n");
        let Some(Frame::Skipped { tail }) = framer.next_line() else {
            panic!("no end")
        };
        assert!(tail.len() == END && tail.ends_with(b"xend"));
    }

    #[test]
    fn a_line_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
        for end in ["\n", "\r\n"] {
            assert_eq!(frames(5, &[format!("12345{end}").as_bytes()]), [line("12345")]);
            assert_eq!(
                frames(5, &[format!("123456{end}").as_bytes()]),
                [head("123456"), tail("123456")]
            );
        }
    }

    #[test]
    fn the_memory_of_a_large_line_is_not_kept() {
        let mut framer = LineFramer::new(32 << 20);
        for _ in 0..512 {
            let space = framer.space();
            space.extend_from_slice(&vec![b'x'; 64 * 1024]);
            assert_eq!(framer.next_line(), None);
        }
        framer.space().extend_from_slice(b"\nrest");
        assert!(matches!(framer.next_line(), Some(Frame::Line(line)) if line.len() == 32 << 20));
        assert!(framer.space().capacity() <= 4 * READ);
        framer.space().extend_from_slice(b"\n");
        assert_eq!(framer.next_line(), Some(line("rest")));
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
                    Frame::TooLong { .. } | Frame::Skipped { .. } => None,
                }).collect()
            };
            prop_assert_eq!(short(frames(20, &pieces)), short(frames(20, &[bytes])));
        }
    }
}
