//! What is said of servers that fail: their own last words, and those of this attempt alone.

mod drill;

use std::path::Path;

use drill::{exec, lives, signal};
use rustix::process::Signal;
use thv::core::WorkloadStatus;
use thv_tests::{Machine, Output, WAIT, eventually};

/// `thv run` of a script of the shell as a stdio server.
async fn run_script(machine: &Machine, name: &str, script: &str, flags: &[&str]) -> Output {
    let run = ["run", "exec:///bin/sh", "--name", name, "--transport", "stdio"];
    machine
        .thv(run.iter().chain(flags).chain(&["--", "-c", script]))
        .await
}

#[tokio::test]
async fn a_server_that_wrote_very_much_still_fails_with_its_reason_and_the_end_of_it() {
    let machine = Machine::new();
    let name = machine.name("loud");
    let script = r#"head -c 100000 /dev/zero | tr "\0" x >&2; exit 5"#;
    let output = run_script(&machine, &name, script, &["--wait=1m"]).await.failed();
    let output = output.says([&*name, "code 5", "xxxxx"]);
    assert!(output.stderr.len() < 4000, "{}", output.stderr.len());
}

#[tokio::test]
async fn what_is_no_server_is_told() {
    let machine = Machine::new();
    let (echo, other) = (machine.name("echo"), machine.name("other"));
    let cat = run_script(&machine, &echo, "cat", &["--wait=1m"]).await;
    cat.failed().says(["sends back whatever it is sent"]);
    // Nobody listens there.
    let sleeper = [
        "run",
        "exec:///bin/sleep",
        "--transport=sse",
        "--wait=4s",
        "--name",
    ];
    let wrong = machine
        .thv([&sleeper[..], &[&other, "--", "1000"]].concat())
        .await;
    wrong
        .failed()
        .says(["was not ready within 4s", "Connection refused"]);
    machine.thv(["rm", &other]).await.ok();
}

#[tokio::test]
async fn a_server_that_a_signal_ended_is_told_with_the_signal() {
    let machine = Machine::new();
    let name = machine.name("crashing");
    let output = run_script(&machine, &name, "kill -SEGV $$", &["--wait=1m"]).await;
    output.failed().says(["code 139", "SIGSEGV"]);
}

#[tokio::test]
async fn the_last_lines_are_those_of_this_attempt() {
    let machine = Machine::new();
    let name = machine.name("again");
    let count = machine.folder().join("count");
    let script = format!(
        r#"n=$(cat {0} 2>/dev/null || echo 0); n=$((n+1)); echo $n > {0}; echo "attempt $n" >&2; exit 4"#,
        count.display()
    );
    let first = run_script(&machine, &name, &script, &["--wait=1m"])
        .await
        .failed();
    first.says(["code 4", "attempt 1"]);
    for attempt in 2..4 {
        let start = ["start", &name, "--wait=1m", "--format", "json"];
        let again = machine.thv(start).await.failed();
        let again = again.says(["code 4", &format!("attempt {attempt}")]);
        let told = again.json();
        assert_eq!(
            (&told["name"], &told["ok"]),
            (&name.as_str().into(), &false.into())
        );
        assert_eq!(told["error"]["code"], "start_failed", "{told}");
        let before = format!("attempt {}", attempt - 1);
        assert!(!again.stderr.contains(&before), "{again}");
    }
}

/// A server that is ready the first time, and fails as soon as a file is there.
fn mortal(flag: &Path) -> String {
    let server = exec();
    let program = server.trim_start_matches("exec://");
    format!(
        r#"if [ -e {} ]; then echo "out of luck" >&2; exit 7; fi; exec {program} "$@""#,
        flag.display()
    )
}

#[tokio::test]
async fn a_server_that_fails_again_and_again_is_seen() {
    let machine = Machine::new();
    let name = machine.name("looping");
    let flag = machine.folder().join("flag");
    run_script(&machine, &name, &mortal(&flag), &["--wait=1m"])
        .await
        .ok();
    machine.thv(["stop", &name]).await.ok();
    std::fs::write(&flag, "").expect("a file");

    let started = machine.thv(["start", &name, "--launch-timeout=8s"]).await.ok();
    started.says(["still starting", "code 7"]);
    machine.thv(["list"]).await.ok().says([&*name, "code 7"]);
    let again = machine.thv(["start", &name, "--launch-timeout=100ms"]).await.ok();
    again.says(["started already", "code 7"]);
    let json = ["start", &name, "--launch-timeout=100ms", "--format", "json"];
    let json = machine.thv(json).await.ok().json();
    assert_eq!(json["ready"], false);
    assert!(
        json["context"].as_str().is_some_and(|it| it.contains("code 7")),
        "{json}"
    );
    let late = machine.thv(["start", &name, "--wait=100ms"]).await.failed();
    late.says(["was not ready", "code 7"]);
    machine.thv(["rm", &name]).await.ok();
    machine.assert_nothing_lives(&[]);
}

