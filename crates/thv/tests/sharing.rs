//! What an application does with a manager besides calling it: it shares it among its tasks, and calls it from any of them.
#![allow(clippy::large_futures, reason = "nothing is awaited")]

use std::fmt::Debug;
use std::time::Duration;

use thv::core::{Dirs, Env, WorkloadName};
use thv::manager::{
    Batch, ListOptions, LogRequest, Manager, RunOptions, RunOutcome, RunRequest, StartOptions, StopOptions,
    UpdateOptions, WatchFrom,
};

fn shared<T: Clone + Debug + Send + Sync + 'static>() {}

fn sent<T: Send + 'static>() {}

/// A call that a task of its own may make; nobody makes it.
fn call(_: impl Future + Send) {}

#[test]
fn handles_are_shared_among_tasks() {
    shared::<Manager>();
    shared::<thv::runtime::Runtimes>();
    #[cfg(feature = "registry")]
    {
        shared::<thv::upgrade::Applier>();
        shared::<thv::upgrade::Checker>();
    }
    sent::<Batch<RunOutcome>>();
    sent::<thv::manager::Watch>();
    sent::<thv::manager::Lines>();
    sent::<thv::manager::Error>();
}

#[tokio::test]
async fn every_verb_can_be_called_from_a_task_of_its_own() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let manager = thv::manager_in(Dirs::under(folder.path()), Env::default())?
        .launcher_id("com.example.app")
        .build()?;
    let name: WorkloadName = "fetch".parse()?;
    call(manager.run(RunRequest::new("example/fetch:1"), RunOptions::default()));
    call(manager.start(&name, StartOptions::default()));
    call(manager.restart(&name, StopOptions::default(), StartOptions::default()));
    call(manager.stop(&name, StopOptions::default()));
    call(manager.delete(&name, StopOptions::default()));
    call(manager.list(ListOptions::default()));
    call(manager.get(&name));
    call(manager.status(&name));
    call(manager.logs(&name, LogRequest::default()));
    call(manager.export(&name));
    call(manager.watch(WatchFrom::Now));
    call(manager.reconcile(StartOptions::default()));
    call(manager.wait_for_runtimes(Duration::ZERO));
    let config = thv::core::RunConfig::default();
    call(manager.update(config, UpdateOptions::default()));
    Ok(())
}
