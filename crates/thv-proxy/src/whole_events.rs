//! An event stream, cut where its events end.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

/// A server that is to be read is asked for this.
pub(crate) const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
/// Stands before the text of some.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Takes a stream as it comes, and gives it back event by event. Who uses it looks at [`held`](Self::held), which has no
/// bound of its own.
#[derive(Debug)]
pub(crate) struct WholeEvents {
    bytes: BytesMut,
    /// Up to here no event ends.
    searched: usize,
    /// No event has been taken yet.
    is_first: bool,
}

impl WholeEvents {
    pub(crate) fn new() -> Self {
        Self {
            bytes: BytesMut::new(),
            searched: 0,
            is_first: true,
        }
    }

    /// Takes the next piece of the stream.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// How many bytes are not yet taken.
    pub(crate) fn held(&self) -> usize {
        self.bytes.len()
    }

    /// What is not yet taken, which need not be whole events.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        self.searched = 0;
        self.bytes.split().freeze()
    }

    /// Takes the next whole event, its blank line included. A line ends with a carriage return, a line feed or both, each
    /// alike and mixed: what a client takes for two events must not pass as one.
    pub(crate) fn next_event(&mut self) -> Option<Bytes> {
        let from = self.searched.saturating_sub(1);
        let text = &self.bytes[from..];
        let ends = [&b"\n\n"[..], b"\n\r", b"\r\r"];
        let end = ends
            .iter()
            .filter_map(|end| memchr::memmem::find(text, end).map(|at| from + at + end.len()))
            .min();
        self.searched = self.bytes.len();
        let mut end = end?;
        if self.bytes[end - 1] == b'\r' && self.bytes.get(end) == Some(&b'\n') {
            end += 1;
        }
        let mut event = self.bytes.split_to(end);
        self.searched = 0;
        // Clients skip one, and then the first line is another than it seems: they go, however many there are.
        if std::mem::take(&mut self.is_first) {
            while event.starts_with(BYTE_ORDER_MARK) {
                event.advance(BYTE_ORDER_MARK.len());
            }
        }
        Some(event.freeze())
    }
}

/// Whether a client could take what comes for an event stream: clients differ in how they read the type.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    has_type(headers, b"text/event-stream")
}

/// Whether one of the types that the headers name is `kind`, however it is written.
fn has_type(headers: &HeaderMap, kind: &[u8]) -> bool {
    let mut named = headers.get_all(CONTENT_TYPE).iter();
    named.any(|value| {
        let begin = value.as_bytes().get(..kind.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(kind))
    })
}

/// Whether what comes is compressed, or coded in another way: nothing of it can be looked at.
pub(crate) fn is_coded(headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(CONTENT_ENCODING).iter();
    named.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The lines of an event, empty ones among them, however they end.
pub(crate) fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    event.split(|byte| matches!(byte, b'\n' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: &[u8], size: usize) -> Vec<Vec<u8>> {
        let mut held = WholeEvents::new();
        let mut all = Vec::new();
        for piece in stream.chunks(size) {
            held.push(piece);
            while let Some(event) = held.next_event() {
                all.push(event.to_vec());
            }
        }
        all
    }

    #[test]
    fn an_event_ends_at_a_blank_line_however_lines_end() {
        for first in ["\n", "\r", "\r\n"] {
            for second in ["\n", "\r", "\r\n"] {
                if (first, second) == ("\r", "\n") {
                    continue; // That is one line's end.
                }
                let stream = format!("data: 1{first}{second}data: 2{first}{second}");
                let found = events(stream.as_bytes(), stream.len());
                assert_eq!(found.len(), 2, "{stream:?}: {found:?}");
                for size in [1, 2, 3] {
                    let found = events(stream.as_bytes(), size);
                    let data = |event: &[u8]| String::from_utf8_lossy(event).trim().to_owned();
                    let found: Vec<_> = found
                        .iter()
                        .map(|event| data(event))
                        .filter(|it| !it.is_empty())
                        .collect();
                    assert_eq!(found, ["data: 1", "data: 2"], "{stream:?} in pieces of {size}");
                }
            }
        }
    }

    #[test]
    fn a_byte_order_mark_hides_nothing() {
        let stream = b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\n\xef\xbb\xbfdata: 2\n\n";
        for size in [1, 2, stream.len()] {
            let expected = [&b"data: 1\n\n"[..], b"\xef\xbb\xbfdata: 2\n\n"];
            assert_eq!(events(stream, size), expected);
        }
    }
}
