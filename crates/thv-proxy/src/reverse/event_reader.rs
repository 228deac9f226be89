//! The messages in an event stream that passes by.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::framer::{Frame, LineFramer};
use crate::jsonrpc::{self, Kind};

/// Messages up to this size are looked at whole; of longer ones the beginning and the end.
const LONGEST: usize = 1 << 20;

/// Finds the data of events in pieces of a stream.
#[derive(Debug)]
pub(crate) struct EventReader {
    framer: LineFramer,
    data: Vec<u8>,
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
            data: Vec::new(),
            found: VecDeque::new(),
        }
    }

    /// Takes the next piece of the stream.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.framer.space().extend_from_slice(piece);
        while let Some(frame) = self.framer.next_line() {
            match frame {
                Frame::Line(line) => self.line(&line),
                Frame::TooLong { head } => self.found.push_back(Data::Start(head)),
                Frame::Skipped { tail } => self.found.push_back(Data::End(tail)),
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            if !data.is_empty() {
                self.found.push_back(Data::Whole(data));
            }
        } else if let Some(text) = line.strip_prefix(b"data:") {
            if self.data.len() + text.len() > LONGEST {
                // Nobody writes a message in so many lines.
                return self.data.clear();
            }
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data
                .extend_from_slice(text.strip_prefix(b" ").unwrap_or(text));
        }
    }

    /// What the next event says.
    pub(crate) fn next_data(&mut self) -> Option<Data> {
        self.found.pop_front()
    }
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
}
