//! `list` of many workloads, by a new manager and by the same one again, beside the least that it must do: read and parse their files, three each and a fourth for
//! those that run.
//!
//! A half of them runs, up to 500: copies of one real workload, whose process and proxy all of them name. Both runtimes
//! are asked; the engine's part is there where an engine answers at `THV_TEST_SOCKET`.
//!
//! `cargo bench -p thv-benches --bench list`

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use thv::core::{Dirs, Env, RunConfig, TransportType, WorkloadStatus};
use thv::manager::{ListOptions, Manager, RunOptions, RunRequest, ShutdownMode, WaitFor};
use thv_benches::engine::Engine;
use thv_benches::{median, programs};

const RUNS: usize = 15;
/// Each holds a lock, and a process has so many files.
const MOST_RUNNING: usize = 500;
/// Files that are older than this are not read again while they are as they were.
const SETTLED: Duration = Duration::from_millis(2_100);
/// The workload that the others are copies of.
const TEMPLATE: &str = "the-template-of-all";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let engine = runtime.block_on(Engine::find());
    let asked = if engine.is_some() {
        "docker and local"
    } else {
        "local; no engine"
    };
    println!("runtimes: {asked}");
    println!(
        "{:>9}  {:>7}  {:>10}  {:>10}  {:>10}  {:>6}  {:>6}",
        "workloads", "running", "first", "again", "bare", "first", "again"
    );
    let server = programs::release("echo-server", "echo-server");
    for count in [1, 100, 1_000, 10_000] {
        let folder = tempfile::tempdir().expect("a folder");
        let dirs = Dirs::under(folder.path());
        let manager = manager(&dirs, engine.as_ref());
        runtime.block_on(run_template(&manager, &dirs, &server));
        let running = (count / 2).min(MOST_RUNNING);
        write_stopped(&dirs, count - running);
        let _owners = copy_running(&dirs, running);
        // What was changed just now is read again each time.
        std::thread::sleep(SETTLED);
        check(&runtime, &manager, running + 1);
        let (mut first, mut again, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        // In turn, so that a machine that changes its speed changes both.
        for _ in 0..RUNS {
            let list = |manager: &Manager| {
                let listed = runtime.block_on(manager.list(all())).expect("a list");
                assert!(listed.workloads.len() > count);
            };
            first.push(time(|| list(&self::manager(&dirs, engine.as_ref()))));
            again.push(time(|| list(&manager)));
            bare.push(time(|| assert!(read_and_parse(&dirs) >= 3 * count + running)));
        }
        let [first, again, bare] = [first, again, bare].map(|times| median(times).as_secs_f64());
        println!(
            "{count:>9}  {running:>7}  {:>8.2}ms  {:>8.2}ms  {:>8.2}ms  {:>6.2}  {:>6.2}",
            first * 1e3,
            again * 1e3,
            bare * 1e3,
            first / bare,
            again / bare
        );
        runtime
            .block_on(manager.shutdown(ShutdownMode::Stop))
            .expect("an end");
    }
}

fn all() -> ListOptions {
    ListOptions {
        all: true,
        ..ListOptions::default()
    }
}

/// With the runtimes that the command line has.
fn manager(dirs: &Dirs, engine: Option<&Engine>) -> Manager {
    let socket = engine.map_or_else(
        || dirs.temp.join("no-engine.sock"),
        |engine| engine.socket().to_owned(),
    );
    let vars = [
        ("DOCKER_HOST", format!("unix://{}", socket.display())),
        ("PATH", std::env::var("PATH").unwrap_or_default()),
    ];
    thv::manager_in(dirs.clone(), Env::from_vars(vars))
        .and_then(|builder| builder.launcher_id("bench").build())
        .expect("a manager")
}

async fn run_template(manager: &Manager, dirs: &Dirs, server: &Path) {
    for needed in [&dirs.home, &dirs.temp] {
        std::fs::create_dir_all(needed).expect("a folder");
    }
    let mut request = RunRequest::new(format!("exec://{}", server.display()));
    request.name = Some(TEMPLATE.to_owned());
    request.transport = Some(TransportType::Stdio);
    request.runtime = Some("local".into());
    let options = RunOptions {
        wait: WaitFor::Ready(Duration::from_mins(1)),
        ..RunOptions::default()
    };
    Box::pin(manager.run(request, options)).await.expect("it runs");
}

/// The copies that are made do run, as far as `list` can see.
fn check(runtime: &tokio::runtime::Runtime, manager: &Manager, running: usize) {
    let listed = runtime.block_on(manager.list(all())).expect("a list").workloads;
    let found = listed.iter().filter(|it| it.status == WorkloadStatus::Running);
    assert!(found.count() >= running, "the copies do not run");
}

fn folders(dirs: &Dirs) -> [PathBuf; 4] {
    let lifecycle = dirs.lifecycle();
    [
        dirs.runconfigs(),
        dirs.statuses(),
        lifecycle.join("instances"),
        lifecycle,
    ]
}

/// Copies the template's files under other names, and holds what a proxy holds.
fn copy_running(dirs: &Dirs, count: usize) -> Vec<File> {
    let mut owners = Vec::new();
    for number in 0..count {
        let name = format!("running-{number}");
        for folder in folders(dirs) {
            let text = std::fs::read_to_string(folder.join(format!("{TEMPLATE}.json"))).expect("a file");
            std::fs::write(folder.join(format!("{name}.json")), text.replace(TEMPLATE, &name))
                .expect("a file");
        }
        let owner = File::create(dirs.lifecycle().join(format!("{name}.owner"))).expect("a file");
        owner.lock().expect("a lock");
        owners.push(owner);
    }
    owners
}

fn write_stopped(dirs: &Dirs, count: usize) {
    let example = include_bytes!("../../crates/thv-core/tests/data/stdio-container.json");
    let config = RunConfig::from_json(example).expect("the example").to_json();
    let status = "{\n  \"status\": \"stopped\",\n  \"created_at\": \"2026-08-21T10:12:13Z\",\n  \"updated_at\": \
                  \"2026-08-21T10:12:19Z\",\n  \"process_id\": 0\n}";
    let companion = r#"{"version":1,"claim":"7875a560bce5fd85695bda5af37f6eb8","revision":29,"launcher":"thv",
        "desired":"stopped","runtime":{"kind":"docker"},"instance":"865cd91d903ed7df01487f9e21bf18b6","isolated":false,
        "ready":"36d50200023df9c7c06f5836eff91a6ad1586a3ee9131aa6751c34e0e754437f","status_file":{"before":null,
        "after":"@"},"last":{"status":"stopped","context":"","process_id":0}}"#;
    // As it is while nobody but us writes.
    let companion = companion.replace('@', &sha256(status.as_bytes()));
    for number in 0..count {
        let name = format!("stopped-{number}");
        let put = |folder: PathBuf, text: &str| {
            std::fs::write(folder.join(format!("{name}.json")), text).expect("a file");
        };
        put(dirs.runconfigs(), &config.replace("everything", &name));
        put(dirs.lifecycle(), &companion);
        put(dirs.statuses(), status);
    }
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn read_and_parse(dirs: &Dirs) -> usize {
    let parse = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
    };
    let entries = folders(dirs);
    entries
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter(|path| parse(path).is_object())
        .count()
}

fn time(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}
