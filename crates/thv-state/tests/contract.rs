//! The contract of state stores, and what only files promise.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use thv_core::Dirs;
use thv_state::{
    DocumentKind, DocumentName, LocalStateStore, MAX_DOCUMENT, MemoryStateStore, StateStore, StateStoreExt,
    contract,
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
        )
        .await
        .unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dirs.runconfigs().join("a.json")), 0o600);
    assert_eq!(mode(dirs.runconfigs()) & 0o027, 0);
    assert_eq!(std::fs::read_dir(dirs.runconfigs()).unwrap().count(), 1);
}

#[tokio::test]
async fn what_is_no_document_is_not_listed() {
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(root.path());
    let store = LocalStateStore::new(&dirs);
    std::fs::create_dir_all(dirs.runconfigs().join("folder.json")).unwrap();
    for file in [".a.json.tmp-1", "a.lock", "b.json", "with space.json"] {
        std::fs::write(dirs.runconfigs().join(file), "{}").unwrap();
    }
    let listed = store.list(DocumentKind::RunConfig).await.unwrap();
    assert_eq!(
        listed.iter().map(DocumentName::as_str).collect::<Vec<_>>(),
        ["b", "with space"]
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
    for text in ["", ".", "..", "../a", "a/b", "a\\b", "a\0b", ".hidden"] {
        assert!(DocumentName::new(text).is_err(), "{text:?}");
    }
}
