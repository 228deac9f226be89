//! What passes behind the first `endpoint` event of a stream, watched for another one.

use bytes::Bytes;

/// A line that is longer than this is not what is looked for.
const BEGINNING: usize = 16;

/// Looks at the beginning of each line. Only that is held, until it is known what the line is.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The beginning of the line that comes.
    held: Vec<u8>,
    /// What the line is, is known; its end has not come.
    in_line: bool,
    /// The last byte was a carriage return: a line feed behind it ends the same line.
    after_return: bool,
    /// There was data in the event that comes.
    has_data: bool,
}

/// What there was in a piece of a stream.
#[derive(Debug)]
pub(super) enum Watched {
    /// This can be passed on.
    Nothing(Bytes),
    /// What can be passed on, and from where an event is an endpoint.
    Endpoint { before: Bytes, event: Bytes },
    /// An event is an endpoint, whose data was passed on already.
    Late,
}

impl Watch {
    /// What is held when the stream has ended.
    pub(super) fn take_held(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }

    /// Looks at the next piece.
    pub(super) fn pass(&mut self, piece: &Bytes) -> Watched {
        // The beginning of the first line; what is passed on begins with it.
        let carried = std::mem::take(&mut self.held);
        let mut at = 0;
        loop {
            if self.in_line {
                let Some(end) = line_end(&piece[at..]) else {
                    return Watched::Nothing(behind(&carried, piece, piece.len()));
                };
                at += end;
                self.after_return = piece[at] == b'\r';
                self.in_line = false;
                at += 1;
            }
            if self.after_return && at < piece.len() {
                self.after_return = false;
                at += usize::from(piece[at] == b'\n');
            }
            let before = if at == 0 { &carried[..] } else { &[] };
            let room = (piece.len() - at).min(BEGINNING - before.len());
            let end = line_end(&piece[at..at + room]);
            let beginning = [before, &piece[at..at + end.unwrap_or(room)]].concat();
            if end.is_none() && beginning.len() < BEGINNING {
                self.held = beginning;
                let carried = if at == 0 { &[][..] } else { &carried };
                return Watched::Nothing(behind(carried, piece, at));
            }
            match &beginning[..] {
                b"event: endpoint" | b"event:endpoint" if self.has_data => return Watched::Late,
                b"event: endpoint" | b"event:endpoint" => {
                    let passed = if at == 0 { &[][..] } else { &carried };
                    return Watched::Endpoint {
                        before: behind(passed, piece, at),
                        event: behind(before, &piece.slice(at..), piece.len() - at),
                    };
                }
                b"" => self.has_data = false,
                b"data" => self.has_data = true,
                line => self.has_data |= line.starts_with(b"data:"),
            }
            at += end.unwrap_or(room);
            self.in_line = true;
        }
    }
}

fn line_end(text: &[u8]) -> Option<usize> {
    memchr::memchr2(b'\r', b'\n', text)
}

/// What was held, and behind it the beginning of a piece. Copied only where something was held.
fn behind(held: &[u8], piece: &Bytes, length: usize) -> Bytes {
    if held.is_empty() {
        return piece.slice(..length);
    }
    [held, &piece[..length]].concat().into()
}
