//! Reading and changing `config.yaml`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use tempfile::TempDir;
use thv_config::{ConfigFile, RegistrySetting};
use thv_core::Dirs;

fn file(text: Option<&str>) -> (TempDir, ConfigFile) {
    let folder = tempfile::tempdir().unwrap();
    let file = ConfigFile::new(&Dirs::under(folder.path()));
    if let Some(text) = text {
        std::fs::create_dir_all(file.path().parent().unwrap()).unwrap();
        std::fs::write(file.path(), text).unwrap();
    }
    (folder, file)
}

fn url(text: &str) -> RegistrySetting {
    RegistrySetting::Url(text.into())
}

/// As ToolHive writes it, with keys that this version does not know.
const THEIRS: &str = "\
secrets:
    provider_type: encrypted
    setup_completed: true
clients:
    registered_clients:
        - cursor
registry_url: \"\"
registry_api_url: https://registry.example.com
local_registry_path: \"\"
allow_private_registry_ip: true
otel:
    metrics-enabled: null # theirs
    custom: 1.50
default_group_migration: true
registry_auth:
    type: oauth
";

#[test]
fn what_toolhive_writes_is_read() {
    let (_folder, file) = file(Some(THEIRS));
    let settings = file.read().unwrap();
    assert_eq!(settings.secrets.provider_type, "encrypted");
    assert!(settings.secrets.setup_completed && settings.allow_private_registry_ip);
    assert_eq!(settings.clients.registered_clients, ["cursor"]);
    assert_eq!(
        settings.registry(),
        RegistrySetting::Api("https://registry.example.com".into())
    );
}

/// What `work` gives; it must not wait for anybody.
fn promptly<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(work()));
    told.recv_timeout(std::time::Duration::from_secs(30)).unwrap()
}

fn make_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

#[test]
fn a_pipe_in_its_place_is_no_file_and_nobody_waits_for_it() {
    let (_folder, file) = file(Some(""));
    std::fs::remove_file(file.path()).unwrap();
    make_pipe(file.path());
    let read = promptly(move || file.read().unwrap_err().to_string());
    assert!(read.contains("not a file"), "{read}");
}

#[test]
fn a_pipe_in_place_of_the_lock_holds_nobody_up() {
    let (_folder, file) = file(Some(THEIRS));
    make_pipe(&file.path().with_file_name("config.yaml.lock"));
    let changed = file.clone();
    promptly(move || changed.set_registry(&RegistrySetting::BuiltIn, false)).unwrap();
    assert_eq!(file.read().unwrap().registry(), RegistrySetting::BuiltIn);
}

#[test]
fn without_a_file_everything_is_at_its_default_and_nothing_is_written() {
    let (_folder, file) = file(None);
    assert_eq!(file.read().unwrap().registry(), RegistrySetting::BuiltIn);
    assert!(!file.path().parent().unwrap().exists());
}

#[test]
fn a_change_touches_its_own_lines_only() {
    let (_folder, file) = file(Some(THEIRS));
    file.set_registry(&url("https://a.example/r.json"), false)
        .unwrap();
    let expected = THEIRS
        .replace("registry_url: \"\"", "registry_url: \"https://a.example/r.json\"")
        .replace(
            "registry_api_url: https://registry.example.com",
            "registry_api_url: \"\"",
        )
        .replace(
            "allow_private_registry_ip: true",
            "allow_private_registry_ip: false",
        );
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), expected);
}

#[test]
fn each_kind_clears_the_others_and_a_file_leaves_the_permission() {
    let (_folder, file) = file(None);
    file.set_registry(&RegistrySetting::Api("https://a.example".into()), true)
        .unwrap();
    file.set_registry(&RegistrySetting::File("/a b/r.json".into()), false)
        .unwrap();
    let settings = file.read().unwrap();
    assert_eq!(settings.registry(), RegistrySetting::File("/a b/r.json".into()));
    assert!(settings.registry_api_url.is_empty() && settings.allow_private_registry_ip);
    file.set_registry(&RegistrySetting::BuiltIn, true).unwrap();
    let settings = file.read().unwrap();
    assert_eq!(settings.registry(), RegistrySetting::BuiltIn);
    assert!(!settings.allow_private_registry_ip);
}

