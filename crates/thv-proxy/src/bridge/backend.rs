//! The server's end: a pair of byte streams, and a way to ask for a new pair.

use std::fmt;
use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// The server's standard output and input.
pub struct BackendIo {
    /// What the server writes.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What the server reads.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl BackendIo {
    /// A pair of separate streams, such as a child's stdout and stdin.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            reader: Box::new(reader),
            writer: Box::new(writer),
        }
    }
}

impl fmt::Debug for BackendIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendIo").finish_non_exhaustive()
    }
}

/// Gives a new pair after the last one ended. It is implemented under [`async_trait`](crate::async_trait).
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Attaches to the server once more. `Ok(None)`: it does not run any more, do not ask again. An error is retried
    /// with a growing pause. May be dropped at any await point.
    async fn attach(&self) -> io::Result<Option<BackendIo>>;
}

/// The [`Backend`] of a server that is not attached to twice: when its streams end, the bridge ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Once;

#[async_trait]
impl Backend for Once {
    async fn attach(&self) -> io::Result<Option<BackendIo>> {
        Ok(None)
    }
}
