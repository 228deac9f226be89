//! An application that embeds the manager, as a process beside the command line.

use thv_tests::{Machine, WAIT};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::{exec, lives};

/// The application, and what it says.
pub(crate) struct Application {
    pub(crate) process: Child,
    input: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Application {
    /// Starts it, and waits until its workload is ready. The other lines that it said until then are given.
    pub(crate) async fn up(machine: &Machine, name: &str) -> (Self, Vec<String>) {
        let mut command = machine.program(env!("CARGO_BIN_EXE_embedding"));
        command.args([name, &exec()]).stdin(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::inherit());
        let mut process = command.spawn().expect("it starts");
        let input = process.stdin.take().expect("it is piped");
        let says = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let mut application = Self { process, input, says };
        let said = application.says("up").await;
        (application, said)
    }

    /// Waits until it says `line`, and gives what it said before.
    pub(crate) async fn says(&mut self, line: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let said = tokio::time::timeout(WAIT, self.says.next_line()).await;
            let said = said.unwrap_or_else(|_| panic!("it does not say {line:?}, only {before:?}"));
            match said.expect("a pipe") {
                Some(said) if said == line => return before,
                Some(said) => before.push(said),
                None => panic!("it ended before it said {line:?}, after {before:?}"),
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id().expect("it was not awaited")
    }

    /// Kills it, and waits for its end.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.expect("it ends");
    }

    /// Ends its async runtime; the process lives on.
    pub(crate) async fn close(&mut self) {
        self.input.write_all(b"close\n").await.expect("it listens");
        self.says("closed").await;
        assert!(lives(self.pid()));
    }
}
