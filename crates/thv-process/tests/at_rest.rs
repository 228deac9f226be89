//! What a process gives back when it is at rest. Alone in its program: what other tests execute is mapped again.
#![cfg(target_os = "linux")]

use thv_process::{LinuxProcesses, Processes};

/// Of this program's code, in KiB, what is mapped.
fn mapped_code() -> u64 {
    let program = std::fs::read_link("/proc/self/exe").expect("a program");
    let program = program.to_str().expect("a path");
    let smaps = std::fs::read_to_string("/proc/self/smaps").expect("mappings");
    let mut ours = false;
    let mut sum = 0;
    for line in smaps.lines() {
        if let Some(size) = line.strip_prefix("Rss:").filter(|_| ours) {
            let size = size.trim().trim_end_matches(" kB");
            sum += size.parse::<u64>().expect("a size");
        } else if line.split(' ').next().is_some_and(|first| first.contains('-')) {
            ours = line.contains(" r-xp ") && line.ends_with(program);
        }
    }
    sum
}

#[test]
fn the_code_that_only_the_start_executed_is_not_mapped_at_rest() {
    let machine = LinuxProcesses::new().expect("/proc");
    machine.snapshot().expect("the processes");
    machine.port_holder(1).expect("an answer");
    let before = mapped_code();
    machine.at_rest();
    let after = mapped_code();
    assert!(after < before, "{before} KiB before, {after} KiB after");
    // It comes back as it is executed.
    let again = LinuxProcesses::new().expect("/proc");
    assert_eq!(machine.current(), again.current());
}
