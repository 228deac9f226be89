//! The catalogue that is part of the program: how long the first question takes, which decompresses and reads it, beside the
//! same text decompressed and parsed as JSON and nothing else; and how long 1,000 workloads take that are compared with it,
//! beside as many looked up in a map by name, their images compared as text.
//!
//! Promised: 30 ms for the first question, 50 ms for the workloads.
//!
//! `cargo bench -p thv-benches --bench registry`

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::HashMap;
use std::io::Read as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thv::core::RunConfig;
use thv::registry::{EmbeddedRegistry, Registry as _};
use thv::upgrade::{Checker, UpgradeStatus};
use thv_benches::median;

const RUNS: usize = 21;
const WORKLOADS: usize = 1_000;
/// What a process of its own is told to measure, since each reads the catalogue once.
const FIRST: &str = "--first-question";

static COMPRESSED: &[u8] = include_bytes!("../../crates/thv-registry/data/catalogue.json.gz");

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    if std::env::args().any(|arg| arg == FIRST) {
        let began = Instant::now();
        let catalogue = runtime
            .block_on(EmbeddedRegistry::new().catalogue())
            .expect("it is there");
        println!("{} {}", began.elapsed().as_nanos(), catalogue.len());
        return;
    }
    let (mut first, mut parsed) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        first.push(first_question());
        parsed.push(time(|| assert!(parse().is_object())));
    }
    let configs = configs(&runtime);
    let checker = Checker::new(Arc::new(EmbeddedRegistry::new()));
    let known = known();
    let (mut checked, mut compared) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        checked.push(time(|| {
            let results = runtime.block_on(checker.check_all(&configs));
            let newer = results
                .iter()
                .filter(|it| it.status == UpgradeStatus::UpgradeAvailable);
            assert!(results.len() == WORKLOADS && newer.count() > 0);
        }));
        compared.push(time(|| {
            let newer = configs.iter().filter(|config| {
                known
                    .get(config.registry_server_name.as_str())
                    .is_some_and(|image| *image != config.image)
            });
            assert!(newer.count() > 0);
        }));
    }
    println!("{:>16}  {:>10}  {:>10}  {:>10}", "", "median", "bare", "promised");
    print("first question", first, parsed, 30);
    print("1,000 workloads", checked, compared, 50);
}

fn print(what: &str, ours: Vec<Duration>, bare: Vec<Duration>, promised: u32) {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let (ours, bare) = (millis(median(ours)), millis(median(bare)));
    println!("{what:>16}  {ours:>8.2}ms  {bare:>8.2}ms  {promised:>8}ms");
}

/// In a process that was never asked before.
fn first_question() -> Duration {
    let this = std::env::current_exe().expect("this program's path");
    let output = Command::new(this).arg(FIRST).output().expect("it starts");
    let text = String::from_utf8(output.stdout).expect("text");
    let (nanos, entries) = text.trim().split_once(' ').expect("two numbers");
    assert!(
        entries.parse::<usize>().is_ok_and(|entries| entries > 0),
        "{text}"
    );
    Duration::from_nanos(nanos.parse().expect("a number"))
}

fn parse() -> serde_json::Value {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(COMPRESSED)
        .read_to_end(&mut text)
        .expect("gzip");
    serde_json::from_slice(&text).expect("JSON")
}

/// Workloads from all entries that are images, in turn: of the newest version, of an older one, of one that cannot be compared.
fn configs(runtime: &tokio::runtime::Runtime) -> Vec<RunConfig> {
    let entries = runtime.block_on(EmbeddedRegistry::new().list()).expect("entries");
    let images: Vec<_> = entries.iter().filter_map(|entry| entry.as_image()).collect();
    let config = |number: usize| {
        let entry = images[number % images.len()];
        let repository = entry
            .image
            .rsplit_once(':')
            .map_or(entry.image.as_str(), |(name, _)| name);
        let image = match number % 3 {
            0 => entry.image.clone(),
            1 => format!("{repository}:0.0.1"),
            _ => format!("{repository}:nightly"),
        };
        RunConfig {
            name: format!("workload-{number}"),
            registry_server_name: entry.info.name.clone(),
            image,
            ..RunConfig::default()
        }
    };
    (0..WORKLOADS).map(config).collect()
}

/// The images of the document by name, as they are written there.
fn known() -> HashMap<String, String> {
    let document = parse();
    let servers = document["data"]["servers"].as_array().expect("servers");
    let image = |server: &serde_json::Value| {
        let image = server["packages"][0]["identifier"].as_str()?;
        Some((server["name"].as_str()?.to_owned(), image.to_owned()))
    };
    servers.iter().filter_map(image).collect()
}

fn time(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}
