//! Questions to whoever sits at the terminal.

use std::io::{self, BufRead as _, IsTerminal, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The longest answer, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// Whether a question is seen and can be answered.
pub(crate) fn has_somebody_to_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks, and gives the answer without its newline; empty when the terminal is closed. A hidden answer is not shown while
/// it is typed. Dropping the future makes the terminal what it was.
pub(crate) async fn ask(question: &str, hidden: bool) -> io::Result<String> {
    // Before the question: what is typed as soon as it is there is neither shown nor lost.
    let silence = if hidden { Some(Silence::new()?) } else { None };
    write!(io::stderr(), "{question}")?;
    io::stderr().flush()?;
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().take(MAX_ANSWER).read_line(&mut line)?;
        Ok::<_, io::Error>(line)
    });
    let line = answer.await.map_err(io::Error::other)??;
    drop(silence);
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// The terminal does not show what is typed, while this lives.
struct Silence(Termios);

impl Silence {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
