//! The messages in an event stream that passes by.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::framer::{Frame, LineFramer};
use crate::jsonrpc::{self, Kind};

/// Messages up to this size are looked at whole; of longer ones the beginning and the end.
const LONGEST: usize = 1 << 20;

/// Finds the data of events in pieces of a stream. A line ends with a carriage return, a line feed, or both.
#[derive(Debug)]
pub(crate) struct EventReader {
    framer: LineFramer,
    /// The last byte was a carriage return: a line feed behind it ends the same line.
    after_return: bool,
    /// No line has come yet.
    is_first: bool,
    /// The data of the event that comes.
    data: Option<Vec<u8>>,
    /// It is of no use: there is too much of it.
    too_long: bool,
    /// The line that is skipped is one of data.
    skips_data: bool,
    found: VecDeque<Data>,
}

/// What one event says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Data {
    Whole(Vec<u8>),
    /// One end of it.
    Start(Bytes),
    End(Bytes),
}

impl EventReader {
    pub(crate) fn new() -> Self {
        Self {
            framer: LineFramer::new(LONGEST),
            after_return: false,
            is_first: true,
            data: None,
            too_long: false,
            skips_data: false,
            found: VecDeque::new(),
        }
    }

    /// Takes the next piece of the stream.
    pub(crate) fn push(&mut self, mut piece: &[u8]) {
        while let Some(first) = piece.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                piece = &piece[1..];
                continue;
            }
            // The framer knows line feeds alone.
            let end = memchr::memchr(b'\r', piece);
            self.framer
                .space()
                .extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
            if end.is_some() {
                self.framer.space().extend_from_slice(b"\n");
                self.after_return = true;
            }
            piece = end.map_or(&[], |end| &piece[end + 1..]);
        }
        while let Some(frame) = self.framer.next_line() {
            match frame {
                Frame::Line(line) => self.line(&line),
                Frame::TooLong { head } => {
                    self.skips_data = field(self.begin(&head)).0 == b"data";
                    if self.skips_data {
                        self.too_long = true;
                        self.found.push_back(Data::Start(head));
                    }
                }
                Frame::Skipped { tail } if self.skips_data => self.found.push_back(Data::End(tail)),
                Frame::Skipped { .. } => {}
            }
        }
    }

    /// A line without the byte order mark that may stand before the first one.
    fn begin<'a>(&mut self, line: &'a [u8]) -> &'a [u8] {
        let is_first = std::mem::take(&mut self.is_first);
        let marked = is_first.then(|| line.strip_prefix(b"\xef\xbb\xbf")).flatten();
        marked.unwrap_or(line)
    }

    fn line(&mut self, line: &[u8]) {
        let line = self.begin(line);
        if line.is_empty() {
            let data = self.data.take();
            if !std::mem::take(&mut self.too_long) {
                self.found.extend(data.map(Data::Whole));
            }
            return;
        }
        let (b"data", text) = field(line) else { return };
        match &mut self.data {
            // Nobody writes a message in so many lines.
            Some(data) if data.len() + text.len() > LONGEST => {
                self.too_long = true;
                data.clear();
            }
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(text);
            }
            none => *none = Some(text.to_vec()),
        }
    }

    /// What the next event says.
    pub(crate) fn next_data(&mut self) -> Option<Data> {
        self.found.pop_front()
    }
}

/// Name and value of a line.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(at) = memchr::memchr(b':', line) else {
        return (line, b"");
    };
    let value = &line[at + 1..];
    (&line[..at], value.strip_prefix(b" ").unwrap_or(value))
}

