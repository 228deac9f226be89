//! What a workload costs beside its server: the resident memory of the detached proxy of the released `thv`, at rest,
//! after calls, after large ones, and with many clients at once; and how often it wakes up while nobody calls.
//!
//! `cargo bench -p thv-benches --bench memory`; in a container too where an engine answers at `THV_TEST_SOCKET`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use thv_benches::engine::Engine;
use thv_benches::programs;
use thv_benches::session::Session;

/// What a proxy may take at rest, and with so many clients.
const GOAL: f64 = 12.0;
const CROWD: usize = 1_000;
const CROWD_GOAL: f64 = 32.0;

/// How long is watched how often an idle proxy wakes up.
const IDLE: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let engine = Engine::find().await;
    let host = match &engine {
        Some(engine) => format!("unix://{}", engine.socket().display()),
        None => "unix:///nowhere.sock".to_owned(),
    };
    let name = format!("measured-{}", std::process::id());
    let machine = Machine {
        folder: tempfile::tempdir().expect("a folder"),
        thv: programs::release("thv-cli", "thv"),
        host,
        name,
    };
    if let Some(engine) = engine {
        let image = engine
            .import(
                &programs::static_echo(),
                "localhost/thv-bench/memory",
                &machine.name,
            )
            .await;
        idle_in_a_container(&machine, &image).await;
        engine.remove_image(&image).await;
    }
    let server = programs::release("echo-server", "echo-server");
    let server = format!("exec://{}", server.display());
    for transport in ["stdio", "streamable-http"] {
        measure(&machine, &server, transport).await;
    }
}

/// Memory and switches of a supervisor whose server is in a container, and who listens to its engine.
async fn idle_in_a_container(machine: &Machine, image: &str) {
    for transport in ["stdio", "streamable-http"] {
        let what = format!("{transport} in a container");
        let status = machine.run(image, transport, &["--isolate-network=false"]);
        let pid = &status["thv"]["proxy_pid"];
        judge(&what, "at rest", resident(pid), GOAL);
        at_rest(&what, pid).await;
        machine.thv(&["rm", &machine.name]);
    }
}

/// How often it wakes up while nobody calls.
async fn at_rest(what: &str, pid: &Value) {
    let before = switches(pid);
    tokio::time::sleep(IDLE).await;
    let after = switches(pid);
    let new = |(thread, count): (&PathBuf, &u64)| count - before.get(thread).copied().unwrap_or(0);
    let switches: u64 = after.iter().map(new).sum();
    println!(
        "{what}: {switches} context switches in {} s at rest",
        IDLE.as_secs()
    );
}

async fn measure(machine: &Machine, server: &str, transport: &str) {
    let status = machine.run(server, transport, &[]);
    let (url, pid) = (
        status["url"].as_str().expect("a URL"),
        &status["thv"]["proxy_pid"],
    );
    judge(transport, "at rest", resident(pid), GOAL);
    at_rest(transport, pid).await;
    judge(
        transport,
        "with 1,000 clients that call at once",
        crowd(url, pid).await,
        CROWD_GOAL,
    );
    for (what, calls, length) in [
        ("1,000 calls of 100 B", 1_000, 100),
        ("20 calls of 1 MB", 20, 1_000_000),
    ] {
        for _ in 0..calls {
            call(url, length).await;
        }
        println!("{transport}: {:.1} MiB after {what}", resident(pid));
    }
    machine.thv(&["rm", &machine.name]);
}

fn judge(transport: &str, when: &str, resident: f64, goal: f64) {
    let verdict = if resident <= goal { "within" } else { "above" };
    println!("{transport}: {resident:.1} MiB {when}, {verdict} {goal} MiB");
}

/// Has many sessions call at the same time, and looks while all are open.
async fn crowd(url: &str, pid: &Value) -> f64 {
    let address = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split('/').next());
    let address = address
        .and_then(|address| address.parse().ok())
        .expect("an address");
    let opening = (0..CROWD).map(|_| Session::open(address, "/mcp", true));
    let mut sessions = try_join_all(opening).await.expect("sessions");
    let payload = "x".repeat(100);
    for number in 0..3 {
        let calls = sessions
            .iter_mut()
            .map(|session| session.call(number, "echo", &payload));
        try_join_all(calls).await.expect("answers");
    }
    resident(pid)
}

/// A session of its own with one call, as short-lived clients have.
async fn call(url: &str, length: usize) {
    let http = Client::builder(TokioExecutor::new()).build_http();
    let mut session = None;
    for (method, params) in [
        (
            "initialize",
            json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "b", "version": "1" } }),
        ),
        (
            "tools/call",
            json!({ "name": "echo", "arguments": { "text": "x".repeat(length) } }),
        ),
    ] {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut request = Request::post(url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        if let Some(session) = &session {
            request = request.header("mcp-session-id", session);
        }
        let body = Full::<Bytes>::from(message.to_string());
        let response = http
            .request(request.body(body).expect("a request"))
            .await
            .expect("an answer");
        assert!(response.status().is_success(), "{}", response.status());
        session = response.headers().get("mcp-session-id").cloned().or(session);
        response.into_body().collect().await.expect("a body");
    }
    if let Some(session) = session {
        let end = Request::delete(url).header("mcp-session-id", session);
        let _ = http.request(end.body(Full::default()).expect("a request")).await;
    }
}

/// `VmRSS` of a process, in MiB.
fn resident(pid: &Value) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<f64>().ok()).expect("kB") / 1024.0
}

/// The context switches of each thread of a process since it began.
fn switches(pid: &Value) -> BTreeMap<PathBuf, u64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let of_thread = |folder: PathBuf| {
        let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
        let lines = status.lines().filter_map(|line| line.split_once(':'));
        let counts = lines.filter(|(name, _)| name.ends_with("ctxt_switches"));
        let counts = counts.filter_map(|(_, count)| count.trim().parse::<u64>().ok());
        (folder, counts.sum())
    };
    threads.flatten().map(|thread| of_thread(thread.path())).collect()
}

/// A home of its own.
struct Machine {
    folder: tempfile::TempDir,
    thv: PathBuf,
    /// Where its engine is.
    host: String,
    /// What the workload is called: the engine has others.
    name: String,
}

impl Machine {
    /// Runs the workload; its status.
    fn run(&self, server: &str, transport: &str, more: &[&str]) -> Value {
        let run = [
            "run",
            server,
            "--name",
            &self.name,
            "--transport",
            transport,
            "--wait=1m",
        ];
        self.thv(&[&run, more].concat());
        let status = self.thv(&["status", &self.name, "--format", "json"]);
        serde_json::from_slice(&status.stdout).expect("JSON")
    }

    fn thv(&self, args: &[&str]) -> Output {
        let output = Command::new(&self.thv)
            .args(args)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DOCKER_HOST", &self.host)
            .output()
            .expect("thv");
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }
}

impl Drop for Machine {
    /// A measurement that broke off leaves nothing behind.
    fn drop(&mut self) {
        let _ = Command::new(&self.thv)
            .args(["rm", "--all"])
            .env_clear()
            .env("HOME", self.folder.path())
            .env("DOCKER_HOST", &self.host)
            .output();
    }
}
