//! The contract of status managers.

use std::sync::Arc;

use thv_core::Dirs;
use thv_status::{FileStatusManager, MemoryStatusManager, contract};

#[tokio::test]
async fn files_keep_the_contract() {
    let root = tempfile::tempdir().unwrap();
    contract::check(Arc::new(FileStatusManager::new(&Dirs::under(root.path())))).await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract::check(Arc::new(MemoryStatusManager::new())).await;
}
