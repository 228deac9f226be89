//! What a command left.

use std::fmt;

use serde_json::Value;

/// A finished command.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// It succeeded.
    ///
    /// # Panics
    /// When it did not; the message has all that it wrote.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// It failed as a command fails: with exit code 1.
    ///
    /// # Panics
    /// When it succeeded, or crashed.
    #[track_caller]
    pub fn failed(self) -> Self {
        assert_eq!(self.code, Some(1), "{self}");
        self
    }

    /// Standard error has each of these texts.
    ///
    /// # Panics
    /// When one is missing.
    #[track_caller]
    pub fn says<'a>(self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        for text in texts {
            assert!(
                self.stderr.contains(text),
                "no {text:?} in standard error: {self}"
            );
        }
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            code,
            stdout,
            stderr,
        } = self;
        writeln!(f, "{command}\nexit code {code:?}")?;
        writeln!(f, "--- standard output\n{stdout}\n--- standard error\n{stderr}")
    }
}
