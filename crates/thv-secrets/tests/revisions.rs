//! Which changes of encrypted secrets are told, whoever makes them.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use thv_secrets::{EncryptedSecrets, Password, SecretError, SecretProvider, Stale};

struct Store {
    folder: TempDir,
}

impl Store {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn counts(&self) -> PathBuf {
        self.path("state/secret-revisions")
    }

    /// A program that does not count.
    fn foreign(&self) -> EncryptedSecrets {
        EncryptedSecrets::new(self.path("secrets_encrypted"), Password::given("pass".into()))
    }

    fn ours(&self) -> EncryptedSecrets {
        self.foreign().counting_in(self.counts())
    }

    async fn now(&self) -> BTreeMap<String, u64> {
        let revisions = self.ours().revisions().await.unwrap().unwrap();
        revisions.of(["a", "b"])
    }

    async fn since(&self, then: &BTreeMap<String, u64>) -> Stale {
        self.ours().revisions().await.unwrap().unwrap().since(then)
    }
}

async fn set(secrets: &EncryptedSecrets, name: &str, value: &str) {
    secrets.set(name, value.into()).await.unwrap();
}

#[track_caller]
fn check(stale: &Stale, changed: &[&str], perhaps: bool) {
    let names: Vec<_> = stale.changed.iter().map(String::as_str).collect();
    assert_eq!((names.as_slice(), stale.perhaps), (changed, perhaps));
}

#[tokio::test]
async fn our_change_is_of_that_secret_and_no_other() {
    let store = Store::new();
    let empty = store.now().await;
    set(&store.ours(), "a", "1").await;
    set(&store.ours(), "b", "1").await;
    check(&store.since(&empty).await, &["a", "b"], false);
    let then = store.now().await;
    set(&store.ours(), "a", "1").await;
    check(&store.since(&then).await, &[], false);
    set(&store.ours(), "a", "2").await;
    check(&store.since(&then).await, &["a"], false);
    store.ours().delete("b").await.unwrap();
    check(&store.since(&then).await, &["a", "b"], false);
    check(&store.since(&store.now().await).await, &[], false);
    assert_eq!(store.foreign().revisions().await.unwrap(), None);
}

#[tokio::test]
async fn each_change_by_another_program_is_told_whoever_looked_in_between() {
    let store = Store::new();
    set(&store.ours(), "a", "1").await;
    let first = store.now().await;
    set(&store.foreign(), "b", "2").await;
    let second = store.now().await;
    check(&store.since(&first).await, &[], true);
    set(&store.foreign(), "b", "3").await;
    check(&store.since(&second).await, &[], true);
    let third = store.now().await;
    set(&store.ours(), "b", "4").await;
    check(&store.since(&third).await, &["b"], false);
    check(&store.since(&second).await, &["b"], true);
    // What only the other one set is gone, and is told as well.
    set(&store.foreign(), "a", "5").await;
    let fourth = store.now().await;
    store.ours().delete("a").await.unwrap();
    check(&store.since(&fourth).await, &["a"], false);
}

#[tokio::test]
async fn counts_that_are_lost_are_no_fault_and_leave_a_doubt() {
    let store = Store::new();
    set(&store.ours(), "a", "1").await;
    let then = store.now().await;
    std::fs::remove_file(store.counts()).unwrap();
    check(&store.since(&then).await, &[], true);
    set(&store.ours(), "a", "2").await;
    assert!(store.since(&then).await.perhaps);
}

#[tokio::test]
async fn counts_that_cannot_be_read_are_named_and_nothing_is_changed() {
    let long = format!("[{}", "[".repeat(100_000));
    let contents = ["", "{}", "\0\0", "[1,2]", r#"{"version":2}"#, &long];
    for content in contents {
        let store = Store::new();
        set(&store.ours(), "a", "1").await;
        let secrets = std::fs::read(store.path("secrets_encrypted")).unwrap();
        std::fs::write(store.counts(), content).unwrap();
        refused(&store).await;
        assert_eq!(std::fs::read(store.counts()).unwrap(), content.as_bytes());
        assert_eq!(std::fs::read(store.path("secrets_encrypted")).unwrap(), secrets);
    }
    let store = Store::new();
    std::fs::create_dir_all(store.counts()).unwrap();
    refused(&store).await;
    assert!(!Path::new(&store.path("secrets_encrypted")).exists());
}

async fn refused(store: &Store) {
    for error in [
        store.ours().revisions().await.unwrap_err(),
        store.ours().set("a", "2".into()).await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, SecretError::Damaged { path, .. } if *path == store.counts()),
            "{error:?}"
        );
    }
}
