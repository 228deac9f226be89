//! A simulated machine can do what a real one does to us.

use std::sync::{Arc, Mutex};

use thv_process::{DetachedSpec, Exit, MemoryProcess, MemoryProcesses, Processes, Signal};

#[tokio::test]
async fn a_pid_that_is_given_away_is_another_process() {
    let machine = MemoryProcesses::new();
    let first = machine.add(MemoryProcess::new("/usr/bin/thv"));
    let handle = machine.open(&first).expect("an answer").expect("it runs");
    let second = machine.add(MemoryProcess::new("/usr/bin/other").pid(first.pid));
    assert_eq!(first.pid, second.pid);
    assert!(machine.open(&first).expect("an answer").is_none());
    assert!(
        !handle.signal(Signal::Kill).expect("an answer"),
        "the old handle is the old process"
    );
    assert!(
        machine.open(&second).expect("an answer").is_some(),
        "the new process was not touched"
    );
    assert!(machine.signals().is_empty());
    handle.exited().await.expect("the old process has ended");
}

#[tokio::test]
async fn a_reboot_ends_everything_and_changes_the_boot() {
    let machine = MemoryProcesses::new();
    let old = machine.add(MemoryProcess::new("/usr/bin/thv"));
    machine.listen(8080, old.pid);
    let handle = machine.open(&old).expect("an answer").expect("it runs");
    machine.reboot("boot-2");
    handle.exited().await.expect("it has ended");
    assert_eq!(machine.boot_id(), "boot-2");
    assert_eq!(machine.current().boot_id, "boot-2");
    assert!(machine.open(&old).expect("an answer").is_none());
    assert!(machine.port_holder(8080).expect("an answer").is_none());
}

#[test]
fn a_zombie_is_dead_until_its_pid_is_given_away() {
    let machine = MemoryProcesses::new();
    let dead = machine.add(MemoryProcess::new("/usr/bin/thv"));
    machine.exit_uncollected(dead.pid, Exit::Code(0));
    assert!(
        machine
            .facts(dead.pid)
            .expect("an answer")
            .expect("a zombie")
            .zombie
    );
    assert!(machine.open(&dead).expect("an answer").is_none());
}

#[test]
fn another_users_process_shows_little() {
    let machine = MemoryProcesses::new();
    let root = machine.add(MemoryProcess::new("/usr/bin/thv").uid(0).env("TOKEN", "x"));
    let facts = machine.facts(root.pid).expect("an answer").expect("it runs");
    assert_eq!((facts.uid, facts.exe, facts.detached_env), (Some(0), None, None));
    assert!(machine.find_by_env("TOKEN", "x").expect("an answer").is_empty());
}

#[test]
fn a_hook_sees_what_a_spawned_program_was_given() {
    let machine = MemoryProcesses::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    machine.on_spawn(move |identity, spec| log.lock().expect("the lock").push((identity.pid, spec.args)));
    let child = machine
        .spawn_detached(DetachedSpec::new("/usr/bin/thv").args(["start"]))
        .expect("a child");
    assert_eq!(
        *seen.lock().expect("the lock"),
        [(child.identity().pid, vec!["start".into()])]
    );
}
