//! Waiting for files that are not there yet, without polling.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::changes;

/// Waits until one of `paths` is there that is not, or a folder on the way to it. Returns at once when none is missing.
/// Something else of the same name that changes may end the wait too. Cancel-safe.
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
    // Their folders have other things in them, which may change all the time.
    let names: BTreeSet<_> = missing
        .iter()
        .flat_map(|path| path.iter())
        .map(OsStr::to_owned)
        .collect();
    let mut watcher = changes::watcher(move |name| names.contains(name), move || tell.notify_one())?;
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

    #[tokio::test]
    async fn what_changes_beside_it_is_not_what_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("run/engine.sock")];
        let waiting = appearance(&paths);
        tokio::pin!(waiting);
        let moment = Duration::from_millis(50);
        assert!(tokio::time::timeout(moment, &mut waiting).await.is_err());
        std::fs::write(folder.path().join("beside"), "").unwrap();
        assert!(tokio::time::timeout(moment, &mut waiting).await.is_err());
        std::fs::create_dir(folder.path().join("run")).unwrap();
        tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .unwrap()
            .unwrap();
    }
}
