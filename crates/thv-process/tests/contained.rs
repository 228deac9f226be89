//! Programs with a keeper, in both forms: with a pid namespace (where this user may make one) and without.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, PipeReader, Read};
use std::time::{Duration, Instant};

use thv_process::{
    Contained, Containment, DetachedSpec, Exit, LinuxProcesses, ProcessHandle, ProcessIdentity, Processes,
    Signal,
};

fn forms() -> [LinuxProcesses; 2] {
    let machine = LinuxProcesses::new().expect("/proc");
    [machine.clone(), machine.without_pid_namespaces()]
}

fn sh(script: &str) -> DetachedSpec {
    DetachedSpec::new("/bin/sh")
        .args(["-c", script])
        .env([("PATH", "/usr/bin:/bin")])
        .contained()
}

async fn exit(handle: &dyn ProcessHandle) -> Exit {
    tokio::time::timeout(Duration::from_mins(2), handle.exited())
        .await
        .expect("an end within the deadline")
        .expect("an answer")
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !is_so() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Started, and its first line read.
fn started(machine: &LinuxProcesses, script: &str) -> (Box<dyn ProcessHandle>, String, PipeReader) {
    let (ours, theirs) = std::io::pipe().expect("a pipe");
    let child = machine
        .spawn_detached(sh(script).stdout(theirs))
        .expect("a child");
    let mut reader = BufReader::new(ours);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    (child, line.trim_end().to_owned(), reader.into_inner())
}

fn contained(handle: &dyn ProcessHandle) -> &Contained {
    handle.contained().expect("it was asked for")
}

fn status(pid: u32, key: &str) -> String {
    status_of(pid, key).expect("a status")
}

/// `None` when it has ended.
fn status_of(pid: u32, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim_start_matches(':').trim().to_owned())
}

/// The keeper and, with a namespace, its process 1.
fn keepers(machine: &LinuxProcesses, keeper: &dyn ProcessHandle) -> Vec<ProcessIdentity> {
    let program = contained(keeper).program.clone();
    let snapshot = machine.snapshot().expect("an answer");
    let children = snapshot.descendants(keeper.identity());
    let init = children.into_iter().filter(|child| {
        Some(child) != program.as_ref() && status_of(child.pid, "Name").as_deref() == Some("thv-init")
    });
    std::iter::once(keeper.identity().clone()).chain(init).collect()
}

