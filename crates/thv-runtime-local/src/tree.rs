//! All processes of an instance: its keeper with all descendants, and what has its token.
//!
//! While the keeper lives nothing gets out of its reach. What else is looked for here matters where it does not: when
//! the start was cut off before the keeper was recorded, or somebody killed the keeper.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use thv_process::{ProcessHandle, ProcessIdentity, Processes, Signal};
use thv_runtime::Result;
use tokio::time::{Instant, timeout_at};

use crate::error::failed;

/// How long killed processes may take to vanish.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// How long a keeper gets to end what is below it, before it is killed itself.
const KEEPER: Duration = Duration::from_secs(2);

/// By what the processes of an instance are known.
#[derive(Debug)]
pub(crate) struct Roots {
    pub(crate) workload: String,
    /// A variable that they have in their environment, with its value.
    pub(crate) mark: (&'static str, String),
    /// The keeper and the server, where they are known.
    pub(crate) leaders: Vec<ProcessIdentity>,
}

/// The living processes of an instance.
#[derive(Debug, Default)]
struct Members {
    all: Vec<ProcessIdentity>,
    keepers: Vec<ProcessIdentity>,
}

/// Asks all of them to end, and kills who has not after `grace`. On return none lives.
pub(crate) async fn end(processes: &dyn Processes, roots: &Roots, grace: Duration) -> Result<()> {
    // Others than those asked first may turn up, so it is looked again until nobody is there.
    let ask_until = Instant::now() + grace;
    let mut asked = HashSet::new();
    while Instant::now() < ask_until {
        let handles = open(processes, &look(processes, roots)?.all)?;
        for handle in &handles {
            if asked.insert(handle.identity().clone()) {
                signal(&**handle, Signal::Term)?;
            }
        }
        if handles.is_empty() {
            break;
        }
        // The end of one may be the end of all, and of nobody. Out of time: the loop looks at the clock.
        let _ = timeout_at(
            ask_until,
            select_all(handles.iter().map(|handle| handle.exited())),
        )
        .await;
    }
    kill(processes, roots).await
}

/// Kills until nobody is there. A keeper is left to end by itself at first: it ends only after all below it have.
async fn kill(processes: &dyn Processes, roots: &Roots) -> Result<()> {
    let start = Instant::now();
    loop {
        let members = look(processes, roots)?;
        if members.all.is_empty() {
            return Ok(());
        }
        let spare = start.elapsed() < KEEPER;
        let handles = open(processes, &members.all)?;
        for handle in &handles {
            if !(spare && members.keepers.contains(handle.identity())) {
                signal(&**handle, Signal::Kill)?;
            }
        }
        let until = start + if spare { KEEPER } else { AFTER_KILL };
        let _ = timeout_at(until, join_all(handles.iter().map(|handle| handle.exited()))).await;
        if start.elapsed() >= AFTER_KILL {
            let left = format!("processes of workload \"{}\" survived SIGKILL", roots.workload);
            return Err(failed("end an instance", left));
        }
    }
}

/// References to those that are still there.
fn open(processes: &dyn Processes, members: &[ProcessIdentity]) -> Result<Vec<Box<dyn ProcessHandle>>> {
    let mut handles = Vec::new();
    for identity in members {
        handles.extend(
            processes
                .open(identity)
                .map_err(|e| failed("look at a process", e))?,
        );
    }
    Ok(handles)
}

fn signal(handle: &dyn ProcessHandle, signal: Signal) -> Result<()> {
    // One that ended meanwhile is as wanted.
    handle
        .signal(signal)
        .map(|_| ())
        .map_err(|e| failed("signal a process", e))
}

/// Whether a process of the instance lives.
pub(crate) fn lives(processes: &dyn Processes, roots: &Roots) -> Result<bool> {
    Ok(!look(processes, roots)?.all.is_empty())
}

/// The living processes of the instance, derived from one look at the process table.
fn look(processes: &dyn Processes, roots: &Roots) -> Result<Members> {
    let failed = |e| failed("look for the processes of an instance", e);
    let (name, value) = &roots.mark;
    let mut found = processes.find_by_env(name, value).map_err(failed)?;
    let snapshot = processes.snapshot().map_err(failed)?;
    let mut keepers = Vec::new();
    for leader in found.iter().chain(&roots.leaders) {
        keepers.extend(snapshot.keeper_of(leader).cloned());
        keepers.extend(Some(leader).filter(|leader| snapshot.is_keeper(leader)).cloned());
    }
    let living = |identity: &&ProcessIdentity| snapshot.get(identity).is_some_and(|entry| !entry.zombie);
    for leader in roots.leaders.iter().chain(&keepers) {
        found.extend(Some(leader).filter(living).cloned());
        found.extend(snapshot.session_of(leader));
    }
    for root in found.clone().iter().chain(&roots.leaders).chain(&keepers) {
        found.extend(snapshot.descendants(root));
    }
    let own = processes.current();
    let mut seen = HashSet::new();
    found.retain(|identity| *identity != own && seen.insert(identity.clone()));
    Ok(Members { all: found, keepers })
}
