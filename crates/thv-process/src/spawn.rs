//! What a detached process is started with.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::{ProcessError, Result};

/// A program to start in a session of its own, and everything that it inherits.
///
/// The working directory is `/` and the environment is empty unless said otherwise; a stream that is not given is
/// `/dev/null`. `Debug` shows the names of variables, never their values.
#[non_exhaustive]
pub struct DetachedSpec {
    /// The executable's absolute path.
    pub program: PathBuf,
    /// The arguments, without the program. Everybody on the machine can read them: no secrets.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory.
    pub cwd: PathBuf,
    /// Standard input, for example the child's end of a hand-over.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
    /// Whether all descendants end with the program.
    pub contained: bool,
}

impl DetachedSpec {
    /// A program without arguments, environment or streams.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            stdin: None,
            stdout: None,
            stderr: None,
            contained: false,
        }
    }

    /// Appends arguments.
    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Appends variables of the environment; of two with one name the later wins.
    pub fn env<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.env
            .extend(vars.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Sets the working directory.
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = cwd.into();
        self
    }

    /// Sets standard input.
    pub fn stdin(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.stdin = Some(fd.into());
        self
    }

    /// Sets standard output.
    pub fn stdout(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.stdout = Some(fd.into());
        self
    }

    /// Sets standard error.
    pub fn stderr(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.stderr = Some(fd.into());
        self
    }

    /// Keeps the program's descendants together, whatever they do: all end when the program has ended.
    ///
    /// The program gets a keeper, which is what [`spawn_detached`](crate::Processes::spawn_detached) refers to then.
    pub fn contained(mut self) -> Self {
        self.contained = true;
        self
    }

    /// A name to search, or a relative directory, would mean something else in the child.
    pub(crate) fn check(&self) -> Result<()> {
        if self.program.is_absolute() && self.cwd.is_absolute() {
            return Ok(());
        }
        Err(ProcessError::invalid(format!(
            "cannot start {} in {}: both must be absolute paths",
            self.program.display(),
            self.cwd.display()
        )))
    }
}

impl fmt::Debug for DetachedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("DetachedSpec")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .field("contained", &self.contained)
            .finish_non_exhaustive()
    }
}
