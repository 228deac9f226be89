//! Servers that are scripts.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use thv_core::WorkloadName;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::state::LogBuffer;

/// What a scripted server gets: its streams, and what it was deployed with.
pub struct MemoryServer {
    /// The workload.
    pub name: WorkloadName,
    /// The image.
    pub image: String,
    /// The arguments.
    pub command: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Standard input; ends when the attachment is dropped or the instance is stopped.
    pub stdin: BufReader<DuplexStream>,
    /// Standard output.
    pub stdout: DuplexStream,
    /// Cancelled when the server is asked to end, as by SIGTERM. A script that does not look is killed after the
    /// grace.
    pub term: CancellationToken,
    pub(super) logs: Arc<LogBuffer>,
}

impl MemoryServer {
    /// Writes a line to standard error.
    pub fn log(&self, line: impl Into<String>) {
        self.logs.push(line.into());
    }

    /// The next line of standard input, without its end; `None` at its end.
    pub async fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stdin.read_line(&mut line).await {
            Ok(1..) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
            _ => None,
        }
    }

    /// Writes a line to standard output. Nobody reading any more is not the script's business.
    pub async fn write_line(&mut self, line: &str) {
        let _gone = self.stdout.write_all(format!("{line}\n").as_bytes()).await;
    }
}

impl fmt::Debug for MemoryServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryServer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

type ServerFuture = Pin<Box<dyn Future<Output = i64> + Send>>;

#[derive(Clone)]
pub(super) struct Script(Arc<dyn Fn(MemoryServer) -> ServerFuture + Send + Sync>);

impl Script {
    pub(super) fn new<F, Fut>(server: F) -> Self
    where
        F: Fn(MemoryServer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = i64> + Send + 'static,
    {
        Self(Arc::new(move |io| Box::pin(server(io))))
    }

    /// Sends each line back until the end of input or a request to end.
    pub(super) fn echo() -> Self {
        Self::new(|mut server| async move {
            let term = server.term.clone();
            loop {
                tokio::select! {
                    biased;
                    () = term.cancelled() => return 143,
                    line = server.next_line() => match line {
                        Some(line) => server.write_line(&line).await,
                        None => return 0,
                    },
                }
            }
        })
    }

    pub(super) fn start(&self, server: MemoryServer) -> ServerFuture {
        (self.0)(server)
    }
}