#[tokio::test]
async fn one_that_is_on_its_way_up_is_no_trouble_and_the_wait_is_as_long_as_was_said() {
    let machine = Machine::new();
    let name = machine.name("slow");
    let run = [
        "run",
        &exec(),
        "--name",
        &name,
        "--transport",
        "stdio",
        "--launch-timeout=200ms",
        "--",
        "--no-answer",
    ];
    machine
        .thv(run)
        .await
        .ok()
        .says(["still starting; it will be at"]);
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Starting);
    let listed = machine.thv(["list"]).await.ok();
    assert_eq!(listed.stderr, "", "{listed}");
    machine
        .thv(["restart", &name, "--no-wait"])
        .await
        .ok()
        .says(["still starting; it will be at"]);
    let late = machine.thv(["start", &name, "--wait=100ms"]).await.failed();
    late.says(["was not ready within 100ms"]);
    machine.thv(["rm", &name]).await.ok();
}

#[tokio::test]
async fn an_interrupted_wait_says_what_goes_on_and_how_to_end_it() {
    let machine = Machine::new();
    let name = machine.name("waited-for");
    let run = [
        "run",
        &exec(),
        "--name",
        &name,
        "--transport",
        "stdio",
        "--wait",
        "--",
        "--no-answer",
    ];
    let child = machine.command(run).spawn().expect("it starts");
    let pid = child.id().expect("it runs");
    // Its server runs: the launch is a supervisor's by now.
    eventually(WAIT, "the server runs", async || {
        let server = machine
            .processes()
            .into_iter()
            .any(|pid| line_of(pid).contains("echo-server"));
        server.then_some(())
    })
    .await;
    signal(pid, Signal::INT);
    let output = child.wait_with_output().await.expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    let expected = format!("\"{name}\" goes on starting; \"thv stop {name}\" ends it\n");
    assert!(said.ends_with(&expected), "{said}");
    machine.thv(["stop", &name]).await.ok();
    machine.assert_nothing_lives(&[]);
}

fn line_of(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line)
        .split('\0')
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn a_start_in_the_foreground_that_fails_says_why_and_leaves_nothing() {
    let machine = Machine::new();
    let name = machine.name("front");
    let script = "echo 'no luck today' >&2; exit 6";
    let failed = run_script(&machine, &name, script, &["--foreground"])
        .await
        .failed();
    let failed = failed.says([&*name, "code 6", "no luck today"]);
    assert_eq!(failed.stderr.matches("no luck today").count(), 1, "{failed}");
    assert!(!failed.stderr.contains("ERROR"), "{failed}");
    assert_eq!(machine.workload(&name).await.status, WorkloadStatus::Error);
    machine.assert_nothing_lives(&[]);
    let failed = machine.thv(["start", &name, "--foreground"]).await.failed();
    failed.says([&*name, "code 6", "no luck today"]);
    machine.assert_nothing_lives(&[]);
}

#[tokio::test]
async fn a_second_interrupt_in_the_foreground_does_not_wait_for_a_stubborn_server() {
    let machine = Machine::new();
    let name = machine.name("twice");
    let run = [
        "run",
        &exec(),
        "--name",
        &name,
        "--transport",
        "stdio",
        "--foreground",
        "--",
        "--ignore-sigterm",
        "--ignore-eof",
    ];
    let mut child = machine.command(run).spawn().expect("it starts");
    let pid = child.id().expect("it runs");
    let shows = async |status| {
        eventually(WAIT, "its status", async || {
            let found = machine.find(&name).await?;
            (found.status == status).then_some(())
        })
        .await;
    };
    shows(WorkloadStatus::Running).await;
    signal(pid, Signal::INT);
    shows(WorkloadStatus::Stopping).await;
    assert!(lives(pid), "it waits for its server");
    signal(pid, Signal::INT);
    let ended = tokio::time::timeout(WAIT, child.wait()).await;
    assert_eq!(ended.expect("it ends").expect("it was there").code(), Some(130));
}
