use thv_proxy::{Frame, LineFramer};

const LIMIT: usize = 40;

/// A stream of lines, cut into pieces in different ways: the same lines come out, none above the limit, none of them with a
/// line feed, and in one piece with what a plain split gives.
///
/// # Panics
/// When it is otherwise.
pub fn lines(bytes: &[u8]) {
    let whole = frames(bytes, bytes.len().max(1));
    for size in [1, 3, 16] {
        assert_eq!(frames(bytes, size), whole, "in pieces of {size}");
    }
    let mut plain = bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    for frame in whole {
        let Some(expected) = plain.next() else {
            panic!("more lines than there are");
        };
        match frame {
            Some(line) => assert_eq!(line, expected),
            None => assert!(expected.len() > LIMIT, "{expected:?} is not too long"),
        }
    }
}

/// The lines; none for one that is too long.
fn frames(bytes: &[u8], size: usize) -> Vec<Option<Vec<u8>>> {
    let mut framer = LineFramer::new(LIMIT);
    let mut out = Vec::new();
    for piece in bytes.chunks(size) {
        framer.space().extend_from_slice(piece);
        while let Some(frame) = framer.next_line() {
            match frame {
                Frame::Line(line) => {
                    assert!(line.len() <= LIMIT && !line.contains(&b'\n'), "{line:?}");
                    out.push(Some(line.to_vec()));
                }
                Frame::TooLong { head } => {
                    assert!(!head.is_empty(), "it has a beginning");
                    out.push(None);
                }
                Frame::Skipped { .. } => assert_eq!(out.last(), Some(&None), "the end of what was too long"),
            }
        }
    }
    out
}
