//! The official conformance suite: first against a server of ours by itself, then through each proxy before it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thv_tests::{Machine, WAIT, conformance};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// The suite of the revisions with sessions, version 0.1.16, and how many scenarios it has for servers.
const SUITE: &str = "@modelcontextprotocol/conformance";
const SCENARIOS: usize = 32;

/// The suite of the revision without sessions, version 0.2.0-alpha.12, and how many scenarios it has for servers.
const NEXT_SUITE: &str = "conformance-2026-07-28";
const NEXT_SCENARIOS: usize = 40;

/// What its scenarios are called in which the server asks the client.
const ROUNDS: &str = "input-required-result-";
/// Those of them that say more of the proxy than of its server, and not what another one says too.
const OWN_ROUNDS: [&str; 6] = [
    "capability-check",
    "missing-input-response",
    "multi-round",
    "multiple-input-requests",
    "non-tool-request",
    "tampered-state",
];

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

/// The server behind the proxy is older.
const OLDER: Expected = &[
    (
        "sep-2575-http-server-method-not-found-404-initialize",
        "clients of all revisions are served at one address",
    ),
    (
        "sep-2575-server-rejects-undeclared-capability",
        "the server, which is told that its client cannot be asked, has no word for that",
    ),
    (
        "sep-2575-missing-capability-http-400",
        "the server, which is told that its client cannot be asked, has no word for that",
    ),
    (
        "sep-2164-data-uri",
        "the server's error says which resource is not there in words",
    ),
];

const SERVER: &str = env!("CARGO_BIN_EXE_conformance-server");

/// Runs the whole suite against `url`.
async fn check(machine: &Machine, suite: &Path, url: &str, expected: Expected) {
    let results = run_suite(machine, suite, SUITE, url, &["--suite", "all"]).await;
    assert_eq!(results.len(), SCENARIOS, "{url}: {results:?}");
    judge(url, &results, expected);
}

/// Runs a part of a version of the suite against `url`: the checks of each scenario, by its name.
async fn run_suite(
    machine: &Machine,
    suite: &Path,
    version: &str,
    url: &str,
    part: &[&str],
) -> Vec<(String, Value)> {
    let folder = tempfile::Builder::new()
        .tempdir_in(machine.folder())
        .expect("a folder");
    let mut command = machine.program(suite.join("node"));
    command.arg(suite.join("node_modules").join(version).join("dist/index.js"));
    command.args(["server", "--url", url]).args(part);
    command.arg("--output-dir").arg(folder.path());
    let output = machine.finish(command).await;
    let results = results(folder.path());
    assert!(!results.is_empty(), "{url}: {output}");
    results
}

fn judge(url: &str, results: &[(String, Value)], expected: Expected) {
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

#[tokio::test]
async fn an_older_stdio_server_passes_the_suite_of_the_revision_without_sessions() {
    let Some(suite) = conformance() else { return };
    let machine = Machine::new();
    let url = run(&machine, "stdio").await;
    let all = ["--suite", "all", "--spec-version", "2026-07-28"];
    let mut results = run_suite(&machine, &suite, NEXT_SUITE, &url, &all).await;
    assert_eq!(results.len(), NEXT_SCENARIOS, "{results:?}");
    results.retain(|(scenario, _)| !scenario.contains(ROUNDS));
    judge(&url, &results, OLDER);
}

/// Each scenario has a server of its own: it leaves calls whose clients do not come back, and while a server works on
/// those it is not known whose call makes it ask.
#[tokio::test]
async fn an_older_stdio_server_asks_clients_without_sessions_in_its_answers() {
    let Some(suite) = conformance() else { return };
    let machine = Machine::new();
    let scenarios = OWN_ROUNDS.map(async |name| {
        let url = run(&machine, "stdio").await;
        let scenario = format!("{ROUNDS}{name}");
        let one = ["--scenario", &scenario, "--spec-version", "2026-07-28"];
        let results = run_suite(&machine, &suite, NEXT_SUITE, &url, &one).await;
        judge(&url, &results, &[]);
    });
    futures_util::future::join_all(scenarios).await;
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
