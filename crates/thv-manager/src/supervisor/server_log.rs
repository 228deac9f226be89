//! The log of a server whose standard error nobody keeps but who is attached to it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thv_files::atomic;
use thv_runtime::{BlockLog, LogRotation, RotatingLog};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

/// How much is written at once.
const BLOCK: usize = 8 << 10;
/// How long the last words of a server that ended may take to arrive.
const WAIT: Duration = Duration::from_secs(2);

/// Who writes down what the server says, as long as there is a supervisor that it belongs to.
#[derive(Debug, Default)]
pub(super) struct ServerLog(Mutex<Option<AbortOnDropHandle<()>>>);

impl ServerLog {
    /// Writes down what comes, until the server has ended. The file is there from now on. What cannot be written is lost, and
    /// keeps the server from nothing.
    pub(super) async fn listen(
        &self,
        from: Box<dyn AsyncRead + Send + Unpin>,
        path: PathBuf,
        rotation: LogRotation,
    ) {
        let opened = tokio::task::spawn_blocking(move || open(&path, rotation)).await;
        let log = match opened.unwrap_or_else(|ended| Err(io::Error::other(ended))) {
            Ok(log) => Some(log),
            Err(error) => {
                tracing::warn!(%error, "the server's log cannot be written");
                None
            }
        };
        *self.0.lock().await = Some(AbortOnDropHandle::new(tokio::spawn(write(from, log))));
    }

    /// Returns when all was written that a server said that has ended; of one that has not, after a while.
    pub(super) async fn heard(&self) {
        let mut listening = self.0.lock().await;
        if let Some(task) = &mut *listening
            && tokio::time::timeout(WAIT, task).await.is_ok()
        {
            *listening = None;
        }
    }
}

fn open(path: &Path, rotation: LogRotation) -> io::Result<RotatingLog> {
    let folder = path.parent().unwrap_or(path);
    atomic::create_folder(folder, 0o700)?;
    rotation.open(path)
}

async fn write(mut from: Box<dyn AsyncRead + Send + Unpin>, log: Option<RotatingLog>) {
    let mut log = BlockLog::new(log, BLOCK);
    loop {
        match from.read(log.space()).await {
            Ok(0) => return,
            Ok(length) => {
                if let Some(error) = log.write(length).await {
                    tracing::warn!(%error, "what the server says is lost");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the server's log ends");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_a_server_says_is_in_its_log_when_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs").join("fetch.log");
        let (mut server, from) = tokio::io::duplex(64);
        let log = ServerLog::default();
        log.listen(Box::new(from), path.clone(), LogRotation::default())
            .await;
        assert!(path.exists(), "so that it can be followed");
        for line in 0..1000 {
            server
                .write_all(format!("line {line}\n").as_bytes())
                .await
                .unwrap();
        }
        drop(server);
        log.heard().await;
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1000);
        assert!(text.ends_with("line 999\n"));
        log.heard().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_goes_on_is_not_waited_for_without_end_and_a_log_that_cannot_be_written_stops_nothing()
     {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("logs"), "in the way").unwrap();
        let path = folder.path().join("logs").join("fetch.log");
        let (mut server, from) = tokio::io::duplex(64);
        let log = ServerLog::default();
        log.listen(Box::new(from), path, LogRotation::default()).await;
        server.write_all(&[b'x'; 1000]).await.unwrap();
        log.heard().await;
        server.write_all(&[b'x'; 1000]).await.unwrap();
        drop(server);
        log.heard().await;
        assert!(log.0.lock().await.is_none(), "it is over");
    }

    #[tokio::test]
    async fn nobody_writes_on_when_the_supervisor_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs").join("fetch.log");
        let (mut server, from) = tokio::io::duplex(64);
        let log = ServerLog::default();
        log.listen(Box::new(from), path, LogRotation::default()).await;
        drop(log);
        let refused = async { while server.write_all(b"x").await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(30), refused)
            .await
            .expect("nobody reads");
    }
}
