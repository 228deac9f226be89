//! Which verb is killed where, and what is to come of it.

/// What is on the machine before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    Nothing,
    Runs,
    Stopped,
    /// Its proxy was killed, and its server lives on.
    Orphaned,
    /// It runs in the group `team`.
    InGroup,
    /// A verb was killed at a point, of what was this before.
    CutOff(&'static Before, Verb, &'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Run,
    /// A server that ends before it answers.
    RunBroken,
    /// With another environment variable, so that its configuration is another one.
    Replace,
    Start,
    Restart,
    Stop,
    Remove,
    /// To the group `team`.
    Move,
    /// Of the group `team`.
    RemoveGroup,
    Reconcile,
    /// Nothing is called: the server is killed.
    KillServer,
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The command.
    Command(&'static str),
    /// The detached proxy that it launches, or that serves what it is about.
    Proxy(&'static str),
    /// Both, the proxy first.
    Both {
        proxy: &'static str,
        command: &'static str,
    },
}

impl At {
    pub(crate) fn command(self) -> Option<&'static str> {
        match self {
            Self::Command(point) | Self::Both { command: point, .. } => Some(point),
            Self::Proxy(_) => None,
        }
    }

    pub(crate) fn proxy(self) -> Option<&'static str> {
        match self {
            Self::Proxy(point) | Self::Both { proxy: point, .. } => Some(point),
            Self::Command(_) => None,
        }
    }

    pub(crate) fn points(self) -> impl Iterator<Item = &'static str> {
        self.command().into_iter().chain(self.proxy())
    }
}

/// What there is in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It runs with the configuration that it had, or that it was given first.
    Runs,
    /// It runs with the configuration that was to replace the other.
    RunsAnew,
    Stopped,
    /// It is there, and says why it does not run.
    Failed,
    Gone,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) before: Before,
    pub(crate) verb: Verb,
    pub(crate) at: At,
    /// What `reconcile` makes of it.
    pub(crate) reconciled: End,
    /// The verb that is called next in place of `reconcile`, and what it makes of it.
    pub(crate) next: (Verb, End),
}

const fn case(before: Before, verb: Verb, at: At, reconciled: End, next: (Verb, End)) -> Case {
    Case {
        before,
        verb,
        at,
        reconciled,
        next,
    }
}

use At::{Both, Command, Proxy};
use Before::{CutOff, InGroup, Nothing, Orphaned};
use End::{Failed, Gone, RunsAnew};
use Verb::{KillServer, Move, Reconcile, Remove, RemoveGroup, Replace, Restart, Run, RunBroken, Start, Stop};

const RUNS: Before = Before::Runs;
const STOPPED: Before = Before::Stopped;

