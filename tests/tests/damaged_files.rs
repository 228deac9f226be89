//! What is said of files that cannot be used: which one, what is wrong with it, and what to do.

mod drill;

use std::fs;
use std::path::Path;

use drill::{assert_no_files_of, run_echo};
use thv_tests::Machine;

/// The line that speaks of the file says it once, with what is wrong and what to do, and in no parser's words.
#[track_caller]
fn assert_told(said: &str, file: &Path, parts: &[&str]) {
    let path = file.display().to_string();
    let line = said.lines().find(|line| line.contains(&path));
    let line = line.unwrap_or_else(|| panic!("nothing of {path}: {said}"));
    assert_eq!(line.matches(&path).count(), 1, "{line}");
    for part in parts {
        assert!(line.contains(part), "no {part:?}: {line}");
    }
    for words in ["EOF", "invalid type", "missing field", "at line"] {
        assert!(
            !line.contains(words) || line.contains("invalid JSON at line"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_run_configuration() {
    let machine = Machine::new();
    let name = machine.name("config");
    run_echo(&machine, &name).await;
    let file = machine.dirs().runconfigs().join(format!("{name}.json"));
    let remedy = "correct the file, or remove the workload";
    fs::write(&file, "{\"name\": \"x\", \"image\": 3}").expect("written");
    for verb in ["status", "start", "restart"] {
        let told = machine.thv([verb, &name]).await.failed().stderr;
        assert_told(&told, &file, &[&name, "image: expected a string", remedy]);
    }
    let log = machine.dirs().server_log(&name);
    fs::write(&log, "what it said\n").expect("written");
    let shown = machine.thv(["logs", &name]).await.ok();
    assert_eq!(shown.stdout, "what it said\n");
    assert_told(&shown.stderr, &file, &["image: expected a string", remedy]);
    let whole = "{\"name\":";
    fs::write(&file, whole).expect("written");
    let told = machine.thv(["list"]).await.ok().stderr;
    assert_told(&told, &file, &[&name, "line 1, column 9", remedy]);
    // Said once, and no reason not to.
    let told = machine.thv(["stop", &name]).await.ok().stderr;
    assert_eq!(told.matches(remedy).count(), 1, "{told}");
    fs::remove_file(&file).expect("it was there");
    fs::create_dir(&file).expect("a folder");
    let told = machine.thv(["start", &name]).await.failed().stderr;
    assert_told(&told, &file, &["it is a folder", remedy]);
    machine.thv(["rm", &name]).await.ok();
    assert_no_files_of(&machine, &name);
}

#[tokio::test]
async fn a_group() {
    let machine = Machine::new();
    machine.thv(["group", "create", "team"]).await.ok();
    let file = machine.dirs().groups().join("team.json");
    let remedy = "correct the file, or remove it";
    for (text, wrong) in [
        ("{", "it ends too early"),
        (
            "{\"name\":\"team\",\"registered_clients\":{\"a\":1}}",
            "not of the kind that it has to be",
        ),
    ] {
        fs::write(&file, text).expect("written");
        let told = machine.thv(["group", "list"]).await.ok().stderr;
        assert_told(&told, &file, &["group \"team\" cannot be used", wrong, remedy]);
    }
}

#[tokio::test]
async fn a_record_and_a_status_file() {
    let machine = Machine::new();
    let name = machine.name("record");
    let remedy = "the next command that changes the workload makes it anew";
    for folder in [machine.dirs().lifecycle(), machine.dirs().statuses()] {
        run_echo(&machine, &name).await;
        let file = folder.join(format!("{name}.json"));
        for (text, wrong) in [
            ("{\"version\": 1, \"status\": \"running\"}", "a value is missing"),
            ("[", ""),
        ] {
            fs::write(&file, text).expect("written");
            let told = machine.thv(["list"]).await.ok().stderr;
            assert_told(&told, &file, &[&name, wrong, remedy]);
            let told = machine.thv(["status", &name]).await.ok().stdout;
            assert_told(&told, &file, &[wrong, remedy]);
        }
        machine.thv(["rm", &name]).await.ok();
        machine.assert_nothing_lives(&[]);
        assert_no_files_of(&machine, &name);
    }
}

#[tokio::test]
async fn a_status_file_that_is_empty_hides_no_workload_that_runs() {
    let machine = Machine::new();
    let name = machine.name("empty");
    run_echo(&machine, &name).await;
    let file = machine.dirs().statuses().join(format!("{name}.json"));
    fs::write(&file, "").expect("written");
    let listed = machine.thv(["list", "--format", "json"]).await.ok().json();
    assert_eq!(listed[0]["status"], "running", "{listed}");
    let why = listed[0]["status_context"].as_str().expect("a text");
    assert_told(why, &file, &["it is empty"]);
    machine.thv(["rm", &name]).await.ok();
    assert_no_files_of(&machine, &name);
}

#[tokio::test]
async fn a_local_instance() {
    let machine = Machine::new();
    let name = machine.name("instance");
    run_echo(&machine, &name).await;
    let file = machine.dirs().lifecycle().join(format!("instances/{name}.json"));
    fs::write(&file, "{").expect("written");
    let told = machine.thv(["list"]).await.ok().stderr;
    assert_told(
        &told,
        &file,
        &[
            &name,
            "it ends too early",
            "remove the workload, or start it again",
        ],
    );
    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[]);
    assert_no_files_of(&machine, &name);
}

#[tokio::test]
async fn the_configuration_file_and_the_secrets() {
    let machine = Machine::new();
    let config = machine.dirs().config_file();
    fs::create_dir_all(config.parent().expect("a folder")).expect("a folder");
    fs::write(&config, "registry_url: [1]\n").expect("written");
    let told = machine.thv(["registry", "list"]).await.failed().stderr;
    assert_told(
        &told,
        &config,
        &["invalid configuration file", "line 1, column 15"],
    );
    assert_eq!(told.matches("invalid").count(), 1, "{told}");
    fs::write(
        &config,
        "secrets:\n  provider_type: encrypted\n  setup_completed: true\n",
    )
    .expect("written");
    let secrets = machine.dirs().data.join("toolhive/secrets_encrypted");
    fs::create_dir_all(secrets.parent().expect("a folder")).expect("a folder");
    fs::write(&secrets, "short").expect("written");
    let password = machine.folder().join("password");
    fs::write(&password, "password").expect("written");
    let list = "exec \"$0\" secret list --secrets-password-fd 3 3<\"$1\"";
    let mut command = machine.program("sh");
    command.arg("-c").arg(list).arg(thv_tests::thv()).arg(&password);
    let told = machine.finish(command).await.failed().stderr;
    assert_told(
        &told,
        &secrets,
        &["it is too short", "restore it from a copy, or remove it"],
    );
}
