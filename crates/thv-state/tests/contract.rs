//! The contract of state stores, and what only files promise.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use thv_core::Dirs;
use thv_state::{
    DocumentKind, DocumentName, Error, Keep, LocalStateStore, MAX_DOCUMENT, MemoryStateStore, StateStore,
    StateStoreExt, contract,
};

#[tokio::test]
async fn files_keep_the_contract() {
    let root = tempfile::tempdir().unwrap();
    contract::check(Arc::new(LocalStateStore::new(&Dirs::under(root.path())))).await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract::check(Arc::new(MemoryStateStore::new())).await;
}

#[tokio::test]
async fn files_are_private_and_nothing_temporary_is_left() {
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(root.path());
    let store = LocalStateStore::new(&dirs);
    store
        .replace(
            DocumentKind::RunConfig,
            &DocumentName::new("a").unwrap(),
            b"{}".to_vec(),
            Keep::nothing(),
        )
        .await
        .unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dirs.runconfigs().join("a.json")), 0o600);
    assert_eq!(
        mode(dirs.runconfigs()),
        0o750 & !umask().unwrap(),
        "as ToolHive makes it"
    );
    assert_eq!(std::fs::read_dir(dirs.runconfigs()).unwrap().count(), 1);
}

#[tokio::test]
async fn the_first_change_takes_away_what_a_killed_writer_left() {
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(root.path());
    let left = |folder: PathBuf| folder.join(".a.json.tmp-Ab12Cd.thv");
    for folder in [dirs.runconfigs(), dirs.groups()] {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(left(folder), "{").unwrap();
    }
    let store = LocalStateStore::new(&dirs);
    let (kind, name) = (DocumentKind::RunConfig, DocumentName::new("a").unwrap());
    store.read(kind, &name).await.unwrap();
    assert_eq!(store.list(kind).await.unwrap(), []);
    assert!(left(dirs.runconfigs()).exists(), "a read writes nothing");
    store.delete(kind, &name, Keep::nothing()).await.unwrap();
    assert!(!left(dirs.runconfigs()).exists() && !left(dirs.groups()).exists());
}

/// What the process that runs the tests takes away from modes.
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

/// There is one thread for files and it is busy: the write waits for it when its future is dropped.
#[test]
fn a_dropped_write_keeps_its_lock_until_it_has_happened() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(root.path());
    let store = LocalStateStore::new(&dirs);
    runtime.block_on(async {
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || wait.recv());
        let lock = Arc::new(());
        let held = Arc::downgrade(&lock);
        let name = DocumentName::new("a").unwrap();
        let write = store.replace(
            DocumentKind::RunConfig,
            &name,
            b"{}".to_vec(),
            Keep::until_done(lock),
        );
        assert!(
            tokio::time::timeout(std::time::Duration::ZERO, write)
                .await
                .is_err()
        );
        assert_eq!(held.strong_count(), 1, "nobody else may write yet");
        go_on.send(()).unwrap();
        busy.await.unwrap().unwrap();
        tokio::task::spawn_blocking(|| {}).await.unwrap();
        assert_eq!(held.strong_count(), 0);
        assert!(dirs.runconfigs().join("a.json").exists());
    });
}

#[tokio::test]
async fn a_write_that_fails_leaves_what_was_there_and_nothing_temporary() {
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(root.path());
    let store = LocalStateStore::new(&dirs);
    let inside = dirs.runconfigs().join("a.json/inside");
    std::fs::create_dir_all(&inside).unwrap();
    // A folder in the way is kept beside, but not without end.
    let kept = |number: u32| match number {
        1 => dirs.runconfigs().join("a.json.corrupted"),
        _ => dirs.runconfigs().join(format!("a.json.corrupted-{number}")),
    };
    (1..=100).for_each(|number| std::fs::create_dir(kept(number)).unwrap());
    let name = DocumentName::new("a").unwrap();
    let error = store
        .replace(DocumentKind::RunConfig, &name, b"{}".to_vec(), Keep::nothing())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Io { .. }) && !error.is_retryable(),
        "{error:?}"
    );
    assert!(inside.exists());
    assert_eq!(std::fs::read_dir(dirs.runconfigs()).unwrap().count(), 101);
}

#[tokio::test]
async fn the_longest_names_can_be_written() {
    let root = tempfile::tempdir().unwrap();
    let store = LocalStateStore::new(&Dirs::under(root.path()));
    for text in ["g".repeat(250), "é".repeat(125)] {
        let name = DocumentName::new(text).unwrap();
        let write = store.replace(DocumentKind::Group, &name, b"{}".to_vec(), Keep::nothing());
        write.await.unwrap();
        assert!(store.list(DocumentKind::Group).await.unwrap().contains(&name));
    }
}

#[tokio::test]
async fn what_is_no_document_is_not_listed() {
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(root.path());
    let store = LocalStateStore::new(&dirs);
    std::fs::create_dir_all(dirs.runconfigs().join("folder.json")).unwrap();
    let files = [
        ".a.json.tmp-1",
        ".a.json.tmp-1.json",
        ".hidden.json",
        ".json",
        "a.lock",
        "b.json",
        "with space.json",
    ];
    for file in files {
        std::fs::write(dirs.runconfigs().join(file), "{}").unwrap();
    }
    let listed = store.list(DocumentKind::RunConfig).await.unwrap();
    assert_eq!(
        listed.iter().map(DocumentName::as_str).collect::<Vec<_>>(),
        [".hidden", "b", "with space"]
    );
}

#[tokio::test]
async fn a_document_that_is_too_large_or_malformed_is_an_error_and_stays() {
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(root.path());
    let store = LocalStateStore::new(&dirs);
    std::fs::create_dir_all(dirs.runconfigs()).unwrap();
    let huge = dirs.runconfigs().join("huge.json");
    std::fs::File::create(&huge)
        .unwrap()
        .set_len(MAX_DOCUMENT + 1)
        .unwrap();
    let error = store.read_run_config(&"huge".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.code(), "invalid_document");
    std::fs::write(dirs.runconfigs().join("bad.json"), "{\"port\": \"x\"").unwrap();
    let error = store.read_run_config(&"bad".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("\"bad\""), "{error}");
    assert!(huge.exists());
}

#[test]
fn a_name_cannot_leave_its_folder() {
    for text in ["", ".", "..", "../a", "a/b", "a\\b", "a\0b", ".a.json.tmp-12"] {
        assert!(DocumentName::new(text).is_err(), "{text:?}");
    }
    assert!(DocumentName::new("a".repeat(251)).is_err());
    for text in [".hidden", "...", "a..b", "-x"] {
        assert!(
            DocumentName::new(text).is_ok(),
            "{text:?}: old files have such names"
        );
    }
}
