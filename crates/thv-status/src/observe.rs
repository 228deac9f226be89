//! What a workload is, from what was recorded and what is seen. Pure.

use thv_core::WorkloadStatus;
use thv_runtime::{Instance, InstanceState};

use crate::{Desired, Reading, Snapshot};

/// Whether the proxy lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyState {
    /// It is not on this machine, and nobody's business here.
    NotHere,
    /// It cannot be found out.
    Unknown,
    /// It lives: `.owner` is held, or a process is proved to be ToolHive's proxy.
    Alive,
    /// It does not.
    Dead,
}

/// What is seen of the instance.
#[derive(Debug, Clone)]
pub enum InstanceView<'a> {
    /// There is none to be: the server is remote.
    NotApplicable,
    /// It cannot be found out, for this reason.
    Unknown(String),
    /// There is none.
    Absent,
    /// It is there.
    Present(&'a Instance),
}

/// Why a workload does not run whose start came to no end.
pub const INTERRUPTED: &str = "start was interrupted: start it again";

/// What a workload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Its status.
    pub status: WorkloadStatus,
    /// Why.
    pub context: String,
}

/// Says what a workload is.
///
/// With the recorded status `running` (and `unhealthy`, `unauthenticated`, `auth_retrying`, whose own context is kept while
/// both live):
///
/// | proxy | instance | observed |
/// |---|---|---|
/// | alive | running, or remote | as recorded |
/// | alive | paused | `unhealthy`, how it is resumed |
/// | alive | not running | `unhealthy`, the mismatch in ToolHive's words |
/// | alive | absent | `unhealthy`, not found in the runtime |
/// | alive | unknown | `unknown`, the runtime's reason |
/// | dead, other boot | any but running or paused | `stopped`, "machine restarted" |
/// | dead | running, paused, or remote | `unhealthy`, ToolHive's words for a dead proxy |
/// | dead | not running or absent | `stopped` if that is desired, else `unhealthy`, both gone |
/// | dead | unknown | `unhealthy`, a dead proxy, and the runtime's reason |
/// | unknown, elsewhere | any | the instance's state |
///
/// `starting` and `stopping` are believed while the proxy lives; without it they ended half-way, and the same table says
/// what is left. A verb that starts holds `.owner` from before it writes `starting` until the proxy has it: one whose entry is
/// there, and whose `.owner` is free, was interrupted. `stopped`, `error`, `removing` and `policy_stopped` are shown as recorded; an instance that runs all the
/// same is said in the context, and so is damage of what is recorded where there is nothing else to say. Instead of a damaged
/// status file counts, while its proxy lives, what that wrote last.
pub fn observe(
    snapshot: &Snapshot,
    instance: &InstanceView<'_>,
    proxy: ProxyState,
    boot_id: &str,
) -> Observation {
    let mut seen = by_status(snapshot, instance, proxy, boot_id);
    if let Some(damage) = snapshot.damage.as_ref().filter(|_| seen.context.is_empty()) {
        seen.context = damaged(damage);
    }
    seen
}

fn by_status(
    snapshot: &Snapshot,
    instance: &InstanceView<'_>,
    proxy: ProxyState,
    boot_id: &str,
) -> Observation {
    use WorkloadStatus as S;
    let read = snapshot.status.as_ref().map(|file| Observation {
        status: file.status,
        context: file.status_context.clone(),
    });
    let Some(recorded) = read.or_else(|| last_written(snapshot, instance, proxy)) else {
        return without_status(snapshot, instance);
    };
    match recorded.status {
        S::Error | S::Removing | S::PolicyStopped => recorded,
        S::Stopped => stopped(recorded, instance),
        S::Unknown => from_instance(instance).unwrap_or(recorded),
        S::Starting | S::Stopping if proxy == ProxyState::Alive => recorded,
        S::Starting if proxy == ProxyState::Dead && pending(snapshot) => Observation {
            status: S::Error,
            context: INTERRUPTED.into(),
        },
        S::Starting | S::Stopping if pending(snapshot) => recorded,
        _ => match proxy {
            ProxyState::Alive => with_proxy(snapshot, recorded, instance),
            ProxyState::Dead => without_proxy(snapshot, instance, boot_id),
            ProxyState::NotHere | ProxyState::Unknown => from_instance(instance).unwrap_or(recorded),
        },
    }
}