/// All that is done on the local runtime.
pub(crate) fn local() -> Vec<Case> {
    let run = |at, reconciled| case(Nothing, Run, at, reconciled, (Run, End::Runs));
    // Ready once, it is there: it is started, not run again.
    let was_ready = |at| case(Nothing, Run, at, End::Runs, (Start, End::Runs));
    let start = |at| case(STOPPED, Start, at, End::Runs, (Start, End::Runs));
    let restart = |at| case(RUNS, Restart, at, End::Runs, (Restart, End::Runs));
    let stop = |at| case(RUNS, Stop, at, End::Stopped, (Stop, End::Stopped));
    let remove = |at, reconciled| case(RUNS, Remove, at, reconciled, (Remove, Gone));
    let replace = |at, reconciled| case(RUNS, Replace, at, reconciled, (Replace, RunsAnew));
    let regroup = |before, verb, at| case(before, verb, at, End::Runs, (verb, End::Runs));
    let reconcile = |before, at, end| case(before, Reconcile, at, end, (Reconcile, end));
    const RUN_CUT_OFF: Before = CutOff(&Nothing, Run, "run.recorded");
    const REMOVE_CUT_OFF: Before = CutOff(&RUNS, Remove, "rm.begun");
    const REPLACE_CUT_OFF: Before = CutOff(&RUNS, Replace, "replace.ended");
    const STOP_CUT_OFF: Before = CutOff(&Orphaned, Stop, "stop.asked");
    vec![
        run(Command("run.locked"), Gone),
        run(Command("run.recorded"), Gone),
        run(Command("run.saved"), End::Runs),
        run(Command("record.written"), End::Runs),
        run(Command("run.starting"), End::Runs),
        run(Command("launch.spawned"), End::Runs),
        run(Command("launch.sent"), End::Runs),
        run(Command("launch.owned"), End::Runs),
        run(Proxy("proxy.ordered"), End::Runs),
        run(
            Both {
                proxy: "proxy.ordered",
                command: "launch.undone",
            },
            End::Runs,
        ),
        run(Proxy("record.written"), End::Runs),
        run(Proxy("proxy.owned"), End::Runs),
        run(Proxy("local.recorded"), End::Runs),
        run(Proxy("local.spawned"), End::Runs),
        run(Proxy("proxy.deployed"), End::Runs),
        run(Proxy("record.written:2"), End::Runs),
        run(Proxy("proxy.instance-recorded"), End::Runs),
        run(Proxy("proxy.connected"), End::Runs),
        was_ready(Proxy("record.written:3")),
        was_ready(Proxy("proxy.ready")),
        case(
            Nothing,
            RunBroken,
            Proxy("proxy.failed-removed"),
            Failed,
            (RunBroken, Failed),
        ),
        case(
            Nothing,
            RunBroken,
            Proxy("local.ended"),
            Failed,
            (RunBroken, Failed),
        ),
        case(
            RUNS,
            KillServer,
            Proxy("proxy.restarting"),
            End::Runs,
            (Start, End::Runs),
        ),
        start(Command("start.claimed")),
        start(Command("record.written")),
        start(Command("launch.spawned")),
        start(Command("launch.sent")),
        start(Command("launch.owned")),
        start(Proxy("proxy.ordered")),
        start(Proxy("proxy.owned")),
        start(Proxy("proxy.deployed")),
        start(Proxy("proxy.ready")),
        case(
            Orphaned,
            Start,
            Proxy("proxy.leftover-stopped"),
            End::Runs,
            (Start, End::Runs),
        ),
        restart(Command("restart.begun")),
        restart(Command("end.proxy-ended")),
        restart(Command("end.instance-stopped")),
        restart(Command("restart.ended")),
        restart(Command("start.claimed")),
        restart(Command("launch.sent")),
        restart(Proxy("proxy.stopping")),
        restart(Proxy("proxy.stopped")),
        stop(Command("stop.asked")),
        stop(Command("record.written")),
        stop(Command("stop.begun")),
        stop(Command("record.written:2")),
        stop(Command("end.proxy-ended")),
        stop(Command("end.instance-stopped")),
        stop(Command("record.written:3")),
        stop(Command("stop.written")),
        stop(Proxy("proxy.stopping")),
        stop(Proxy("proxy.instance-stopped")),
        stop(Proxy("proxy.stopped")),
        remove(Command("rm.asked"), End::Stopped),
        remove(Command("rm.begun"), Gone),
        remove(Command("record.written:2"), Gone),
        remove(Command("end.proxy-ended"), Gone),
        remove(Command("rm.ended"), Gone),
        remove(Command("local.ended"), Gone),
        remove(Command("local.files-removed"), Gone),
        remove(Command("rm.instance-removed"), Gone),
        remove(Command("rm.config-deleted"), Gone),
        remove(Command("rm.logs-removed"), Gone),
        remove(Command("record.status-removed"), Gone),
        remove(Command("record.removed"), Gone),
        remove(Proxy("proxy.stopping"), Gone),
        remove(Proxy("proxy.stopped"), Gone),
        replace(Command("replace.begun"), End::Runs),
        replace(Command("record.written"), End::Runs),
        replace(Command("end.proxy-ended"), End::Runs),
        replace(Command("replace.ended"), End::Runs),
        replace(Command("replace.removed"), End::Runs),
        replace(Command("replace.saved"), RunsAnew),
        replace(Command("record.written:2"), RunsAnew),
        replace(Command("replace.committed"), RunsAnew),
        replace(Command("launch.sent"), RunsAnew),
        regroup(RUNS, Move, Command("move.saved")),
        regroup(InGroup, RemoveGroup, Command("move.saved")),
        regroup(InGroup, RemoveGroup, Command("group.emptied")),
        regroup(InGroup, RemoveGroup, Command("group.deleted")),
        reconcile(RUN_CUT_OFF, Command("journal.run-undone"), Gone),
        reconcile(RUN_CUT_OFF, Command("record.removed"), Gone),
        reconcile(REMOVE_CUT_OFF, Command("journal.proxy-ended"), Gone),
        reconcile(REMOVE_CUT_OFF, Command("journal.instance-removed"), Gone),
        reconcile(REMOVE_CUT_OFF, Command("journal.config-deleted"), Gone),
        reconcile(REPLACE_CUT_OFF, Command("journal.cleared"), End::Runs),
        reconcile(STOP_CUT_OFF, Command("stop.begun"), End::Stopped),
        reconcile(Orphaned, Command("start.claimed"), End::Runs),
        reconcile(Orphaned, Command("launch.sent"), End::Runs),
    ]
}

