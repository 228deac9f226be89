//! The log of a detached proxy: its own standard error, rotated.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use thv::core::{Dirs, Env};
use thv::process::output;
use thv::runtime::{LogRotation, RotatingLog};
use tracing_subscriber::fmt::MakeWriter;

/// Writes events to the log of a workload's proxy.
#[derive(Debug, Clone)]
pub(crate) struct ProxyLog(Arc<Mutex<RotatingLog>>);

impl ProxyLog {
    /// The log of the proxy of `workload`, if that is where this process writes.
    pub(crate) fn of(workload: &str) -> Option<Self> {
        let env = Env::from_vars(std::env::vars_os());
        let folder = Dirs::from_env(&env).ok()?.proxy_logs();
        let path = folder.join(format!("{workload}.log"));
        if !path.is_file() {
            return None;
        }
        // Numbers that are none are an error of whoever begins the verb; that is to be read in this log.
        let rotation = LogRotation::from_env(&env).unwrap_or_default();
        let log = rotation.open(&path).ok()?;
        let ours = output::writes_to(log.file()).unwrap_or(false);
        ours.then(|| Self(Arc::new(Mutex::new(log))))
    }
}

impl Write for ProxyLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = log.generation();
        let written = log.write(bytes)?;
        if log.generation() != before {
            // What is no event goes there too: a panic's message.
            output::write_to(log.file())?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for ProxyLog {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
