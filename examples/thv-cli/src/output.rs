//! How results are written.

pub(crate) mod error;
mod hints;
pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod prompt;
pub(crate) mod proxy_log;
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
    unless_nobody_reads(out.write_all(bytes).and_then(|()| out.flush()))
}

/// `false` when the reader has gone, which is no error.
pub(crate) fn unless_nobody_reads(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a line for people to standard error; where there is none, nobody reads it. What it tells may be somebody else's
/// words: none of them speaks to the terminal.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", without_controls(text));
}

/// A text with its control characters escaped, but for those that lay it out.
pub(crate) fn without_controls(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut shown, c| {
            if speaks_to_terminals(c) && !matches!(c, '\t' | '\n') {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
            shown
        })
}

/// Whether a terminal obeys it instead of showing it: a control character, or one that turns the order of its neighbours.
fn speaks_to_terminals(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A character of a foreign text as it is shown: with a space in place of what a terminal obeys.
pub(crate) fn shown(c: char) -> char {
    if speaks_to_terminals(c) { ' ' } else { c }
}

/// Whether standard output is a terminal that wants colours.
pub(crate) fn has_colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !refused && understands_escapes()
}

/// A line of a foreign text with its end, as it is shown: on a terminal without characters that would speak to it.
pub(crate) fn foreign_line(line: &[u8], terminal: bool) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut shown = if terminal {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        without_controls(&String::from_utf8_lossy(line)).into_bytes()
    } else {
        line.to_vec()
    };
    shown.push(b'\n');
    shown
}

/// Whether standard output is a terminal.
pub(crate) fn is_on_terminal() -> bool {
    io::stdout().is_terminal()
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
    fn a_log_cannot_speak_to_the_terminal_and_is_whole_for_programs() {
        let line = b"a\x1b]0;title\x07 \tb\xff \xc2\x9bz\r";
        assert_eq!(
            String::from_utf8(foreign_line(line, true)).unwrap(),
            "a\\u{1b}]0;title\\u{7} \tb\u{fffd} \\u{9b}z\n"
        );
        let whole = [line.as_slice(), b"\n"].concat();
        assert_eq!(foreign_line(line, false), whole);
        assert_eq!(foreign_line(&whole, false), whole);
    }

    #[test]
    fn a_note_cannot_speak_to_the_terminal() {
        let said = "Error: a\x1b[2J\r: \"b\"\n  its last lines:\tc\u{9b}";
        let shown = "Error: a\\u{1b}[2J\\r: \"b\"\n  its last lines:\tc\\u{9b}";
        assert_eq!(without_controls(said), shown);
    }

    #[test]
    fn a_note_is_read_in_the_order_in_which_it_is_written() {
        assert_eq!(without_controls("a\u{202e}b\u{2066}c"), "a\\u{202e}b\\u{2066}c");
        assert_eq!(without_controls("日本 é \u{200d}"), "日本 é \u{200d}");
    }

    #[test]
    fn a_dumb_terminal_gets_no_escapes() {
        assert!(is_clever(Some(OsStr::new("xterm-256color"))));
        for term in [None, Some(""), Some("dumb")] {
            assert!(!is_clever(term.map(OsStr::new)), "{term:?}");
        }
    }
}