#[tokio::test]
async fn its_end_is_passed_on_exactly() {
    for machine in forms() {
        for (script, expected) in [
            ("exit 0", Exit::Code(0)),
            ("exit 3", Exit::Code(3)),
            ("exit 255", Exit::Code(255)),
            ("kill -KILL $$", Exit::Signal(9)),
            ("kill -TERM $$", Exit::Signal(15)),
            ("kill -SEGV $$", Exit::Signal(11)),
        ] {
            let child = machine.spawn_detached(sh(script)).expect("a child");
            assert_eq!(exit(&*child).await, expected, "{script}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_executed_is_the_same_error_as_without_a_keeper() {
    let dir = tempfile::tempdir().expect("a folder");
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "no program").expect("a file");
    for machine in forms() {
        for (program, code) in [
            (
                std::path::Path::new("/no/such/program"),
                "process_program_not_found",
            ),
            (&plain, "process_denied"),
        ] {
            let error = machine
                .spawn_detached(DetachedSpec::new(program).contained())
                .expect_err("no program");
            assert_eq!(error.code(), code);
        }
    }
}

#[tokio::test]
async fn the_end_of_its_output_is_seen_because_keepers_hold_no_descriptor() {
    for machine in forms() {
        let (child, line, mut output) = started(&machine, "echo ready; read line; exec >&-; exec sleep 1000");
        assert_eq!(line, "ready");
        // The program closed it, and nobody else has it.
        output.read_to_end(&mut Vec::new()).expect("the end");
        for keeper in keepers(&machine, &*child) {
            let fds = std::fs::read_dir(format!("/proc/{}/fd", keeper.pid)).expect("descriptors");
            assert_eq!(fds.count(), 0);
        }
        assert!(child.signal(Signal::Kill).expect("an answer"));
        exit(&*child).await;
    }
}

#[tokio::test]
async fn a_keeper_hears_no_signal_and_the_program_hears_all() {
    for machine in forms() {
        let (child, _, _output) = started(
            &machine,
            "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done",
        );
        for keeper in keepers(&machine, &*child) {
            let handle = machine.open(&keeper).expect("an answer").expect("it runs");
            for signal in [Signal::Term, Signal::Int, Signal::Hup, Signal::Usr1, Signal::Usr2] {
                assert!(handle.signal(signal).expect("an answer"));
            }
        }
        let program = contained(&*child).program.clone().expect("it runs");
        let program = machine.open(&program).expect("an answer").expect("it runs");
        assert!(program.signal(Signal::Term).expect("an answer"));
        assert_eq!(exit(&*child).await, Exit::Code(7));
    }
}

#[tokio::test]
async fn the_program_starts_with_no_signal_blocked_or_ignored() {
    for machine in forms() {
        // Who executes nothing and forks nothing shows what it was given.
        let (child, _, _output) = started(&machine, "echo ready; exec sleep 1000");
        let program = contained(&*child).program.clone().expect("it runs");
        eventually("it is the last program", || {
            status(program.pid, "Name") == "sleep"
        })
        .await;
        assert_eq!(status(program.pid, "SigBlk"), "0000000000000000");
        // The C library keeps the first two of the real-time signals for itself.
        let ignored = u64::from_str_radix(&status(program.pid, "SigIgn"), 16).expect("a number");
        assert_eq!(ignored & !(0b11 << 31), 0);
        assert!(child.signal(Signal::Kill).expect("an answer"));
        exit(&*child).await;
    }
}

#[tokio::test]
async fn killing_the_keeper_ends_the_program() {
    for machine in forms() {
        let (child, _, _output) = started(&machine, "echo ready; exec sleep 1000");
        let program = contained(&*child).program.clone().expect("it runs");
        let snapshot = machine.snapshot().expect("an answer");
        assert_eq!(snapshot.keeper_of(&program), Some(child.identity()));
        assert_eq!(snapshot.keeper_of(child.identity()), None);
        assert!(child.signal(Signal::Kill).expect("an answer"));
        assert_eq!(exit(&*child).await, Exit::Signal(9));
        eventually("the program has ended", || {
            machine.open(&program).expect("an answer").is_none()
        })
        .await;
    }
}

#[tokio::test]
async fn a_namespace_is_used_where_it_is_allowed_and_hides_the_machine() {
    let [machine, without] = forms();
    let (child, line, _output) = started(
        &machine,
        "echo $$ $PPID $(ls -d /proc/[0-9]* | wc -l); exec sleep 1000",
    );
    if contained(&*child).containment == Containment::PidNamespace {
        // It has process 1 above it, and no parent that it could see.
        assert!(line.starts_with("2 0 "), "{line}");
        let seen: u32 = line
            .rsplit(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number");
        assert!(seen < 10, "its /proc is its own: {seen}");
    } else {
        assert!(!rustix::process::geteuid().is_root(), "root may make namespaces");
    }
    assert!(child.signal(Signal::Kill).expect("an answer"));
    exit(&*child).await;

    let (child, line, _output) = started(&without, "echo $$ $PPID; exec sleep 1000");
    let program = contained(&*child).program.clone().expect("it runs");
    assert_eq!(contained(&*child).containment, Containment::Subreaper);
    assert_eq!(line, format!("{} {}", program.pid, child.identity().pid));
    assert!(child.signal(Signal::Kill).expect("an answer"));
    exit(&*child).await;
}

#[tokio::test]
async fn keepers_give_back_the_memory_and_the_arguments_of_who_started_them() {
    let heap = vec![1_u8; 64 << 20];
    for machine in forms() {
        let (child, _, _output) = started(&machine, "echo ready; exec sleep 1000");
        for keeper in keepers(&machine, &*child) {
            eventually("the memory is given back", || {
                let kib: u64 = status(keeper.pid, "RssAnon")
                    .trim_end_matches(" kB")
                    .parse()
                    .expect("a number");
                kib < 2048
            })
            .await;
            let facts = machine.facts(keeper.pid).expect("an answer").expect("it runs");
            assert!(
                facts.argv.concat().trim_end_matches('\0').is_empty(),
                "{:?}",
                facts.argv
            );
        }
        assert!(child.signal(Signal::Kill).expect("an answer"));
        exit(&*child).await;
    }
    drop(heap);
}
