//! Logs of servers and of their proxies.

mod drill;

use drill::{exec, run, run_echo};
use serde_json::json;
use thv_tests::{Client, Machine, WAIT};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// The names of the files in a folder.
fn files_in(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_proxys_log_is_rotated_while_it_runs_and_read_as_one() {
    let mut machine = Machine::new();
    machine.set("TOOLHIVE_LOG_MAX_SIZE", "1024");
    let name = machine.name("rotated");
    run_echo(&machine, &name).await;
    let mut lives = 1;
    let rotated = machine.dirs().proxy_logs().join(format!("{name}.log.1"));
    while !rotated.exists() {
        assert!(
            lives < 20,
            "it grows and grows: {:?}",
            files_in(&machine.dirs().proxy_logs())
        );
        machine.thv(["restart", &name, "--wait=1m"]).await.ok();
        lives += 1;
    }
    let log = machine.dirs().proxy_logs().join(format!("{name}.log"));
    let length = std::fs::metadata(&log).expect("it is there").len();
    assert!(length <= 1024, "{length}");
    let all = machine.thv(["logs", &name, "--proxy"]).await.ok();
    let last = machine.thv(["logs", &name, "--proxy", "--tail", "2"]).await.ok();
    assert_eq!(last.stdout.lines().count(), 2);
    assert!(all.stdout.ends_with(&last.stdout), "{all}");
    let ready = all.stdout.lines().filter(|line| line.contains("ready")).count();
    assert!(ready >= lives, "{lives} lives, {all}");
}

#[tokio::test]
async fn a_servers_log_is_rotated_while_it_runs() {
    let mut machine = Machine::new();
    machine.set("TOOLHIVE_LOG_MAX_SIZE", "1024");
    let name = machine.name("chatty");
    let chatty = machine.folder().join("chatty");
    let script = format!(
        "#!/bin/sh\ni=0; while [ $i -lt 5000 ]; do echo line $i >&2; i=$((i+1)); done\nexec {}\n",
        thv_tests::echo_server().display()
    );
    std::fs::write(&chatty, script).expect("a file");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&chatty, executable).expect("a mode");
    let server = format!("exec://{}", chatty.display());
    let workload = run(&machine, &name, &server, &["--transport", "stdio"]).await;
    let folder = machine.dirs().server_logs();
    assert_eq!(
        files_in(&folder),
        ["", ".1", ".2"].map(|number| format!("{name}.log{number}"))
    );
    let client = Client::connect(&workload.url).await;
    assert_eq!(client.call("echo", json!({ "text": "on" })).await, "on");
    client.close().await;
    let tail = machine.thv(["logs", &name, "--tail", "100"]).await.ok();
    assert!(tail.stdout.contains("line 4999\n"), "{tail}");
    machine.thv(["rm", &name]).await.ok();
    assert_eq!(files_in(&folder), [""; 0]);
}

#[tokio::test]
async fn who_follows_ends_with_its_reader() {
    let machine = Machine::new();
    let name = machine.name("followed");
    run_echo(&machine, &name).await;
    for args in [
        &["logs", &name, "--proxy", "--follow"][..],
        &["events", "--initial", &name],
    ] {
        let mut child = machine.command(args).spawn().expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let line = lines.next_line().await.expect("it is read");
        assert!(line.is_some(), "{args:?} shows nothing");
        // Nothing more comes, so that no write could tell.
        drop(lines);
        let ended = tokio::time::timeout(WAIT, child.wait()).await;
        let code = ended.unwrap_or_else(|_| panic!("{args:?} does not end"));
        assert_eq!(code.expect("it was started").code(), Some(0), "{args:?}");
    }
    machine.thv(["rm", &name]).await.ok();
}

#[tokio::test]
async fn logs_of_what_does_not_exist_are_pruned() {
    let machine = Machine::new();
    let (kept, gone) = (machine.name("kept"), machine.name("gone"));
    for name in [&kept, &gone] {
        run(&machine, name, &exec(), &["--transport", "stdio"]).await;
    }
    machine.thv(["stop", &kept]).await.ok();
    machine.thv(["rm", &gone]).await.ok();
    let folder = machine.dirs().proxy_logs();
    let other = folder.join("notes.txt");
    for file in [
        folder.join(format!("{gone}.log.1")),
        folder.join(format!("{kept}.log.1")),
        other,
    ] {
        std::fs::write(file, "text").expect("a file");
    }
    let pruned = machine.thv(["logs", "prune"]).await.ok();
    let expected = [format!("{gone}.log"), format!("{gone}.log.1")].map(|file| folder.join(file));
    let shown: Vec<_> = pruned.stdout.lines().map(std::path::PathBuf::from).collect();
    assert_eq!(shown, expected, "{pruned}");
    assert_eq!(
        files_in(&folder),
        [
            format!("{kept}.log"),
            format!("{kept}.log.1"),
            "notes.txt".to_owned()
        ]
    );
    machine.thv(["logs", &kept, "--proxy"]).await.ok();
    let nothing = machine.thv(["logs", "prune"]).await.ok();
    assert_eq!(nothing.stdout, "");
    let left = folder.join(format!("{gone}.log"));
    std::fs::write(&left, "text").expect("a file");
    let pruned = machine.thv(["logs", "prune", "--format", "json"]).await.ok();
    assert_eq!(pruned.json(), serde_json::json!([left]));
    let refused = machine.thv(["logs", &kept, "--format", "json"]).await;
    refused.failed().says(["logs prune"]);
}
