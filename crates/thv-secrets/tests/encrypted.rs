//! The encrypted file: its format, who may read it, and what is told of a file or password that does not fit.
#![cfg(feature = "contract")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::sync::{Arc, Mutex};

use thv_secrets::contract::check;
use thv_secrets::{
    EncryptedSecrets, ExposeSecret, Keyring, NoKeyring, Password, Result, SecretError, SecretProvider,
    SecretString, UserSecrets,
};

/// Made by another program, see the folder's README.
const GOLDEN: &[u8] = include_bytes!("data/secrets_encrypted");

fn opened(path: &Path, password: &str) -> EncryptedSecrets {
    EncryptedSecrets::new(path, Password::given(password.into()))
}

/// The error of reading a file with these bytes.
async fn refused(bytes: &[u8]) -> SecretError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets_encrypted");
    std::fs::write(&path, bytes).unwrap();
    let secrets = opened(&path, "correct horse");
    let error = secrets.get("github").await.unwrap_err();
    secrets
        .set("new", "value".into())
        .await
        .expect_err("nothing is set over what cannot be read");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "the file stays as it was");
    error
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let count = Mutex::new(0);
    check(async |secrets| {
        let number = {
            let mut count = count.lock().unwrap();
            *count += 1;
            *count
        };
        let folder = folder.path().join(number.to_string());
        let provider = opened(&folder.join("secrets_encrypted"), "pass").counting_in(folder.join("counts"));
        for (name, value) in secrets {
            provider.set(name, (*value).into()).await.unwrap();
        }
        Arc::new(provider) as Arc<dyn SecretProvider>
    })
    .await;
}

#[tokio::test]
async fn what_another_program_wrote_is_read_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets_encrypted");
    std::fs::write(&path, GOLDEN).unwrap();
    let secrets = opened(&path, "correct horse");
    assert_eq!(secrets.get("github").await.unwrap().expose_secret(), "t0ken");

    let users = UserSecrets::new(Arc::new(opened(&path, "correct horse")));
    users.set("gitlab", "0ther".into()).await.unwrap();
    let names: Vec<_> = users
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, ["github", "gitlab"], "the system's own are not shown");
    assert_eq!(
        secrets.get("__thv_workloads_x").await.unwrap().expose_secret(),
        "system"
    );
    assert_eq!(secrets.get("gitlab").await.unwrap().expose_secret(), "0ther");
}

#[tokio::test]
async fn nobody_else_can_read_it_and_no_two_writes_are_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/secrets_encrypted");
    let secrets = opened(&path, "pass");
    secrets.set("a", "hunter2-value".into()).await.unwrap();
    let first = std::fs::read(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    secrets.set("a", "hunter2-value".into()).await.unwrap();
    let second = std::fs::read(&path).unwrap();
    assert_ne!(first[..12], second[..12], "a nonce is used once");
    let text = String::from_utf8_lossy(&second).into_owned();
    assert!(!text.contains("hunter2"), "nothing of it is readable");
    let left: Vec<_> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "secrets_encrypted" && name != "secrets_encrypted.lock")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn another_password_and_a_damaged_file_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets_encrypted");
    std::fs::write(&path, GOLDEN).unwrap();
    let error = opened(&path, "wrong horse").get("github").await.unwrap_err();
    assert_eq!(error.code(), "secrets_password_wrong");
    assert!(!error.is_not_found(), "nothing falls back to the environment");

    let mut flipped = GOLDEN.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&flipped).await.code(), "secrets_password_wrong");
    assert_eq!(
        refused(&GOLDEN[..GOLDEN.len() - 1]).await.code(),
        "secrets_password_wrong"
    );
    assert_eq!(refused(&GOLDEN[..20]).await.code(), "secrets_damaged");
}

#[tokio::test]
async fn an_empty_file_has_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets_encrypted");
    std::fs::write(&path, b"").unwrap();
    let secrets = opened(&path, "pass");
    assert!(secrets.list().await.unwrap().is_empty());
    assert!(secrets.get("a").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn what_root_writes_in_a_users_folder_is_that_users_and_what_a_killed_writer_left_goes() {
    let home = tempfile::tempdir().unwrap();
    let is_root = chown(home.path(), Some(4711), Some(4712)).is_ok();
    let folder = home.path().join("toolhive");
    let secrets = opened(&folder.join("secrets_encrypted"), "pass").counting_in(folder.join("counts"));
    secrets.set("a", "1".into()).await.unwrap();
    let left = folder.join(".secrets_encrypted.left.thv");
    std::fs::write(&left, "").unwrap();
    secrets.set("a", "2".into()).await.unwrap();
    assert!(!left.exists());
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let uid = std::fs::metadata(&path).unwrap().uid();
        assert!(!is_root || uid == 4711, "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets_encrypted");
    let changes = (0..16).map(|number| {
        let secrets = opened(&path, "pass");
        tokio::spawn(async move { secrets.set(&format!("name-{number}"), "v".into()).await })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap().unwrap();
    }
    assert_eq!(opened(&path, "pass").list().await.unwrap().len(), 16);
}

#[derive(Debug)]
struct Counting(Mutex<u32>);

#[async_trait::async_trait]
impl Keyring for Counting {
    async fn read(&self) -> Result<Option<SecretString>> {
        *self.0.lock().unwrap() += 1;
        Ok(Some("correct horse".into()))
    }
    async fn write(&self, _password: &SecretString) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_keyring_is_asked_once_and_not_before_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets_encrypted");
    std::fs::write(&path, GOLDEN).unwrap();
    let keyring = Arc::new(Counting(Mutex::new(0)));
    let secrets = UserSecrets::new(Arc::new(EncryptedSecrets::new(
        &path,
        Password::from_keyring(keyring.clone()),
    )));
    assert_eq!(*keyring.0.lock().unwrap(), 0);
    assert!(secrets.key().is_none());
    secrets.get("github").await.unwrap();
    secrets.get("github").await.unwrap();
    assert_eq!(*keyring.0.lock().unwrap(), 1);
    assert_eq!(secrets.key().unwrap().expose_secret(), "correct horse");
}

#[tokio::test]
async fn a_key_that_was_handed_over_opens_what_no_keyring_knows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets_encrypted");
    std::fs::write(&path, GOLDEN).unwrap();
    let secrets = UserSecrets::new(Arc::new(EncryptedSecrets::new(
        &path,
        Password::from_keyring(Arc::new(NoKeyring)),
    )));
    assert_eq!(secrets.get("github").await.unwrap_err().code(), "secrets_locked");
    secrets.accept_key("correct horse".into());
    assert_eq!(secrets.get("github").await.unwrap().expose_secret(), "t0ken");
    assert!(!format!("{secrets:?}").contains("correct horse"));
}
