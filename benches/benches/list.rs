//! `list` of many workloads beside the least that it must do: read and parse their three files each.
//!
//! `cargo bench -p thv-benches --bench list`

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::path::Path;
use std::time::{Duration, Instant};

use thv::core::{Dirs, Env, RunConfig};
use thv::manager::{ListOptions, Manager};

const RUNS: usize = 15;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    println!(
        "{:>9}  {:>10}  {:>10}  {:>6}",
        "workloads", "list", "bare", "ratio"
    );
    for count in [1, 100, 1_000, 10_000] {
        let folder = tempfile::tempdir().expect("a folder");
        let dirs = Dirs::under(folder.path());
        write(&dirs, count);
        let manager = manager(&dirs);
        let (mut list, mut bare) = (Vec::new(), Vec::new());
        // In turn, so that a machine that changes its speed changes both.
        for _ in 0..RUNS {
            list.push(time(|| {
                let all = ListOptions {
                    all: true,
                    ..ListOptions::default()
                };
                let outcome = runtime.block_on(manager.list(all)).expect("a list");
                assert_eq!(outcome.workloads.len(), count);
            }));
            bare.push(time(|| assert_eq!(read_and_parse(&dirs), 3 * count)));
        }
        let (list, bare) = (median(list), median(bare));
        println!(
            "{count:>9}  {:>8.2}ms  {:>8.2}ms  {:>6.2}",
            list.as_secs_f64() * 1e3,
            bare.as_secs_f64() * 1e3,
            list.as_secs_f64() / bare.as_secs_f64()
        );
    }
}

/// Only files: no engine is asked.
fn manager(dirs: &Dirs) -> Manager {
    thv::manager_in(dirs.clone(), Env::default())
        .and_then(|builder| {
            builder
                .runtimes(thv::runtime::Runtimes::new())
                .launcher_id("bench")
                .build()
        })
        .expect("a manager")
}

fn write(dirs: &Dirs, count: usize) {
    for folder in [dirs.runconfigs(), dirs.lifecycle(), dirs.statuses()] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    let example = include_bytes!("../../crates/thv-core/tests/data/stdio-container.json");
    let config = RunConfig::from_json(example).expect("the example").to_json();
    let status = "{\n  \"status\": \"stopped\",\n  \"created_at\": \"2026-08-21T10:12:13Z\",\n  \"updated_at\": \
                  \"2026-08-21T10:12:19Z\",\n  \"process_id\": 0\n}";
    let companion = r#"{"version":1,"claim":"7875a560bce5fd85695bda5af37f6eb8","revision":29,"launcher":"thv",
        "desired":"stopped","runtime":{"kind":"docker"},"instance":"865cd91d903ed7df01487f9e21bf18b6","isolated":false,
        "ready":"36d50200023df9c7c06f5836eff91a6ad1586a3ee9131aa6751c34e0e754437f","status_file":{"before":null,
        "after":null},"last":{"status":"stopped","context":"","process_id":0}}"#;
    for number in 0..count {
        let name = format!("workload-{number}");
        let put = |folder: std::path::PathBuf, text: &str| {
            std::fs::write(folder.join(format!("{name}.json")), text).expect("a file");
        };
        put(dirs.runconfigs(), &config.replace("everything", &name));
        put(dirs.lifecycle(), companion);
        put(dirs.statuses(), status);
    }
}

fn read_and_parse(dirs: &Dirs) -> usize {
    let parse = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
    };
    [dirs.runconfigs(), dirs.lifecycle(), dirs.statuses()]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("a folder"))
        .map(|entry| parse(&entry.expect("an entry").path()))
        .filter(serde_json::Value::is_object)
        .count()
}

fn time(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