#[test]
fn the_file_is_its_owners_alone() {
    let (_folder, file) = file(None);
    file.set_registry(&url("https://a.example/r.json"), false)
        .unwrap();
    let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_cannot_be_read_is_not_changed() {
    for text in [
        "a: [",
        "- a\n- b\n",
        "registry_url: [1]\n",
        "{registry_url: a, other: b}\n",
        "allow_private_registry_ip: maybe\n",
    ] {
        let (_folder, file) = file(Some(text));
        let error = file
            .set_registry(&url("https://a.example/r.json"), false)
            .unwrap_err();
        assert_eq!(error.code(), "config_invalid", "{text}");
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text);
    }
}

#[test]
fn an_error_does_not_show_what_the_file_holds() {
    let (_folder, file) = file(Some("registry_url: [s3cret]\n"));
    let error = file.read().unwrap_err().to_string();
    assert!(!error.contains("s3cret") && error.contains("line 1"), "{error}");
}

#[test]
fn an_error_says_what_is_wrong_and_where() {
    for (text, said) in [
        (
            "registry_url: a\nregistry_url: b\n",
            "line 2, column 1: a key stands twice",
        ),
        ("registry_url: a\n---\nb: c\n", "a second document begins"),
        (
            "allow_private_registry_ip: maybe\n",
            "line 1, column 28: a value is of another type",
        ),
        ("secrets: 5\n", "a value is of another type"),
    ] {
        let (_folder, file) = file(Some(text));
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains(said), "{text:?}: {error}");
    }
}

#[test]
fn an_unknown_key_of_a_section_stays_in_it() {
    let (_folder, file) = file(Some("secrets:\n  provider_type: none\n  future: [1, 2]\n"));
    file.set_secrets("encrypted", true).unwrap();
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert_eq!(file.read().unwrap().secrets.provider_type, "encrypted");
    assert!(text.contains("\"future\":[1,2]"), "{text}");
}

#[test]
fn a_file_that_somebody_else_is_changing_is_left_alone() {
    let (_folder, file) = file(Some(THEIRS));
    let lock = std::fs::File::create(file.path().with_file_name("config.yaml.lock")).unwrap();
    lock.lock().unwrap();
    let error = file.set_registry(&RegistrySetting::BuiltIn, false).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), THEIRS);
    drop(lock);
    file.set_registry(&RegistrySetting::BuiltIn, false).unwrap();
}

#[test]
fn what_a_killed_writer_left_goes_with_the_next_change() {
    let (_folder, file) = file(Some(THEIRS));
    let left = file.path().with_file_name(".config.yaml.left.thv");
    std::fs::write(&left, "").unwrap();
    file.set_registry(&RegistrySetting::BuiltIn, false).unwrap();
    assert!(!left.exists());
}

#[test]
fn what_root_writes_in_a_users_folder_is_that_users() {
    let (folder, file) = file(None);
    if std::os::unix::fs::chown(folder.path(), Some(4711), Some(4712)).is_err() {
        println!("skipped: not root");
        return;
    }
    file.set_registry(&url("https://a.example/r.json"), false)
        .unwrap();
    for name in [".", "config.yaml", "config.yaml.lock"] {
        let about = std::fs::metadata(file.path().with_file_name(name)).unwrap();
        assert_eq!((about.uid(), about.gid()), (4711, 4712), "{name}");
    }
}

#[test]
fn a_huge_file_is_refused() {
    let (_folder, file) = file(Some(&"# x\n".repeat(300_000)));
    assert_eq!(file.read().unwrap_err().code(), "config_invalid");
}
