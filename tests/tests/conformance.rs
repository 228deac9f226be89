//! The official conformance suite: first against a server of ours by itself, then through each proxy before it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thv_tests::{Machine, WAIT, conformance};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Scenarios of the suite, version 0.1.16, for servers.
const SCENARIOS: usize = 32;

/// Checks that must not succeed, each with its reason: one that does is an outdated entry, and fails too.
type Expected = &'static [(&'static str, &'static str)];

/// With a stdio server there is no stream that it could close.
const STDIO: Expected = &[
    (
        "server-sse-priming-event",
        "an answer that comes in one piece leaves nothing to be taken up again",
    ),
    (
        "server-sse-retry-field",
        "the stream of such an answer does not end before it",
    ),
];

const SERVER: &str = env!("CARGO_BIN_EXE_conformance-server");

/// Runs the whole suite against `url`.
async fn check(machine: &Machine, suite: &Path, url: &str, expected: Expected) {
    let folder = tempfile::Builder::new()
        .tempdir_in(machine.folder())
        .expect("a folder");
    let mut command = machine.program(suite.join("node"));
    command.arg(suite.join("node_modules/@modelcontextprotocol/conformance/dist/index.js"));
    command.args(["server", "--suite", "all", "--url", url, "--output-dir"]);
    let output = machine.finish({
        command.arg(folder.path());
        command
    });
    let output = output.await;
    let results = results(folder.path());
    assert_eq!(results.len(), SCENARIOS, "{url}: {output}");
    let (mut problems, mut seen) = (Vec::new(), BTreeSet::new());
    for (scenario, check) in results.iter().flat_map(|(scenario, checks)| {
        let checks = checks.as_array().expect("a list of checks");
        checks.iter().map(move |check| (scenario, check))
    }) {
        let id = check["id"].as_str().unwrap_or_default();
        match check["status"].as_str() {
            Some("SUCCESS" | "INFO" | "SKIPPED") => {}
            _ if expected.iter().any(|(known, _)| *known == id) => {
                seen.insert(id.to_owned());
            }
            _ => problems.push(format!("{scenario}: {check}")),
        }
    }
    for (id, reason) in expected {
        if !seen.contains(*id) {
            problems.push(format!(
                "{id} was expected to fail ({reason}), and does not: take it out of the list"
            ));
        }
    }
    assert!(problems.is_empty(), "{url}:\n{}", problems.join("\n"));
}

/// The checks of each scenario, by its name.
fn results(folder: &Path) -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(folder).expect("readable");
    entries
        .map(|entry| {
            let path: PathBuf = entry.expect("readable").path();
            let text = std::fs::read(path.join("checks.json")).expect("each scenario has its checks");
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            (
                name.unwrap_or_default(),
                serde_json::from_slice(&text).expect("JSON"),
            )
        })
        .collect()
}

#[tokio::test]
async fn the_server_itself_passes() {
    let Some(suite) = conformance() else { return };
    let machine = Machine::new();
    let mut command = machine.program(SERVER);
    command.env("MCP_TRANSPORT", "streamable-http");
    let mut child = command.spawn().expect("the server starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it was asked for")).lines();
    let line = tokio::time::timeout(WAIT, lines.next_line()).await;
    let line = line.expect("it says where it listens").expect("readable");
    let line = line.expect("it says where it listens");
    let url = line.rsplit(' ').next().expect("an URL");
    check(&machine, &suite, url, &[]).await;
}

#[tokio::test]
async fn a_stdio_server_passes_behind_its_proxy() {
    let Some(suite) = conformance() else { return };
    let machine = Machine::new();
    let url = run(&machine, "stdio").await;
    check(&machine, &suite, &url, STDIO).await;
}

#[tokio::test]
async fn an_http_server_passes_behind_its_proxy() {
    let Some(suite) = conformance() else { return };
    let machine = Machine::new();
    let url = run(&machine, "streamable-http").await;
    check(&machine, &suite, &url, &[]).await;
}

async fn run(machine: &Machine, transport: &str) -> String {
    let name = machine.name("conformance");
    let server = format!("exec://{SERVER}");
    let args = [
        "run",
        "--wait=1m",
        &server,
        "--name",
        &name,
        "--transport",
        transport,
    ];
    machine.thv(args).await.ok();
    machine.workload(&name).await.url
}