/// What is another way on an engine: its containers outlive their proxies.
pub(crate) fn docker() -> Vec<Case> {
    let run = |at, end| case(Nothing, Run, at, end, (Run, End::Runs));
    let start = |before, at| case(before, Start, at, End::Runs, (Start, End::Runs));
    let stop = |at| case(RUNS, Stop, at, End::Stopped, (Stop, End::Stopped));
    let remove = |at| case(RUNS, Remove, at, Gone, (Remove, Gone));
    vec![
        run(Command("run.recorded"), Gone),
        run(Command("launch.sent"), End::Runs),
        run(Proxy("proxy.deployed"), End::Runs),
        run(Proxy("record.written:2"), End::Runs),
        start(STOPPED, Command("start.claimed")),
        start(STOPPED, Proxy("proxy.deployed")),
        start(Orphaned, Proxy("proxy.leftover-stopped")),
        stop(Command("end.proxy-ended")),
        stop(Proxy("proxy.stopping")),
        remove(Command("rm.begun")),
        remove(Command("rm.instance-removed")),
        case(
            RUNS,
            Replace,
            Command("replace.removed"),
            End::Runs,
            (Replace, RunsAnew),
        ),
        case(
            RUNS,
            Replace,
            Command("replace.saved"),
            RunsAnew,
            (Replace, RunsAnew),
        ),
        case(
            RUNS,
            Restart,
            Command("restart.ended"),
            End::Runs,
            (Restart, End::Runs),
        ),
    ]
}

/// Of a server elsewhere there is the proxy alone.
pub(crate) fn remote() -> Vec<Case> {
    let run = |at, next| case(Nothing, Run, at, End::Runs, (next, End::Runs));
    let stop = |at| case(RUNS, Stop, at, End::Stopped, (Stop, End::Stopped));
    let remove = |at| case(RUNS, Remove, at, Gone, (Remove, Gone));
    vec![
        run(Command("run.saved"), Run),
        run(Command("launch.sent"), Run),
        run(Proxy("proxy.owned"), Run),
        // It is ready by its record.
        run(Proxy("record.written:2"), Start),
        case(
            STOPPED,
            Start,
            Command("start.claimed"),
            End::Runs,
            (Start, End::Runs),
        ),
        case(
            RUNS,
            Restart,
            Command("restart.ended"),
            End::Runs,
            (Restart, End::Runs),
        ),
        stop(Command("end.proxy-ended")),
        stop(Proxy("proxy.stopping")),
        remove(Command("rm.ended")),
        remove(Command("rm.config-deleted")),
    ]
}
