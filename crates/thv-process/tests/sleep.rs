//! How often waiting wakes up a thread.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use thv_process::{LinuxProcesses, Processes};

/// How often this thread has waited.
fn waits() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("this thread");
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.expect("a count").trim().parse().expect("a number")
}

#[tokio::test]
async fn a_sleep_wakes_up_once() {
    let machine = LinuxProcesses::new().expect("/proc");
    // The runtime's own timer would wake up twice for most of these.
    let time = Duration::from_millis(150);
    let mut seen = Vec::new();
    // A thread may have to wait for its memory too, on a machine that has little.
    while seen.last().is_none_or(|waited| *waited > 4) {
        assert!(seen.len() < 10, "wake-ups for each four sleeps: {seen:?}");
        let (before, began) = (waits(), Instant::now());
        for _ in 0..4 {
            machine.sleep(time).await;
        }
        seen.push(waits() - before);
        let took = began.elapsed();
        assert!(took >= 4 * time, "{took:?}");
    }
    machine.sleep(Duration::ZERO).await;
}