/// What a status file said that is damaged by now, while a proxy lives that writes it. Its record knows; without one, a
/// running instance shows it.
fn last_written(snapshot: &Snapshot, instance: &InstanceView<'_>, proxy: ProxyState) -> Option<Observation> {
    if proxy != ProxyState::Alive || snapshot.damage.is_none() {
        return None;
    }
    let last = snapshot
        .companion
        .as_ref()
        .and_then(|companion| companion.last.as_ref());
    match (last, instance) {
        (Some(last), _) => Some(Observation {
            status: last.status,
            context: last.context.clone(),
        }),
        (None, InstanceView::Present(instance)) if instance.state == InstanceState::Running => {
            Some(Observation {
                status: WorkloadStatus::Running,
                context: String::new(),
            })
        }
        (None, _) => None,
    }
}

/// A verb is at work, or was cut off: its entry says so, and the next verb finishes it.
fn pending(snapshot: &Snapshot) -> bool {
    snapshot
        .companion
        .as_ref()
        .is_some_and(|companion| companion.pending.is_some())
}

fn with_proxy(snapshot: &Snapshot, recorded: Observation, instance: &InstanceView<'_>) -> Observation {
    match instance {
        InstanceView::Present(instance) if instance.state == InstanceState::Running => {
            healthy(snapshot, recorded)
        }
        InstanceView::NotApplicable => healthy(snapshot, recorded),
        InstanceView::Present(instance) if instance.state == InstanceState::Paused => {
            unhealthy(instance.status_text.clone())
        }
        InstanceView::Present(instance) => {
            let mut context = format!(
                "workload status mismatch: file indicates running, but runtime shows {}",
                WorkloadStatus::from(instance.state)
            );
            if instance.state == InstanceState::Unknown {
                context = format!("{context}: {}", instance.status_text);
            }
            unhealthy(context)
        }
        InstanceView::Absent => unhealthy(not_found(snapshot)),
        InstanceView::Unknown(reason) => Observation {
            status: WorkloadStatus::Unknown,
            context: reason.clone(),
        },
    }
}

/// Both are seen alive: an observation of somebody else's is out of date.
fn healthy(snapshot: &Snapshot, recorded: Observation) -> Observation {
    let stale = snapshot.status.is_some()
        && recorded.status == WorkloadStatus::Unhealthy
        && matches!(snapshot.reading, Reading::Foreign(_) | Reading::ToolHive);
    if stale {
        return Observation {
            status: WorkloadStatus::Running,
            context: String::new(),
        };
    }
    recorded
}

fn without_proxy(snapshot: &Snapshot, instance: &InstanceView<'_>, boot_id: &str) -> Observation {
    let runs = matches!(instance, InstanceView::Present(instance) if instance.state.is_up());
    let owner = snapshot
        .companion
        .as_ref()
        .and_then(|companion| companion.owner.as_ref());
    if !runs && owner.is_some_and(|owner| owner.identity.boot_id != boot_id) {
        return Observation {
            status: WorkloadStatus::Stopped,
            context: "machine restarted".into(),
        };
    }
    if !runs && snapshot.desired() == Desired::Stopped {
        return Observation {
            status: WorkloadStatus::Stopped,
            context: String::new(),
        };
    }
    match instance {
        InstanceView::Present(_) if runs => unhealthy(dead_proxy(snapshot)),
        InstanceView::NotApplicable => unhealthy(dead_proxy(snapshot)),
        InstanceView::Unknown(reason) => unhealthy(format!("{}; {reason}", dead_proxy(snapshot))),
        InstanceView::Present(_) | InstanceView::Absent => {
            let since = snapshot
                .status
                .as_ref()
                .map_or_else(String::new, |file| file.updated_at.to_string());
            unhealthy(format!("proxy and container gone since {since}"))
        }
    }
}

