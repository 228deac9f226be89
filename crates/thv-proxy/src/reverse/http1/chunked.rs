//! Bodies in chunks (RFC 9112, 7.1).

use bytes::Bytes;

use super::WireError;

/// Extensions and trailers of a body, which nobody reads, have so many bytes together.
const MOST_EXTRA: usize = 16 * 1024;

/// Where in a body in chunks it is.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// How many bytes of extensions and trailers there were.
    extra: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the digits of a chunk's size, of which there are so many.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the digits: nothing is wanted before the end of the line.
    Extension {
        size: u64,
    },
    /// At the end of the line.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// Behind the data: a return, then a line feed.
    DataReturn,
    DataEnd,
    /// In the lines behind the last chunk; whether this one has anything.
    Trailer {
        empty: bool,
    },
    TrailerEnd {
        empty: bool,
    },
    End,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Data(Bytes),
    /// All was used.
    More,
    End,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self {
            state: State::Size { size: 0, digits: 0 },
            extra: 0,
        }
    }

    /// How many bytes are left of the chunk that it is in.
    pub(super) fn left(&self) -> u64 {
        match self.state {
            State::Data { left } => left,
            _ => 0,
        }
    }

    /// Takes what it can from the beginning of `input`.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Step, WireError> {
        let mut used = 0;
        loop {
            if let State::Data { left } = self.state {
                let here = input.len() - used;
                let part = usize::try_from(left).map_or(here, |left| left.min(here));
                if part == 0 {
                    input.clear();
                    return Ok(Step::More);
                }
                let data = input.slice(used..used + part);
                *input = input.slice(used + part..);
                let left = left - part as u64;
                self.state = if left == 0 {
                    State::DataReturn
                } else {
                    State::Data { left }
                };
                return Ok(Step::Data(data));
            }
            if self.state == State::End {
                *input = input.slice(used..);
                return Ok(Step::End);
            }
            let Some(byte) = input.get(used) else {
                input.clear();
                return Ok(Step::More);
            };
            used += 1;
            self.state = self.after(*byte)?;
        }
    }

    fn after(&mut self, byte: u8) -> Result<State, WireError> {
        use State as S;
        Ok(match (self.state, byte) {
            (S::Size { size, digits }, byte) if byte.is_ascii_hexdigit() && digits < 16 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                S::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (S::Size { size, digits: 1.. } | S::Extension { size }, b'\r') => S::SizeEnd { size },
            (S::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => S::Extension { size },
            (S::Extension { size }, byte) if byte != b'\n' => {
                self.count()?;
                S::Extension { size }
            }
            (S::SizeEnd { size: 0 } | S::TrailerEnd { empty: false }, b'\n') => S::Trailer { empty: true },
            (S::SizeEnd { size }, b'\n') => S::Data { left: size },
            (S::DataReturn, b'\r') => S::DataEnd,
            (S::DataEnd, b'\n') => S::Size { size: 0, digits: 0 },
            (S::Trailer { empty }, b'\r') => S::TrailerEnd { empty },
            (S::Trailer { .. }, byte) if byte != b'\n' => {
                self.count()?;
                S::Trailer { empty: false }
            }
            (S::TrailerEnd { empty: true }, b'\n') => S::End,
            _ => return Err(WireError::Chunk),
        })
    }

    fn count(&mut self) -> Result<(), WireError> {
        self.extra += 1;
        if self.extra > MOST_EXTRA {
            return Err(WireError::Chunk);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All data of a body that comes in these parts; whether it has ended, and what is left then.
    fn read(parts: &[&[u8]]) -> Result<(Vec<u8>, bool, Vec<u8>), WireError> {
        let (mut chunked, mut data, mut rest) = (Chunked::new(), Vec::new(), Bytes::new());
        let mut ended = false;
        for part in parts {
            rest = [&rest, *part].concat().into();
            loop {
                match chunked.next(&mut rest)? {
                    Step::Data(bytes) => data.extend_from_slice(&bytes),
                    Step::More => break,
                    Step::End => {
                        ended = true;
                        break;
                    }
                }
            }
        }
        Ok((data, ended, rest.to_vec()))
    }

    #[test]
    fn a_body_is_its_chunks_without_what_nobody_reads() {
        let cases = [
            ("5\r\nhello\r\n0\r\n\r\n", Some(("hello", true, ""))),
            ("5\r\nhello\r\n00\r\n\r\nHTTP", Some(("hello", true, "HTTP"))),
            (
                "1\r\na\r\nA;x=\"y\"\r\nbcdefghijk\r\n0 \r\nT: v\r\nU:\r\n\r\n",
                Some(("abcdefghijk", true, "")),
            ),
            ("5\r\nhel", Some(("hel", false, ""))),
            ("0\r\n", Some(("", false, ""))),
            ("\r\n", None),
            ("5\nhello\r\n", None),
            ("5\r\nhelloX\r\n", None),
            ("5\r\nhello\n", None),
            ("-5\r\n", None),
            ("0x5\r\n", None),
            ("00000000000000005\r\nhello", None),
            ("5;a\nb\r\nhello", None),
            ("0\r\nT: v\n\r\n", None),
        ];
        for (text, expected) in cases {
            let found = read(&[text.as_bytes()]).ok();
            let expected = expected
                .map(|(data, ended, rest)| (data.as_bytes().to_vec(), ended, rest.as_bytes().to_vec()));
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn what_nobody_reads_has_its_bound() {
        let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(MOST_EXTRA));
        assert!(read(&[extension.as_bytes()]).is_ok());
        let trailers = format!("5;x\r\nhello\r\n0\r\n{}\r\n", "x: y\r\n".repeat(MOST_EXTRA / 4));
        assert!(read(&[trailers.as_bytes()]).is_err());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_body_comes(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            cuts in proptest::collection::vec(0_usize..400, 0..12),
        ) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&parts).unwrap(), (chunks.concat(), true, Vec::new()));
        }

        #[test]
        fn garbage_is_an_error_or_a_part(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[&bytes]);
        }
    }
}
