//! Drill: a supervisor that lost its workload while it was halted wakes up late, and changes nothing: neither files nor
//! processes, and it brings nothing back.
//!
//! It is an application's: a halted proxy of our own is found and ended, whatever is missing.

use futures_util::future::join_all;
use rustix::process::Signal;
use thv::core::WorkloadStatus;
use thv_tests::{Machine, WAIT, eventually};

use crate::drill::application::Application;
use crate::drill::{self, Tree, answers, proxy_pid, run_echo, signal, toolhive_writes};

/// Names at once, and how often each is removed and run again; `THV_FENCING_LOOPS` says otherwise.
const NAMES: usize = 10;
const LOOPS: usize = 4;

/// Halts an application and takes away, as only a hand can, what says that it supervises: from then on it holds a lock on
/// a file that is no more.
fn halt(machine: &Machine, application: &Application, name: &str) {
    signal(application.pid(), Signal::STOP);
    let lifecycle = machine.dirs().lifecycle();
    for said in [format!("{name}.owner"), format!("{name}.json")] {
        std::fs::remove_file(lifecycle.join(said)).expect("a supervisor has it");
    }
    toolhive_writes(machine, name, "running", 0);
}

/// Lets it go on, until its supervisor has ended: it has no such lock any more.
async fn wake(application: &Application) {
    signal(application.pid(), Signal::CONT);
    eventually(WAIT, "the late supervisor ends", async || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", application.pid())).ok()?;
        let open = open.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
        let locks = open.filter(|file| file.to_string_lossy().ends_with(".owner (deleted)"));
        (locks.count() == 0).then_some(())
    })
    .await;
}

/// Its configuration, record, status and instance, with their times.
fn documents(machine: &Machine, name: &str) -> Tree {
    let document = format!("{name}.json");
    let mut files = drill::files_of(machine);
    files.retain(|path, _| path.file_name().is_some_and(|file| *file == *document));
    assert_eq!(files.len(), 4, "{:?}", files.keys());
    files
}

async fn is_fenced(machine: &Machine, times: usize) {
    let name = machine.name("fenced");
    for _ in 0..times {
        let (application, _) = Application::up(machine, &name).await;
        halt(machine, &application, &name);
        machine.thv(["rm", &name]).await.ok();
        let before = run_echo(machine, &name).await;
        let proxy = proxy_pid(machine, &name).await;
        let files = documents(machine, &name);
        wake(&application).await;
        assert_eq!(documents(machine, &name), files);
        let after = machine.workload(&name).await;
        assert_eq!((after.status, after.port), (WorkloadStatus::Running, before.port));
        assert_eq!(proxy_pid(machine, &name).await, proxy);
        answers(&after).await;
        machine.thv(["rm", &name]).await.ok();
        assert!(machine.find(&name).await.is_none());
        application.kill().await;
    }
    // Removed for good, it stays so.
    let (application, _) = Application::up(machine, &name).await;
    halt(machine, &application, &name);
    machine.thv(["rm", &name]).await.ok();
    wake(&application).await;
    assert!(machine.find(&name).await.is_none());
    application.kill().await;
}

#[tokio::test]
async fn a_late_supervisor_changes_nothing() {
    let machine = Machine::new();
    let loops = std::env::var("THV_FENCING_LOOPS").map_or(LOOPS, |loops| loops.parse().expect("a number"));
    join_all((0..NAMES).map(|_| is_fenced(&machine, loops))).await;
    machine.assert_nothing_lives(&[]);
}
