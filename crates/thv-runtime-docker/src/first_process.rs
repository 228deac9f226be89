//! The first process of a container, where it is one of this machine. Its end is the container's, and is known here the moment
//! it comes; an engine first takes the container apart, and tells a quarter of a second later.
//!
//! The engine's number is no proof: its processes may be another machine's, or counted in another namespace. It counts where
//! the kernel says of the process behind a pidfd that it is in this container's control group, and that it is the first of a
//! namespace of its own. Elsewhere nothing is known early.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use thv_process::{ProcessHandle, ProcessIdentity, Processes, system};

use crate::wire::Container;

/// How long an id is that is taken for proof; engines write it out.
const ID: usize = 64;

/// Those that somebody watches, by the containers' ids: whoever comes next needs neither the engine nor a proof.
#[derive(Debug, Default)]
pub(crate) struct FirstProcesses(Mutex<BTreeMap<String, Weak<FirstProcess>>>);

impl FirstProcesses {
    /// That of a container which is watched and alive.
    pub(crate) fn watched(&self, id: &str) -> Option<Arc<FirstProcess>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let process = all.get(id)?.upgrade()?;
        drop(all);
        process.is_alive().then_some(process)
    }

    /// That of a container as the engine describes it; `None` where it is not proved to be here and alive.
    pub(crate) fn of(&self, found: &Container) -> Option<Arc<FirstProcess>> {
        if let Some(process) = self.watched(&found.id) {
            return Some(process);
        }
        let process = Arc::new(FirstProcess::proved(found)?);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, process| process.strong_count() > 0);
        all.insert(found.id.clone(), Arc::downgrade(&process));
        Some(process)
    }
}

/// Such a process.
pub(crate) struct FirstProcess(Box<dyn ProcessHandle>);

impl FirstProcess {
    fn proved(found: &Container) -> Option<Self> {
        let pid = u32::try_from(found.state.pid).ok().filter(|&pid| pid > 1)?;
        let processes = system().ok()?;
        let identity = processes.facts(pid).ok()??.identity;
        let process = processes.open(&identity).ok()??;
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        is_first_of(&*processes, &identity, &found.id, read).then_some(Self(process))
    }

    fn is_alive(&self) -> bool {
        system().is_ok_and(|processes| matches!(processes.is_alive(self.0.identity()), Ok(true)))
    }

    /// Comes when it is dead; never where that cannot be watched. Cancel-safe.
    pub(crate) async fn ended(&self) {
        if let Err(error) = self.0.exited().await {
            tracing::debug!(%error, "the end of a container is known from its engine only");
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for FirstProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FirstProcess").field(self.0.identity()).finish()
    }
}

/// Whether what `read` gives of a process says that it is the container's first, and is about this process.
fn is_first_of(
    processes: &dyn Processes,
    identity: &ProcessIdentity,
    id: &str,
    read: impl Fn(&str) -> Option<String>,
) -> bool {
    let (Some(groups), Some(status)) = (read("cgroup"), read("status")) else {
        return false;
    };
    // Afterwards it is still the same: so what was read is about it.
    names(&groups, id) && begins_a_namespace(&status) && matches!(processes.is_alive(identity), Ok(true))
}

/// Whether a process with these control groups is in the container's: `/docker/<id>`, `…/docker-<id>.scope`,
/// `…/libpod-<id>.scope/container`, in any of the hierarchies.
fn names(groups: &str, id: &str) -> bool {
    if id.len() != ID || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return false;
    }
    let mut paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.any(|path| {
        path.split('/').any(|part| {
            let part = part.strip_suffix(".scope").unwrap_or(part);
            part == id || part.split_once('-').is_some_and(|(_, named)| named == id)
        })
    })
}

/// Whether the process is number 1 in its innermost namespace, and has another number in ours.
fn begins_a_namespace(status: &str) -> bool {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let mut numbers = numbers.unwrap_or_default().split_whitespace();
    let (outer, inner) = (numbers.next(), numbers.next_back());
    outer.is_some() && inner == Some("1")
}

#[cfg(test)]
mod tests {
    use thv_process::{Exit, MemoryProcess, MemoryProcesses};

    use super::*;

    const OURS: &str = "33beecbd95aed63f02e463330ab0f455e31224ccf3c7a091e54d5a555ab5bf0a";

    #[test]
    fn the_control_group_names_the_container_whole() {
        let other = OURS.replace('3', "4");
        for (groups, expected) in [
            (
                format!("9:name=systemd:/docker/{OURS}\n8:pids:/docker/{OURS}\n"),
                true,
            ),
            (format!("0::/system.slice/docker-{OURS}.scope\n"), true),
            (format!("0::/libpod_parent/libpod-{OURS}\n"), true),
            (
                format!("0::/user.slice/user@1000.service/user.slice/libpod-{OURS}.scope/container\n"),
                true,
            ),
            (format!("0::/../{OURS}\n"), true),
            (format!("1:cpu:/\n0::/docker/{OURS}\n"), true),
            (format!("0::/docker/{other}\n"), false),
            (format!("0::/docker/{}\n", &OURS[..63]), false),
            (format!("0::/docker/a{OURS}\n"), false),
            // What watches a container is in a group of its own.
            (format!("0::/machine.slice/libpod-conmon-{OURS}.scope\n"), false),
            ("0::/\n".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(names(&groups, OURS), expected, "{groups}");
        }
        for no_id in ["", "docker", &OURS[..12], &OURS.replace('3', "-")] {
            assert!(!names(&format!("0::/docker/{no_id}\n"), no_id), "{no_id}");
        }
    }

    /// Its number may have been given away before the files were read, to the first process of the container even.
    #[test]
    fn what_was_read_of_a_process_that_is_dead_by_then_is_about_another() {
        let machine = MemoryProcesses::new();
        let first = machine.add(MemoryProcess::new("/server"));
        let file = |file: &str| match file {
            "cgroup" => Some(format!("0::/docker/{OURS}\n")),
            _ => Some("NSpid:\t6174\t1\n".to_owned()),
        };
        assert!(is_first_of(&machine, &first, OURS, file));
        let dies = |name: &str| {
            machine.exit(first.pid, Exit::Code(0));
            file(name)
        };
        assert!(!is_first_of(&machine, &first, OURS, dies));
    }

    #[test]
    fn only_the_first_process_of_a_namespace_ends_it() {
        for (status, expected) in [
            ("Name:\tserver\nNSpid:\t6174\t1\nNSpgid:\t6174\t1\n", true),
            ("NSpid:\t6174\t57\t1\n", true),
            ("NSpid:\t6174\t7\n", false),
            ("NSpid:\t6174\n", false),
            ("NSpid:\t1\n", false),
            ("Pid:\t6174\n", false),
        ] {
            assert_eq!(begins_a_namespace(status), expected, "{status}");
        }
    }
}
