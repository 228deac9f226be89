//! Whether a process is ToolHive's proxy of a workload.

use jiff::{SignedDuration, Timestamp};
use thv_core::WorkloadName;

use crate::ProcessFacts;

/// A start time comes from the kernel's ticks and two readings of clocks; files have whole seconds.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(2);

/// What links a process to a workload, besides its command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolhiveEvidence {
    /// A status file or PID file names it.
    Recorded {
        /// The pid in the file.
        pid: u32,
        /// When the file was written; who started later cannot be meant.
        at: Timestamp,
    },
    /// It listens on the port of the workload's run config (it is one of [`PortHolder::processes`]).
    ///
    /// [`PortHolder::processes`]: crate::PortHolder::processes
    ListensOnPort,
}

/// Whether a process is proved to be the proxy that ToolHive started for the workload `name`.
///
/// All of these must hold; who is not proved is never signalled:
/// - it lives, and its effective user is `own_uid`
/// - its executable is `thv`, or its environment has `TOOLHIVE_DETACHED=1`
/// - its arguments are exactly `start`, `name`, and no flag but `--foreground` and `--debug`
/// - `evidence`: it is the recorded pid and started no later than the record (two seconds of slack for the clocks),
///   or it listens on the run config's port
pub fn is_toolhive_proxy(
    facts: &ProcessFacts,
    name: &WorkloadName,
    own_uid: u32,
    evidence: ToolhiveEvidence,
) -> bool {
    let linked = match evidence {
        ToolhiveEvidence::Recorded { pid, at } => {
            facts.identity.pid == pid && facts.started_at.duration_since(at) <= CLOCK_SLACK
        }
        ToolhiveEvidence::ListensOnPort => true,
    };
    facts.is_alive() && facts.uid == Some(own_uid) && is_thv(facts) && starts(facts, name) && linked
}

fn is_thv(facts: &ProcessFacts) -> bool {
    let named_thv = facts
        .exe
        .as_deref()
        .and_then(|exe| exe.file_name())
        .is_some_and(|name| name == "thv");
    named_thv || facts.detached_env == Some(true)
}

fn starts(facts: &ProcessFacts, name: &WorkloadName) -> bool {
    let Some((_program, args)) = facts.argv.split_first() else {
        return false;
    };
    let (flags, words): (Vec<&str>, Vec<&str>) = args
        .iter()
        .map(String::as_str)
        .partition(|arg| arg.starts_with('-'));
    words == ["start", name.as_str()]
        && flags
            .iter()
            .all(|flag| matches!(*flag, "--foreground" | "--debug"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProcessIdentity;

    const UID: u32 = 1000;

    fn proxy(command: &str) -> ProcessFacts {
        ProcessFacts {
            identity: ProcessIdentity {
                pid: 7,
                start_time: 1,
                boot_id: "boot".into(),
            },
            uid: Some(UID),
            exe: Some("/usr/local/bin/thv".into()),
            argv: command.split(' ').map(str::to_owned).collect(),
            detached_env: Some(true),
            zombie: false,
            started_at: "2026-01-01T00:00:10Z".parse().expect("a time"),
        }
    }

    fn recorded(at: &str) -> ToolhiveEvidence {
        ToolhiveEvidence::Recorded {
            pid: 7,
            at: at.parse().expect("a time"),
        }
    }

    fn check(facts: &ProcessFacts, evidence: ToolhiveEvidence, expected: bool) {
        let name = WorkloadName::new("foo").expect("a name");
        assert_eq!(
            is_toolhive_proxy(facts, &name, UID, evidence),
            expected,
            "{facts:?} by {evidence:?}"
        );
    }

    #[test]
    fn the_command_line_must_be_exactly_start_and_the_name() {
        for (command, expected) in [
            ("thv start foo", true),
            ("/opt/thv start foo --foreground", true),
            ("thv --debug start foo --foreground", true),
            ("thv start --foreground foo", true),
            ("thv start foo-bar --foreground", false),
            ("thv start foo bar", false),
            ("thv start --foreground", false),
            ("thv stop foo", false),
            ("thv run foo", false),
            ("thv start foo --group x", false),
            ("thv restart foo", false),
            ("thv x start foo", false),
            ("sh -c thv start foo", false),
            ("start foo", false),
            ("thv", false),
            ("", false),
        ] {
            check(&proxy(command), ToolhiveEvidence::ListensOnPort, expected);
        }
        let mut none = proxy("x");
        none.argv.clear();
        check(&none, ToolhiveEvidence::ListensOnPort, false);
    }

    #[test]
    fn it_is_ours_alive_and_toolhive() {
        let by_port = ToolhiveEvidence::ListensOnPort;
        let with = |change: fn(&mut ProcessFacts)| {
            let mut facts = proxy("thv start foo --foreground");
            change(&mut facts);
            facts
        };
        check(&with(|f| f.uid = Some(0)), by_port, false);
        check(&with(|f| f.uid = None), by_port, false);
        check(&with(|f| f.zombie = true), by_port, false);
        check(&with(|f| f.detached_env = None), by_port, true);
        check(&with(|f| f.exe = None), by_port, true);
        check(&with(|f| f.exe = Some("/usr/bin/other".into())), by_port, true);
        check(
            &with(|f| (f.exe, f.detached_env) = (Some("/usr/bin/xthv".into()), Some(false))),
            by_port,
            false,
        );
        check(&with(|f| (f.exe, f.detached_env) = (None, None)), by_port, false);
    }

    #[test]
    fn a_record_names_a_pid_that_started_no_later() {
        let facts = proxy("thv start foo --foreground");
        check(&facts, recorded("2026-01-01T00:00:10Z"), true);
        check(&facts, recorded("2026-01-01T00:00:08Z"), true);
        check(&facts, recorded("2026-01-01T00:00:07Z"), false);
        check(&facts, recorded("2026-01-02T00:00:00Z"), true);
        let other = ToolhiveEvidence::Recorded {
            pid: 8,
            at: facts.started_at,
        };
        check(&facts, other, false);
    }
}
