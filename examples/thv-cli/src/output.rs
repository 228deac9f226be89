//! How results are written.

pub(crate) mod error;
pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod times;

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
    io::stdout().is_terminal()
        && understands_escapes()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether the terminal takes colours and moves its cursor; a dumb one shows the escapes as text.
fn understands_escapes() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}
