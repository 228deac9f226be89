//! Histories of several managers and a writer shaped like ToolHive on one machine in memory, with an error, a delay or
//! a kill before or after an effect, in virtual time. After each, faults end, `reconcile` runs, and the machine must
//! be as it is recorded.
//!
//! `THV_SIM_SEED` and `THV_SIM_HISTORIES` say from which seed on, and how many. A history that fails is printed with all
//! steps left out that it does not need; in `regressions.rs` it becomes a test.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

#[allow(dead_code, reason = "shared with the other suite, which uses all of it")]
#[path = "../lifecycle/mortal.rs"]
mod mortal;
#[allow(dead_code, reason = "shared with the other suite, which uses all of it")]
#[path = "../lifecycle/support.rs"]
mod support;
#[path = "../lifecycle/witness.rs"]
mod witness;

mod asked;
mod history;
mod launcher;
mod machine;
mod processes;
mod regressions;
mod surroundings;
mod toolhive;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use history::History;
use witness::Trace;

/// How many histories a run of all tests takes.
const HISTORIES: u64 = 10_000;

fn asked(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn whatever_happens_reconcile_makes_the_machine_what_is_recorded() {
    let first = asked("THV_SIM_SEED", 1);
    let end = first + asked("THV_SIM_HISTORIES", HISTORIES);
    all_are_sound(first..end, History::of);
}

/// As somebody deletes the lock of a supervisor that lives: its claim alone keeps it from writing and deploying when
/// another one has the workload.
#[test]
fn a_supervisor_without_its_lock_is_kept_out_by_its_claim() {
    all_are_sound(1..501, History::without_locks);
}

fn all_are_sound(seeds: std::ops::Range<u64>, history: fn(u64) -> History) {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().unwrap().is_some() {
                        return;
                    }
                    let history = history(seed);
                    if let Err(why) = machine::happens(&history) {
                        failed.lock().unwrap().get_or_insert((history, why));
                    }
                }
            });
        }
    });
    if let Some((history, why)) = failed.into_inner().unwrap() {
        let seed = history.seed;
        let (smallest, why) = history.shrunk(why, machine::happens);
        panic!("THV_SIM_SEED={seed} THV_SIM_HISTORIES=1 fails: {why}\nits smallest history: {smallest:#?}");
    }
}

/// Of a seed nothing is left to chance: its history goes the same way each time, effect by effect.
#[test]
fn a_seed_is_the_same_history_each_time() {
    for seed in 1..=20 {
        let told = || {
            let trace = Trace::kept();
            let outcome = machine::happens_told(&History::of(seed), trace.clone());
            (trace.lines(), outcome.is_ok())
        };
        let (first, again) = (told(), told());
        assert!(!first.0.is_empty());
        assert_eq!(first, again, "seed {seed}");
    }
}