fn stopped(recorded: Observation, instance: &InstanceView<'_>) -> Observation {
    match instance {
        InstanceView::Present(instance) if instance.state == InstanceState::Running => Observation {
            context: "stopped, but its instance runs: stop it again".into(),
            ..recorded
        },
        InstanceView::Present(instance) if instance.state == InstanceState::Paused => Observation {
            context: "stopped, but its instance is only paused: stop it again".into(),
            ..recorded
        },
        _ => recorded,
    }
}

fn without_status(snapshot: &Snapshot, instance: &InstanceView<'_>) -> Observation {
    if let Some(damage) = &snapshot.damage {
        return Observation {
            status: WorkloadStatus::Unknown,
            context: damaged(damage),
        };
    }
    from_instance(instance).unwrap_or_else(|| Observation {
        status: WorkloadStatus::Stopped,
        context: String::new(),
    })
}

fn damaged(damage: &str) -> String {
    format!("what is recorded of it is damaged: {damage}")
}

fn from_instance(instance: &InstanceView<'_>) -> Option<Observation> {
    match instance {
        InstanceView::Present(instance) => Some(Observation {
            status: instance.state.into(),
            context: instance.status_text.clone(),
        }),
        InstanceView::Unknown(reason) => Some(Observation {
            status: WorkloadStatus::Unknown,
            context: reason.clone(),
        }),
        InstanceView::NotApplicable | InstanceView::Absent => None,
    }
}

fn unhealthy(context: String) -> Observation {
    Observation {
        status: WorkloadStatus::Unhealthy,
        context,
    }
}

fn dead_proxy(snapshot: &Snapshot) -> String {
    format!(
        "proxy process not running: workload shows running but proxy process for {} is not active",
        snapshot.raw_name
    )
}

fn not_found(snapshot: &Snapshot) -> String {
    format!(
        "workload {} not found in runtime, marking as unhealthy",
        snapshot.raw_name
    )
}

#[cfg(test)]
mod tests {
    use thv_core::gojson::GoTime;
    use thv_process::ProcessIdentity;
    use thv_runtime::InstanceId;

    use super::*;
    use crate::{ClaimId, Companion, Owner, OwnerKind, OwnerState, StatusFile};

    fn instance(state: InstanceState) -> Instance {
        let mut instance = Instance::new("fetch", InstanceId::new("1"), "memory".into(), "fetch:1", state);
        instance.status_text = "text".into();
        instance
    }

    fn snapshot(status: WorkloadStatus, desired: Desired, reading: Reading) -> Snapshot {
        let mut companion = Companion::new(ClaimId::random(), "thv");
        companion.desired = desired;
        let identity = ProcessIdentity {
            pid: 7,
            start_time: 1,
            boot_id: "boot".into(),
        };
        companion.owner = Some(Owner {
            kind: OwnerKind::Detached,
            identity,
            ending: false,
        });
        Snapshot {
            raw_name: "fetch".into(),
            name: "fetch".parse().ok(),
            status: Some(StatusFile::new(status, GoTime::default())),
            damage: None,
            companion: Some(std::sync::Arc::new(companion)),
            reading,
            overruled: false,
            owner: OwnerState::Dead,
            pid_file: None,
        }
    }

    #[test]
    fn what_is_damaged_is_said() {
        let (running, unknown) = (instance(InstanceState::Running), instance(InstanceState::Unknown));
        let context = |instance: &Instance, damage: Option<&str>| {
            let mut snapshot = snapshot(WorkloadStatus::Running, Desired::Running, Reading::Ours);
            snapshot.damage = damage.map(str::to_owned);
            let instance = InstanceView::Present(instance);
            observe(&snapshot, &instance, ProxyState::Alive, "boot").context
        };
        assert_eq!(context(&running, None), "");
        assert!(context(&running, Some("it is empty")).ends_with("is damaged: it is empty"));
        let said = context(&unknown, Some("it is empty"));
        assert!(said.ends_with("but runtime shows unknown: text"), "{said}");
    }

