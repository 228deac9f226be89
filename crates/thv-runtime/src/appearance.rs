//! Waiting for files that are not there yet, without polling.

use std::io;
use std::path::{Path, PathBuf};

use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::changes;

/// Waits until one of `paths` is there that is not, or a folder on the way to it. Returns at once when none is missing.
/// Something else that changes beside them may end the wait too. Cancel-safe.
///
/// # Errors
/// What keeps the folders from being watched.
pub async fn appearance(paths: &[PathBuf]) -> io::Result<()> {
    let missing: Vec<_> = paths.iter().filter(|path| !path.exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let changed = std::sync::Arc::new(Notify::new());
    let tell = changed.clone();
    let mut watcher = changes::watcher(move || tell.notify_one())?;
    for folder in missing.iter().filter_map(|path| nearest(path)) {
        watcher
            .watch(folder, RecursiveMode::NonRecursive)
            .map_err(io::Error::other)?;
    }
    // What appeared before it was watched.
    if missing.iter().any(|path| path.exists()) {
        return Ok(());
    }
    changed.notified().await;
    Ok(())
}

/// The folder nearest to `path` that is there.
fn nearest(path: &Path) -> Option<&Path> {
    path.ancestors().skip(1).find(|folder| folder.is_dir())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_appears_is_noticed_and_what_is_there_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (run, there) = (folder.path().join("run"), folder.path().join("there"));
        std::fs::write(&there, "").unwrap();
        let soon = |paths: Vec<PathBuf>| async move {
            let waited = tokio::time::timeout(Duration::from_secs(20), appearance(&paths));
            waited.await.unwrap().unwrap();
        };
        soon(vec![there.clone()]).await;
        soon(Vec::new()).await;
        let socket = run.join("engine.sock");
        let waiting = tokio::spawn(soon(vec![socket.clone(), there]));
        tokio::task::yield_now().await;
        std::fs::create_dir(&run).unwrap();
        waiting.await.unwrap();
        let waiting = tokio::spawn(soon(vec![socket.clone()]));
        tokio::task::yield_now().await;
        std::fs::write(&socket, "").unwrap();
        waiting.await.unwrap();
    }
}
