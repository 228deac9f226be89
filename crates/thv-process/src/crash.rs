//! Points between two effects at which a process can be told to kill itself, as a crash would: for drills.
//!
//! `crash_point!(RunSaved);` is nothing at all unless the feature `crash-points` is on. With it, `THV_CRASH_AT=run.saved`
//! kills the process when it comes there, `THV_CRASH_AT=record.written:2` when it comes there for the second time. A
//! detached proxy asks `TOOLHIVE_PROXY_CRASH_AT` instead, which the environment of the command passes on to it.

use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Signal, getpid, kill_process};

macro_rules! points {
    ($($(#[doc = $doc:literal])+ $point:ident = $name:literal,)+) => {
        /// A point between two effects, named for the one that is done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum CrashPoint {
            $($(#[doc = $doc])+ $point,)+
        }

        impl CrashPoint {
            /// All of them, in the order of a workload's life.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// `run`: the lock of changing verbs is held.
    RunLocked = "run.locked",
    /// `run`: the record is there.
    RunRecorded = "run.recorded",
    /// `run`: the run configuration is there.
    RunSaved = "run.saved",
    /// `run`: the status file says `starting`.
    RunStarting = "run.starting",
    /// `run --replace`, `update`: the journal entry is written.
    ReplaceBegun = "replace.begun",
    /// `run --replace`, `update`: proxy and instance are down.
    ReplaceEnded = "replace.ended",
    /// `run --replace`, `update`: the old instance is removed.
    ReplaceRemoved = "replace.removed",
    /// `run --replace`, `update`: the new run configuration is there.
    ReplaceSaved = "replace.saved",
    /// `run --replace`, `update`: the record is the new one's.
    ReplaceCommitted = "replace.committed",
    /// `restart`: the journal entry is written.
    RestartBegun = "restart.begun",
    /// `restart`: proxy and instance are down.
    RestartEnded = "restart.ended",
    /// `start`: the new claim is written.
    StartClaimed = "start.claimed",
    /// A launch: the proxy's process is there.
    LaunchSpawned = "launch.spawned",
    /// A launch: claim, port and lock are handed over.
    LaunchSent = "launch.sent",
    /// A launch: the proxy said that it owns the workload.
    LaunchOwned = "launch.owned",
    /// A launch that failed: what it left is removed.
    LaunchUndone = "launch.undone",
    /// `stop`: it is written that the workload should not run.
    StopAsked = "stop.asked",
    /// `stop`: the journal entry is written.
    StopBegun = "stop.begun",
    /// The end of a workload's processes: the proxy is gone.
    EndProxyEnded = "end.proxy-ended",
    /// The end of a workload's processes: the instance is down.
    EndInstanceStopped = "end.instance-stopped",
    /// `stop`: record and status file say `stopped`.
    StopWritten = "stop.written",
    /// `rm`: it is written that the workload should not run.
    RemoveAsked = "rm.asked",
    /// `rm`: the journal entry is written.
    RemoveBegun = "rm.begun",
    /// `rm`: proxy and instance are down.
    RemoveEnded = "rm.ended",
    /// `rm`: the instance is removed.
    RemoveInstanceRemoved = "rm.instance-removed",
    /// `rm`: the run configuration is deleted.
    RemoveConfigDeleted = "rm.config-deleted",
    /// `rm`: the server's log is deleted.
    RemoveLogsRemoved = "rm.logs-removed",
    /// `group move`: the run configuration names the new group.
    MoveSaved = "move.saved",
    /// `group rm`: no workload is in it.
    GroupEmptied = "group.emptied",
    /// `group rm`: its document is deleted.
    GroupDeleted = "group.deleted",
    /// An interrupted `run` is taken back: what it deployed is removed.
    JournalRunUndone = "journal.run-undone",
    /// An interrupted `rm` is finished: the proxy is gone.
    JournalProxyEnded = "journal.proxy-ended",
    /// An interrupted `rm` is finished: the instance is removed.
    JournalInstanceRemoved = "journal.instance-removed",
    /// An interrupted `rm` is finished: the run configuration is deleted.
    JournalConfigDeleted = "journal.config-deleted",
    /// An interrupted verb's entry is dropped.
    JournalCleared = "journal.cleared",
    /// An update is taken back: what it started is down.
    RollbackEnded = "rollback.ended",
    /// An update is taken back: its instance is removed.
    RollbackRemoved = "rollback.removed",
    /// An update is taken back: the old run configuration is there.
    RollbackSaved = "rollback.saved",
    /// An update is taken back: the record is the old one's.
    RollbackCommitted = "rollback.committed",
    /// A proxy: it has its order.
    ProxyOrdered = "proxy.ordered",
    /// A proxy: the record says that it owns the workload.
    ProxyOwned = "proxy.owned",
    /// A proxy: an instance that outlived the proxy before is down.
    ProxyLeftoverStopped = "proxy.leftover-stopped",
    /// A proxy: the runtime has the instance.
    ProxyDeployed = "proxy.deployed",
    /// A proxy: the record names the instance.
    ProxyInstanceRecorded = "proxy.instance-recorded",
    /// A proxy: it is connected with the server and serves.
    ProxyConnected = "proxy.connected",
    /// A proxy: the record says that the workload is ready.
    ProxyReady = "proxy.ready",
    /// A proxy: its server ended, and the record says that it is started again.
    ProxyRestarting = "proxy.restarting",
    /// A proxy: its server failed for good and is removed.
    ProxyFailedRemoved = "proxy.failed-removed",
    /// A proxy that is told to end: the status says `stopping`.
    ProxyStopping = "proxy.stopping",
    /// A proxy that is told to end: its instance is down.
    ProxyInstanceStopped = "proxy.instance-stopped",
    /// A proxy that is told to end: the status says `stopped`.
    ProxyStopped = "proxy.stopped",
    /// Any change: the record is written, the status file is the old one.
    RecordWritten = "record.written",
    /// The end of `rm`: the status file is deleted, the record is there.
    RecordStatusRemoved = "record.status-removed",
    /// The end of `rm`: the record is deleted, its locks are there.
    RecordRemoved = "record.removed",
    /// The local runtime: an instance is recorded, its program not started.
    LocalRecorded = "local.recorded",
    /// The local runtime: the program is started, and not recorded.
    LocalSpawned = "local.spawned",
    /// The local runtime: the processes of an instance that is removed are down, its record is there.
    LocalEnded = "local.ended",
    /// The local runtime: home and log of an instance that is removed are deleted, its record is there.
    LocalFilesRemoved = "local.files-removed",
}

/// What a process was told.
struct Chosen {
    name: String,
    /// At which time of reaching it.
    nth: u32,
    reached: AtomicU32,
}

impl Chosen {
    fn from_env() -> Option<Self> {
        let detached = std::env::var_os("TOOLHIVE_DETACHED").is_some_and(|value| value == "1");
        let variable = if detached {
            "TOOLHIVE_PROXY_CRASH_AT"
        } else {
            "THV_CRASH_AT"
        };
        Self::parse(&std::env::var(variable).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, nth) = match text.split_once(':') {
            Some((name, nth)) => (name, nth.parse().ok()?),
            None => (text, 1),
        };
        Some(Self {
            name: name.to_owned(),
            nth,
            reached: AtomicU32::new(0),
        })
    }

    fn is_due(&self, point: CrashPoint) -> bool {
        self.name == point.name() && self.reached.fetch_add(1, Ordering::Relaxed) + 1 == self.nth
    }
}

/// Kills this process if this is where it was told to.
pub fn reached(point: CrashPoint) {
    static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(Chosen::from_env);
    if !chosen.as_ref().is_some_and(|chosen| chosen.is_due(point)) {
        return;
    }
    let _ = writeln!(std::io::stderr(), "killed at crash point {}", point.name());
    let _ = kill_process(getpid(), Signal::KILL);
    // Nothing is done any more, should the signal take its time.
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = CrashPoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), CrashPoint::ALL.len());
    }

    #[test]
    fn a_point_is_due_once_at_the_time_that_was_asked_for() {
        let check = |text: &str, due: &[bool]| {
            let chosen = Chosen::parse(text).expect("a point");
            let seen: Vec<_> = due.iter().map(|_| chosen.is_due(CrashPoint::RunSaved)).collect();
            assert_eq!(seen, due, "{text}");
        };
        check("run.saved", &[true, false]);
        check("run.saved:2", &[false, true, false]);
        check("run.recorded", &[false, false]);
        assert!(Chosen::parse("run.saved:often").is_none());
    }
}