    #[test]
    fn a_damaged_status_file_hides_no_proxy_that_lives() {
        use ProxyState as P;
        use WorkloadStatus as S;
        let (running, down) = (instance(InstanceState::Running), instance(InstanceState::Stopped));
        let (up, gone) = (InstanceView::Present(&running), InstanceView::Present(&down));
        let seen = |last: Option<(S, &str)>, proxy, instance: &InstanceView<'_>| {
            let reading = Reading::Foreign(crate::ForeignMeaning::Other);
            let mut snapshot = snapshot(S::Running, Desired::Running, reading);
            snapshot.status = None;
            snapshot.damage = Some("it is empty".into());
            let mut companion = Companion::new(ClaimId::random(), "thv");
            companion.last = last.map(|(status, context)| crate::LastStatus {
                status,
                context: context.into(),
                process_id: 7,
            });
            snapshot.companion = Some(std::sync::Arc::new(companion));
            let seen = observe(&snapshot, instance, proxy, "boot");
            (seen.status, seen.context)
        };
        let damaged = || damaged("it is empty");
        let runs = Some((S::Running, ""));
        assert_eq!(seen(runs, P::Alive, &up), (S::Running, damaged()));
        assert_eq!(seen(None, P::Alive, &up), (S::Running, damaged()));
        assert_eq!(
            seen(runs, P::Alive, &InstanceView::NotApplicable),
            (S::Running, damaged())
        );
        let away = Some((S::Unhealthy, "it is away"));
        let told = (S::Unhealthy, "it is away".to_owned());
        assert_eq!(seen(away, P::Alive, &InstanceView::NotApplicable), told);
        assert_eq!(
            seen(Some((S::Starting, "")), P::Alive, &InstanceView::Absent),
            (S::Starting, damaged())
        );
        assert_eq!(seen(runs, P::Alive, &gone).0, S::Unhealthy);
        assert_eq!(
            seen(None, P::Alive, &InstanceView::NotApplicable),
            (S::Unknown, damaged())
        );
        assert_eq!(seen(runs, P::Dead, &up), (S::Unknown, damaged()));
    }

    #[test]
    fn the_table() {
        use InstanceState as I;
        use ProxyState as P;
        use WorkloadStatus as S;
        let (running, down) = (instance(I::Running), instance(I::Stopped));
        let up = InstanceView::Present(&running);
        let gone = InstanceView::Present(&down);
        let unknown = InstanceView::Unknown("engine is down".into());
        let check = |recorded, proxy, instance: &InstanceView<'_>, desired, boot, expected, part: &str| {
            let seen = observe(&snapshot(recorded, desired, Reading::Ours), instance, proxy, boot);
            assert_eq!(
                seen.status, expected,
                "{recorded} {proxy:?} {instance:?} {desired:?} {boot}: {seen:?}"
            );
            assert!(seen.context.contains(part), "{seen:?} has not {part:?}");
        };
        let run = Desired::Running;
        check(S::Running, P::Alive, &up, run, "boot", S::Running, "");
        check(
            S::Running,
            P::Alive,
            &InstanceView::NotApplicable,
            run,
            "boot",
            S::Running,
            "",
        );
        check(
            S::Running,
            P::Alive,
            &gone,
            run,
            "boot",
            S::Unhealthy,
            "but runtime shows stopped",
        );
        check(
            S::Running,
            P::Alive,
            &InstanceView::Absent,
            run,
            "boot",
            S::Unhealthy,
            "not found in runtime",
        );
        check(
            S::Running,
            P::Alive,
            &unknown,
            run,
            "boot",
            S::Unknown,
            "engine is down",
        );
        check(
            S::Running,
            P::Dead,
            &up,
            run,
            "boot",
            S::Unhealthy,
            "proxy process for fetch is not active",
        );
        check(
            S::Running,
            P::Dead,
            &up,
            run,
            "other",
            S::Unhealthy,
            "proxy process for fetch",
        );
        check(
            S::Running,
            P::Dead,
            &InstanceView::NotApplicable,
            run,
            "boot",
            S::Unhealthy,
            "proxy process",
        );
        check(
            S::Running,
            P::Dead,
            &gone,
            run,
            "boot",
            S::Unhealthy,
            "proxy and container gone since",
        );
        check(
            S::Running,
            P::Dead,
            &InstanceView::Absent,
            run,
            "other",
            S::Stopped,
            "machine restarted",
        );
        check(
            S::Running,
            P::Dead,
            &gone,
            Desired::Stopped,
            "boot",
            S::Stopped,
            "",
        );
        check(
            S::Running,
            P::Dead,
            &unknown,
            run,
            "boot",
            S::Unhealthy,
            "engine is down",
        );
        check(S::Running, P::NotHere, &up, run, "boot", S::Running, "");
        check(
            S::Starting,
            P::Alive,
            &InstanceView::Absent,
            run,
            "boot",
            S::Starting,
            "",
        );
        check(
            S::Starting,
            P::Dead,
            &gone,
            run,
            "boot",
            S::Unhealthy,
            "gone since",
        );
        check(
            S::Stopping,
            P::Dead,
            &gone,
            Desired::Stopped,
            "boot",
            S::Stopped,
            "",
        );
        check(
            S::Stopped,
            P::Dead,
            &up,
            Desired::Stopped,
            "boot",
            S::Stopped,
            "its instance runs",
        );
        check(
            S::Error,
            P::Dead,
            &InstanceView::Absent,
            run,
            "boot",
            S::Error,
            "",
        );
        check(S::Unhealthy, P::Alive, &up, run, "boot", S::Unhealthy, "");
    }

    #[test]
    fn what_is_paused_is_neither_running_nor_gone() {
        use WorkloadStatus as S;
        let mut paused = instance(InstanceState::Paused);
        paused.status_text = "`unpause` lets it go on".into();
        let paused = InstanceView::Present(&paused);
        for (recorded, proxy, status, context) in [
            (
                S::Running,
                ProxyState::Alive,
                S::Unhealthy,
                "`unpause` lets it go on",
            ),
            (
                S::Running,
                ProxyState::Dead,
                S::Unhealthy,
                "proxy process not running",
            ),
            (S::Stopped, ProxyState::Dead, S::Stopped, "only paused"),
            (
                S::Unknown,
                ProxyState::Unknown,
                S::Stopped,
                "`unpause` lets it go on",
            ),
        ] {
            let snapshot = snapshot(recorded, Desired::Running, Reading::Ours);
            let seen = observe(&snapshot, &paused, proxy, "another boot");
            assert_eq!(seen.status, status, "{recorded} {proxy:?}: {seen:?}");
            assert!(seen.context.contains(context), "{recorded} {proxy:?}: {seen:?}");
        }
    }

    #[test]
    fn a_start_that_was_cut_off_is_told_at_once() {
        let check = |status, proxy, expected: WorkloadStatus, context: &str| {
            let mut snapshot = snapshot(status, Desired::Running, Reading::Ours);
            let mut companion = Companion::new(ClaimId::random(), "thv");
            companion.pending = Some(crate::Pending::new(crate::Operation::Start, 7, "now"));
            snapshot.companion = Some(std::sync::Arc::new(companion));
            let seen = observe(&snapshot, &InstanceView::Absent, proxy, "boot");
            assert_eq!(
                (seen.status, seen.context.as_str()),
                (expected, context),
                "{status} {proxy:?}"
            );
        };
        use WorkloadStatus as S;
        check(S::Starting, ProxyState::Dead, S::Error, INTERRUPTED);
        check(S::Starting, ProxyState::Alive, S::Starting, "");
        check(S::Starting, ProxyState::Unknown, S::Starting, "");
        check(S::Stopping, ProxyState::Dead, S::Stopping, "");
    }

    #[test]
    fn a_foreign_unhealthy_is_ignored_while_both_live() {
        let running = instance(InstanceState::Running);
        let foreign = Reading::Foreign(crate::ForeignMeaning::Observation);
        let snapshot = snapshot(WorkloadStatus::Unhealthy, Desired::Running, foreign);
        let seen = observe(
            &snapshot,
            &InstanceView::Present(&running),
            ProxyState::Alive,
            "boot",
        );
        assert_eq!(seen.status, WorkloadStatus::Running);
    }
}
