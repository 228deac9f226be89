//! A command with a terminal, and somebody who answers.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::requirements::script;
use crate::{Machine, WAIT, thv};

/// `thv` at a terminal that `script` makes.
#[derive(Debug)]
pub struct Terminal {
    keyboard: ChildStdin,
    screen: ChildStdout,
    shown: String,
    child: Child,
}

/// Whether a command can be given a terminal; `false`: skip.
///
/// # Panics
/// When it cannot and `THV_REQUIRE` names `script`.
pub fn terminal() -> bool {
    script()
}

impl Terminal {
    /// Starts `thv` with these arguments, none of which has a quote in it, and with a password for its secrets in a file.
    ///
    /// # Panics
    /// When it does not start.
    pub fn thv<const N: usize>(machine: &Machine, password: &Path, args: [&str; N]) -> Self {
        let args = args.join("' '");
        let line = format!(
            "exec '{}' '{args}' --secrets-password-fd 3 3<'{}'",
            thv().display(),
            password.display()
        );
        let mut command = machine.program("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().expect("script starts");
        Self {
            keyboard: child.stdin.take().expect("it is piped"),
            screen: child.stdout.take().expect("it is piped"),
            shown: String::new(),
            child,
        }
    }

    /// Waits for the question, and types an answer.
    ///
    /// # Panics
    /// When it is not asked.
    pub async fn answer(&mut self, question: &str, answer: &str) {
        let asked = async {
            // What was typed before is shown with a new line behind it, so that no old question is taken for this one.
            while !self.shown.ends_with(question) {
                if !self.read().await {
                    return false;
                }
            }
            true
        };
        let asked = tokio::time::timeout(WAIT, asked).await;
        assert_eq!(asked, Ok(true), "it does not ask {question:?}: {}", self.shown);
        let typed = format!("{answer}\n");
        self.keyboard
            .write_all(typed.as_bytes())
            .await
            .expect("it is typed");
        self.keyboard.flush().await.expect("it is typed");
    }

    /// The exit code and all that was shown.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ends(mut self) -> (Option<i32>, String) {
        let ended = async {
            while self.read().await {}
            self.child.wait().await.expect("it was started").code()
        };
        let ended = tokio::time::timeout(WAIT * 2, ended).await;
        let code = ended.unwrap_or_else(|_| panic!("it does not end: {}", self.shown));
        (code, self.shown)
    }

    /// `false`: nothing more comes.
    async fn read(&mut self) -> bool {
        let mut part = [0; 4096];
        let read = self.screen.read(&mut part).await.unwrap_or(0);
        let text = String::from_utf8_lossy(&part[..read]).replace('\r', "");
        self.shown.push_str(&text);
        read > 0
    }
}
