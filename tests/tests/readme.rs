//! The commands that the README shows first, as they are.

use std::process::Stdio;

use thv::core::WorkloadStatus;
use thv_tests::{Client, Machine, Output, WAIT, docker, echo_server, embed, eventually, quickstart};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

/// `cargo run -p quickstart`, on a machine where cargo finds its toolchain.
fn quickstart_on(machine: &Machine, args: &[&str]) -> Command {
    let mut command = machine.program(quickstart());
    for name in ["HOME", "CARGO", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.args(args);
    command
}

/// Its steps came in order, and it cleaned up.
fn assert_told(machine: &Machine, output: &Output) {
    let mut rest = &*output.stdout;
    for step in [
        "Build the echo server",
        "Run it as a workload",
        "/mcp\n",
        "is not isolated",
        "Connect as a client",
        "Call the tool `echo` with \"hello\"",
        "\"hello\"\n",
        "List",
        "1 workload(s)\n",
        "running  http://",
        "Read its log",
        "somebody said \"hello\"\n",
        "Stop",
        "stopped\n",
        "Start again",
        "on the same port\n",
        "Call the tool `echo` with \"hello again\"",
        "Remove",
        "0 workload(s) left\n",
    ] {
        let Some((_, after)) = rest.split_once(step) else {
            panic!("no {step:?} in its place: {output}");
        };
        rest = after;
    }
    assert_cleaned(machine);
}

fn assert_cleaned(machine: &Machine) {
    machine.assert_nothing_lives(&[]);
    let left: Vec<_> = std::fs::read_dir(&machine.dirs().temp)
        .expect("a folder")
        .flatten()
        .map(|it| it.path())
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[tokio::test]
async fn quickstart_tells_the_whole_life_of_a_local_server() {
    let machine = Machine::new();
    let output = machine.finish(quickstart_on(&machine, &[])).await.ok();
    assert_told(&machine, &output);
}

#[tokio::test]
async fn quickstart_tells_the_whole_life_of_a_container_beside_others() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let name = machine.name("other");
    let run = ["run", docker.image(), "--name", &name, "--transport", "stdio"];
    machine.thv(run).await.ok();
    let nothing = Machine::new();
    let mut command = quickstart_on(&nothing, &["--runtime", "docker"]);
    command.env("DOCKER_HOST", docker.host());
    // The engine is spoken to without its command line.
    let path = machine.folder().join("path");
    std::fs::create_dir(&path).expect("a folder");
    std::os::unix::fs::symlink("/bin/false", path.join("docker")).expect("a link");
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let paths = [path].into_iter().chain(std::env::split_paths(&inherited));
    command.env("PATH", std::env::join_paths(paths).expect("a path"));
    let output = nothing.finish(command).await.ok();
    assert_told(&nothing, &output);
    assert!(docker.instance(&name).await.is_some(), "it was not its to remove");
    let images = docker.get("/images/json").await;
    assert!(!images.contains("thv-quickstart-echo"), "{images}");
}

#[tokio::test]
async fn an_interrupted_quickstart_cleans_up() {
    let machine = Machine::new();
    let mut child = quickstart_on(&machine, &[]).spawn().expect("it starts");
    let mut out = child.stdout.take().expect("it is piped");
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("Run it as a workload") {
        let read = tokio::time::timeout(WAIT * 4, out.read_buf(&mut said)).await;
        assert_ne!(read.expect("it goes on").expect("a pipe"), 0, "it ended");
    }
    interrupt(&child);
    let output = child.wait_with_output().await.expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    // It may have been at its end already.
    assert!(
        output.status.success() || told.contains("Error: interrupted"),
        "{told}"
    );
    assert_cleaned(&machine);
}

fn interrupt(child: &tokio::process::Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).expect("it runs");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is ours");
}

#[tokio::test]
async fn an_application_in_forty_lines_brings_its_workload_back() {
    let machine = Machine::new();
    let server = format!("exec://{}", echo_server().display());
    for life in 0..2 {
        let mut command = machine.program(embed());
        command.arg(&server).stderr(Stdio::inherit());
        let mut application = command.spawn().expect("it starts");
        let mut lines = BufReader::new(application.stdout.take().expect("it is piped")).lines();
        let mut says = async |part: &str| loop {
            let line = tokio::time::timeout(WAIT, lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("it does not say {part:?}"));
            let line = line
                .expect("a pipe")
                .unwrap_or_else(|| panic!("it ended before {part:?}"));
            if line.contains(part) {
                break;
            }
        };
        if life == 1 {
            says("reconciled embedded: Started").await;
        }
        says("embedded serves at http://127.0.0.1:").await;
        let workload = machine.workload("embedded").await;
        let client = Client::connect(&workload.url).await;
        assert_eq!(
            client.call("add", serde_json::json!({ "a": 1, "b": 2 })).await,
            "3"
        );
        client.close().await;
        if life == 1 {
            machine.thv(["stop", "embedded"]).await.ok();
            says("status: Stopped").await;
        }
        interrupt(&application);
        let ended = tokio::time::timeout(WAIT, application.wait())
            .await
            .expect("it ends");
        assert!(ended.expect("it was there").success());
        machine.assert_nothing_lives(&[workload.port]);
        let stopped = eventually(WAIT, "it is stopped", async || {
            let found = machine.find("embedded").await?;
            (found.status == WorkloadStatus::Stopped).then_some(())
        });
        stopped.await;
    }
}

/// What the README shows of an application is in the example, line by line.
#[test]
fn the_embedding_shown_is_the_examples() {
    let readme = include_str!("../../README.md");
    let shown = readme
        .split("```rust\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let lines = |text: &str| text.lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>();
    let (shown, example) = (
        lines(shown.expect("a piece of Rust")),
        lines(include_str!("../../examples/embed/src/main.rs")),
    );
    assert!(
        example.windows(shown.len()).any(|part| part == shown),
        "examples/embed does not have:\n{}",
        shown.join("\n")
    );
    assert!(readme.contains(&format!("a whole application in {} lines", example.len())));
}
