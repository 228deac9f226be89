//! JSON-RPC lines on stdin and stdout.

use std::io::{self, BufRead as _, Write as _};
use std::sync::Arc;

use crate::protocol::{Incoming, Server};

/// Serves until stdin is closed; after that, with `ignore_eof`, until a signal.
pub(crate) fn serve(server: &Arc<Server>, ignore_eof: bool) -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let incoming = Incoming::parse(&line);
        if incoming.blocks() {
            let server = Arc::clone(server);
            std::thread::Builder::new().spawn(move || {
                // A closed stdout ends the main thread too; there is nobody to tell.
                let _ = reply(&server, incoming);
            })?;
        } else {
            reply(server, incoming)?;
        }
    }
    if !ignore_eof {
        return Ok(());
    }
    loop {
        std::thread::park();
    }
}

fn reply(server: &Server, incoming: Incoming) -> io::Result<()> {
    let notify = |message: String| {
        let _ = write_line(&message, false);
    };
    match server.handle(incoming, &notify) {
        Some(answer) => write_line(&answer, server.garbage),
        None => Ok(()),
    }
}

/// Whole lines only: the lock is held from the first byte to the flush.
fn write_line(line: &str, garbage_first: bool) -> io::Result<()> {
    let mut output = io::stdout().lock();
    if garbage_first {
        output.write_all(b"this line is not JSON\n")?;
    }
    output.write_all(line.as_bytes())?;
    output.write_all(b"\n")?;
    output.flush()
}
