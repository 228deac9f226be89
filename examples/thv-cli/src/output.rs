//! How results are written.

pub(crate) mod error;
pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod prompt;
pub(crate) mod table;
pub(crate) mod times;

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};

/// Writes to standard output. A reader that has gone (`thv list | head -1`) is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    print_some(text.as_bytes()).map(drop)
}

/// The same of one part of many: `false` when the reader has gone and no more is worth writing.
pub(crate) fn print_some(bytes: &[u8]) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a line for people to standard error; where there is none, nobody reads it.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether standard output is a terminal that wants colours.
pub(crate) fn has_colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !refused && understands_escapes()
}

/// Whether the terminal takes colours and moves its cursor.
fn understands_escapes() -> bool {
    is_clever(std::env::var_os("TERM").as_deref())
}

/// A dumb terminal shows escapes as text.
fn is_clever(term: Option<&OsStr>) -> bool {
    term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dumb_terminal_gets_no_escapes() {
        assert!(is_clever(Some(OsStr::new("xterm-256color"))));
        for term in [None, Some(""), Some("dumb")] {
            assert!(!is_clever(term.map(OsStr::new)), "{term:?}");
        }
    }
}
