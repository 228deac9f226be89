//! What a server that failed wrote, kept after its instance is removed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use thv_files::atomic;
use thv_runtime::{InstanceRef, LogOptions, Runtime};

/// How many lines are kept, and how many bytes of them.
const LINES: usize = 1000;
const BYTES: usize = 256 * 1024;
/// How long the lines may take to arrive.
const WAIT: Duration = Duration::from_secs(2);

/// The last lines that the instance wrote; nothing when they cannot be had.
pub(super) async fn read(runtime: &dyn Runtime, which: &InstanceRef) -> Vec<u8> {
    let mut kept = Vec::new();
    let reading = async {
        let options = LogOptions {
            tail: Some(LINES),
            follow: false,
            ..LogOptions::default()
        };
        let Ok(mut lines) = runtime.logs(which, options).await else {
            return;
        };
        while let Some(Ok(line)) = lines.next().await {
            if kept.len() + line.line.len() >= BYTES {
                return;
            }
            kept.extend_from_slice(&line.line);
            kept.push(b'\n');
        }
    };
    // Late lines are lost; what came is kept.
    let _ = tokio::time::timeout(WAIT, reading).await;
    kept
}

/// Writes them to `path`, 0600, unless there are none.
pub(super) async fn write(path: PathBuf, log: Vec<u8>) -> io::Result<()> {
    if log.is_empty() {
        return Ok(());
    }
    let writing = move || {
        if let Some(folder) = path.parent() {
            atomic::create_folder(folder, 0o700)?;
        }
        atomic::replace(&path, ".tmp-", &log)
    };
    tokio::task::spawn_blocking(writing)
        .await
        .map_err(io::Error::other)?
}
