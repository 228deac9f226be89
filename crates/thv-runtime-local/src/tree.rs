//! All processes of an instance: its session, what has its token, and their descendants.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use thv_process::{ProcessIdentity, Processes, Signal};
use thv_runtime::Result;
use tokio::time::{Instant, timeout_at};

use crate::error::failed;
use crate::program::TOKEN;
use crate::record::Record;

/// How long killed processes may take to vanish.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// Asks all of them to end, and kills who has not after `grace`. On return none lives.
pub(crate) async fn end(processes: &dyn Processes, record: &Record, grace: Duration) -> Result<()> {
    // Others than those asked first may turn up, so it is looked again until nobody is there.
    let ask_until = Instant::now() + grace;
    let mut asked = HashSet::new();
    while !round(processes, record, Signal::Term, &mut asked, ask_until).await? {
        if Instant::now() >= ask_until {
            break;
        }
    }
    let kill_until = Instant::now() + AFTER_KILL;
    while !round(processes, record, Signal::Kill, &mut HashSet::new(), kill_until).await? {
        if Instant::now() >= kill_until {
            let left = format!("processes of workload \"{}\" survived SIGKILL", record.workload);
            return Err(failed("end an instance", left));
        }
    }
    Ok(())
}

/// Signals each once and waits for all of them. Whether nobody was there.
async fn round(
    processes: &dyn Processes,
    record: &Record,
    signal: Signal,
    asked: &mut HashSet<ProcessIdentity>,
    until: Instant,
) -> Result<bool> {
    let mut handles = Vec::new();
    for identity in members(processes, record)? {
        let opened = processes
            .open(&identity)
            .map_err(|e| failed("look at a process", e))?;
        let Some(handle) = opened else { continue };
        if asked.insert(identity) {
            handle.signal(signal).map_err(|e| failed("signal a process", e))?;
        }
        handles.push(handle);
    }
    let nobody = handles.is_empty();
    // Out of time: the caller looks at the clock.
    let _ = timeout_at(until, join_all(handles.iter().map(|handle| handle.exited()))).await;
    Ok(nobody)
}

/// The living processes of the instance.
pub(crate) fn members(processes: &dyn Processes, record: &Record) -> Result<Vec<ProcessIdentity>> {
    if record.boot_id != processes.boot_id() {
        return Ok(Vec::new());
    }
    let failed = |e| failed("look for the processes of an instance", e);
    let mut found = processes.find_by_env(TOKEN, &record.token).map_err(failed)?;
    if let Some(leader) = &record.process
        && let Some(facts) = processes.facts(leader.pid).map_err(failed)?
        && facts.identity == *leader
    {
        // Only while the leader, be it a zombie, holds the number is the session surely ours.
        found.extend(processes.session_members(leader.pid).map_err(failed)?);
    }
    for root in found.clone() {
        found.extend(processes.descendants(root.pid).map_err(failed)?);
    }
    let own = processes.current();
    let mut seen = HashSet::new();
    found.retain(|identity| *identity != own && seen.insert(identity.clone()));
    Ok(found)
}