impl Data {
    /// The ids of the requests that this answers.
    pub(crate) fn answered(&self) -> Vec<&[u8]> {
        match self {
            Self::Whole(data) => match jsonrpc::scan(data) {
                Ok(envelope) if envelope.kind() == Kind::Response => vec![envelope.id_in(data)],
                _ => Vec::new(),
            },
            Self::Start(head) => jsonrpc::ids_at_start(head),
            Self::End(tail) => jsonrpc::ids_at_end(tail),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answered(stream: &str, size: usize) -> Vec<String> {
        let mut reader = EventReader::new();
        let mut ids = Vec::new();
        for piece in stream.as_bytes().chunks(size) {
            reader.push(piece);
            while let Some(data) = reader.next_data() {
                let found = data.answered().into_iter();
                ids.extend(found.map(|id| String::from_utf8_lossy(id).into_owned()));
            }
        }
        ids
    }

    #[test]
    fn answers_are_found_wherever_the_stream_is_cut() {
        let long = "x".repeat(LONGEST);
        let stream = format!(
            "event: endpoint\ndata: /m\n\n: comment\n\ndata: {{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{}}}}\r\n\r\n\
             data: {{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}}\n\nid: 7\nevent: message\n\
             data: {{\"jsonrpc\":\"2.0\",\ndata: \"id\":\"b\",\"error\":{{\"id\":9}}}}\n\n\
             data:{{\"result\":\"{long}\",\"id\":3}}\n\ndata: {{\"id\":4,\"result\":\"{long}\"}}\n\n"
        );
        for size in [7, 1000, usize::MAX] {
            assert_eq!(answered(&stream, size), ["1", "\"b\"", "3", "4"]);
        }
    }

    #[test]
    fn what_is_too_long_to_be_read_says_whose_it_is_and_hides_nothing_behind_it() {
        let long = "x".repeat(LONGEST);
        let lines = format!("data: {}\n", "x".repeat(1000)).repeat(LONGEST / 1000);
        let stream = format!(
            ": {{\"id\":1,\"result\":\"{long}\",\"id\":2}}\n\ndata: {{\"id\":3,\"result\":\"{long}\"}}\ndata: 1\n\n\
             {lines}{lines}\ndata: {{\"jsonrpc\":\"2.0\",\"id\":4,\"result\":1}}\n\n"
        );
        for size in [1000, usize::MAX] {
            assert_eq!(answered(&stream, size), ["3", "4"]);
        }
    }

    /// The data of each event, as the standard says it, without looking at more than one byte at a time.
    fn by_the_book(stream: &[u8]) -> Vec<Vec<u8>> {
        let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
        let (mut events, mut data, mut line) = (Vec::new(), Vec::new(), Vec::new());
        for (at, &byte) in stream.iter().enumerate() {
            match byte {
                b'\n' if at > 0 && stream[at - 1] == b'\r' => {}
                b'\n' | b'\r' if line.is_empty() => {
                    // Without the line feed behind the last line.
                    if data.pop().is_some() {
                        events.push(std::mem::take(&mut data));
                    }
                }
                b'\n' | b'\r' => {
                    let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
                    let (name, value) = text.split_once(':').unwrap_or((&text, ""));
                    if name == "data" {
                        data.extend_from_slice(value.strip_prefix(' ').unwrap_or(value).as_bytes());
                        data.push(b'\n');
                    }
                }
                _ => line.push(byte),
            }
        }
        events
    }

    proptest! {
        #[test]
        fn events_are_those_of_the_standard_wherever_the_stream_is_cut(
            lines in prop::collection::vec(
                (
                    prop::sample::select(vec![
                        "", "", "", "data: a", "data:b", "data", "data:", "data:  c", "data : d", "dat", "event: e",
                        "id", ":", ": data: f", "retry: 1", "\u{feff}data: g", " data: h", "data: \u{feff}",
                    ]),
                    prop::sample::select(vec!["\n", "\r", "\r\n"]),
                ),
                0..12,
            ),
        ) {
            let stream: String = lines.into_iter().flat_map(|(line, end)| [line, end]).collect();
            let stream = stream.as_bytes();
            let expected: Vec<_> = by_the_book(stream).into_iter().map(Data::Whole).collect();
            for cut in 0..=stream.len() {
                let mut reader = EventReader::new();
                reader.push(&stream[..cut]);
                reader.push(&stream[cut..]);
                let found: Vec<_> = std::iter::from_fn(|| reader.next_data()).collect();
                prop_assert_eq!(&found, &expected, "cut at {}: {:?}", cut, stream.escape_ascii().to_string());
            }
            let mut reader = EventReader::new();
            for byte in stream {
                reader.push(&[*byte]);
            }
            let found: Vec<_> = std::iter::from_fn(|| reader.next_data()).collect();
            prop_assert_eq!(&found, &expected);
        }
    }
}
