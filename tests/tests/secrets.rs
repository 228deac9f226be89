//! Encrypted secrets from the command line to the server, with a password that nobody keeps.

mod drill;

use std::path::PathBuf;

use drill::{exec, files_below};
use serde_json::json;
use tempfile::TempDir;
use thv::secrets::{EncryptedSecrets, Password, SecretProvider as _};
use thv_tests::{Client, Machine, Output};

const PASSWORD: &str = "correct-horse-of-the-test";
const OLD: &str = "old-value-of-the-test";
const NEW: &str = "new-value-of-the-test";

/// A machine, and files beside it that its commands get as descriptors.
struct Encrypted {
    machine: Machine,
    beside: TempDir,
}

impl Encrypted {
    fn new() -> Self {
        Self {
            machine: Machine::new(),
            beside: TempDir::new().expect("a folder"),
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.beside.path().join(name);
        std::fs::write(&path, format!("{text}\n")).expect("a file");
        path
    }

    /// A command that gets `input` as standard input, and the password as descriptor 3.
    async fn thv_with(&self, password: &str, input: &str, args: &[&str]) -> Output {
        let mut command = self.machine.program("sh");
        command
            .args([
                "-c",
                r#"input=$1 password=$2; shift 2; exec "$@" <"$input" 3<"$password""#,
            ])
            .arg("sh")
            .arg(self.file("input", input))
            .arg(self.file("password", password))
            .arg(thv_tests::thv())
            .args(args)
            .args(["--secrets-password-fd", "3"]);
        self.machine.finish(command).await
    }

    async fn thv(&self, args: &[&str]) -> Output {
        self.thv_with(PASSWORD, "nothing", args).await
    }

    /// What the server has in its environment.
    async fn token(&self, name: &str) -> String {
        let workload = self.machine.workload(name).await;
        let client = Client::connect(&workload.url).await;
        let value = client.call("env", json!({ "name": "TOKEN" })).await;
        client.close().await;
        value
    }

    async fn says(&self, command: &[&str], text: &str) {
        let said = self.machine.thv(command).await.ok().stdout;
        assert!(said.contains(text), "no {text:?} in {said}");
    }

    /// Which secrets of a workload `list` calls old, and whether it has doubts.
    async fn marks(&self, name: &str) -> serde_json::Value {
        let listed = self.machine.thv(["list", "--format", "json"]).await.ok().json();
        let workloads = listed.as_array().expect("a list");
        let found = workloads.iter().find(|workload| workload["name"] == name);
        let thv = &found.expect("it is listed")["thv"];
        let old = thv.get("old_secrets").cloned().unwrap_or_else(|| json!([]));
        let doubts = thv.get("secrets_may_be_old").is_some_and(|doubts| doubts == true);
        json!([old, doubts])
    }

    /// Neither the password nor a value is in a file, an argument or an environment, but for the server's own.
    fn assert_kept(&self) {
        let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        for (path, (_, _, bytes)) in files_below(self.machine.folder()) {
            for text in [PASSWORD, OLD, NEW] {
                let leaks = bytes.as_deref().is_some_and(|bytes| has(bytes, text));
                assert!(!leaks, "{text} is in {}", path.display());
            }
        }
        for pid in self.machine.processes() {
            let read = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            let line = read("cmdline");
            for text in [PASSWORD, OLD, NEW] {
                assert!(!has(&line, text), "{text} is an argument of process {pid}");
            }
            assert!(
                !has(&read("environ"), PASSWORD),
                "the password is in the environment of process {pid}"
            );
        }
    }
}

#[tokio::test]
async fn an_encrypted_secret_reaches_its_server_and_nothing_else() {
    let it = Encrypted::new();
    it.thv(&["secret", "setup", "encrypted"]).await.ok();
    it.thv_with(PASSWORD, OLD, &["secret", "set", "token"]).await.ok();
    let listed = it.thv(&["secret", "list", "--format", "json"]).await.ok().json();
    assert_eq!(listed, json!([{ "name": "token" }]));
    assert_eq!(
        it.thv(&["secret", "get", "token"]).await.ok().stdout,
        format!("{OLD}\n")
    );

    let name = it.machine.name("encrypted");
    let server = exec();
    let run = ["run", &server, "--name", &name, "--transport", "stdio"];
    let with_secret = [&run[..], &["--secret", "token,target=TOKEN", "--wait=1m"]].concat();
    // Without the password it is refused before anything is touched, and says what is missing.
    it.machine
        .thv(&with_secret)
        .await
        .failed()
        .says([name.as_str(), "--secrets-password-fd"]);
    assert!(it.machine.find(&name).await.is_none());
    it.thv_with("another-password", "nothing", &with_secret)
        .await
        .failed()
        .says(["the password does not open"]);
    it.thv(&with_secret).await.ok();
    assert_eq!(it.token(&name).await, OLD);
    it.assert_kept();

    // The proxy can start its server again by itself: it was told the password by the one who launched it.
    let set = it.thv_with(PASSWORD, NEW, &["secret", "set", "token"]).await.ok();
    set.says([name.as_str(), "thv restart"]);
    assert_eq!(it.token(&name).await, OLD, "a server that runs keeps its value");
    it.thv(&["restart", &name, "--wait=1m"]).await.ok();
    assert_eq!(it.token(&name).await, NEW);
    it.assert_kept();

    it.machine.thv(["rm", &name]).await.ok();
    it.thv(&["secret", "delete", "token"]).await.ok();
    it.thv(&["secret", "get", "token"])
        .await
        .failed()
        .says(["\"token\" not found"]);
}

#[tokio::test]
async fn a_server_with_an_old_secret_is_marked_until_it_is_restarted() {
    let it = Encrypted::new();
    it.thv(&["secret", "setup", "encrypted"]).await.ok();
    it.thv_with(PASSWORD, OLD, &["secret", "set", "token"]).await.ok();
    let name = it.machine.name("marked");
    let server = exec();
    let run = [
        "run",
        &server,
        "--name",
        &name,
        "--transport",
        "stdio",
        "--wait=1m",
    ];
    it.thv(&[&run[..], &["--secret", "token,target=TOKEN"]].concat())
        .await
        .ok();
    assert_eq!(it.marks(&name).await, json!([[], false]));
    let unmarked = it.machine.thv(["list"]).await.ok().stdout;
    assert!(!unmarked.contains("NOTE"), "{unmarked}");

    it.thv_with(PASSWORD, NEW, &["secret", "set", "token"]).await.ok();
    assert_eq!(it.marks(&name).await, json!([["token"], false]));
    let old = "old value of secret \"token\"";
    it.says(&["list"], old).await;
    it.says(&["status", &name], old).await;
    it.thv(&["restart", &name, "--wait=1m"]).await.ok();
    assert_eq!(it.marks(&name).await, json!([[], false]));
    assert_eq!(it.token(&name).await, NEW);

    // The file as ToolHive writes it: whole, with another nonce, and nothing beside it.
    let dirs = it.machine.dirs();
    let toolhive = EncryptedSecrets::new(dirs.secrets_file(), Password::given(PASSWORD.into()));
    toolhive.set("another", OLD.into()).await.expect("it is set");
    assert_eq!(it.marks(&name).await, json!([[], true]));
    it.says(&["list"], "secrets may be stale").await;
    it.thv(&["restart", &name, "--wait=1m"]).await.ok();
    assert_eq!(it.marks(&name).await, json!([[], false]));

    // Counts that cannot be read are named; nothing is changed that nobody could learn of, and all else goes on.
    let counts = dirs.secret_revisions();
    std::fs::write(&counts, "[").expect("a file");
    let path = counts.to_str().expect("UTF-8");
    it.thv_with(PASSWORD, OLD, &["secret", "set", "token"])
        .await
        .failed()
        .says([path]);
    it.machine.thv(["list"]).await.ok().says(["Warning", path]);
    it.thv(&["restart", &name, "--wait=1m"]).await.ok();
    assert_eq!(it.token(&name).await, NEW);
    std::fs::remove_file(&counts).expect("removed");
    it.machine.thv(["rm", &name]).await.ok();
    it.assert_kept();
}

#[tokio::test]
async fn a_killed_proxy_is_brought_back_only_with_the_password() {
    let it = Encrypted::new();
    it.thv(&["secret", "provider", "encrypted"]).await.ok();
    it.thv_with(PASSWORD, OLD, &["secret", "set", "token"]).await.ok();
    let name = it.machine.name("killed");
    let server = exec();
    it.thv(&[
        "run",
        &server,
        "--name",
        &name,
        "--transport",
        "stdio",
        "--secret",
        "token,target=TOKEN",
        "--wait=1m",
    ])
    .await
    .ok();
    drill::kill_9(drill::proxy_pid(&it.machine, &name).await);
    it.machine
        .thv(["reconcile"])
        .await
        .failed()
        .says([name.as_str(), "--secrets-password-fd"]);
    it.thv(&["reconcile"]).await.ok();
    it.thv(&["start", &name, "--wait=1m"]).await.ok();
    assert_eq!(it.token(&name).await, OLD);
    it.machine.thv(["rm", &name]).await.ok();
}

#[tokio::test]
async fn what_is_set_up_is_tried_first_and_kept_in_the_configuration() {
    let it = Encrypted::new();
    let config = it.machine.dirs().config_file();
    it.machine
        .thv(["secret", "setup"])
        .await
        .failed()
        .says(["which provider?"]);
    it.machine
        .thv(["secret", "setup", "vault"])
        .await
        .failed()
        .says(["unknown secrets provider \"vault\""]);
    assert!(!config.exists(), "nothing is written before it works");

    std::fs::create_dir_all(config.parent().expect("a folder")).expect("a folder");
    std::fs::write(
        &config,
        "secrets:\n  provider_type: none\n  other: 1\nllm:\n  kept: true\n",
    )
    .expect("a file");
    it.machine
        .thv(["secret", "set", "token"])
        .await
        .failed()
        .says(["the none provider cannot set secrets"]);
    it.thv(&["secret", "setup", "encrypted"]).await.ok();
    let text = std::fs::read_to_string(&config).expect("the file");
    assert!(text.contains("\"provider_type\":\"encrypted\""), "{text}");
    assert!(
        text.contains("\"other\":1") && text.ends_with("llm:\n  kept: true\n"),
        "{text}"
    );

    // A configuration that cannot be read keeps nobody from listing.
    std::fs::write(&config, "secrets: [").expect("a file");
    it.machine.thv(["list"]).await.ok();
    it.thv(&["secret", "list"]).await.failed().says(["config.yaml"]);
}
