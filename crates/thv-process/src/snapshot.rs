//! All processes at one moment, and who belongs to whom among them.

use std::collections::HashMap;

use crate::ProcessIdentity;

/// One process of a [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotEntry {
    /// Who it is.
    pub identity: ProcessIdentity,
    /// The pid of its parent.
    pub parent: u32,
    /// The number of its session: its leader's pid.
    pub session: u32,
    /// Whether it has ended and waits to be collected.
    pub zombie: bool,
    /// Whether it says that it is the keeper of a [contained](crate::DetachedSpec::contained) program. Others could
    /// call themselves so.
    pub keeper: bool,
}

/// The process table, read once. What is derived from it is consistent: no pid changes hands in between.
#[derive(Debug, Clone, Default)]
pub struct Snapshot(Vec<SnapshotEntry>);

impl SnapshotEntry {
    /// An entry of these parts.
    pub fn new(identity: ProcessIdentity, parent: u32, session: u32, zombie: bool) -> Self {
        Self {
            identity,
            parent,
            session,
            zombie,
            keeper: false,
        }
    }

    /// Marks it as a keeper.
    pub fn keeper(mut self, keeper: bool) -> Self {
        self.keeper = keeper;
        self
    }
}

impl Snapshot {
    /// A snapshot of these processes.
    pub fn new(processes: Vec<SnapshotEntry>) -> Self {
        Self(processes)
    }

    /// Exactly this process, dead or alive; `None` when it is not there, or its pid is another's by now.
    pub fn get(&self, identity: &ProcessIdentity) -> Option<&SnapshotEntry> {
        self.0.iter().find(|entry| entry.identity == *identity)
    }

    /// Whether this process is there and says that it is a keeper.
    pub fn is_keeper(&self, identity: &ProcessIdentity) -> bool {
        self.get(identity).is_some_and(|entry| entry.keeper)
    }

    /// The keeper whose child this process is, if it has one.
    pub fn keeper_of(&self, program: &ProcessIdentity) -> Option<&ProcessIdentity> {
        let parent = self.get(program)?.parent;
        let keeper = |entry: &&SnapshotEntry| entry.keeper && entry.identity.pid == parent;
        self.0.iter().find(keeper).map(|entry| &entry.identity)
    }

    /// The living children of `root`, their children and so on, without `root` itself; parents come first. Empty when
    /// the pid is another's by now. Who was orphaned on the way is not found.
    pub fn descendants(&self, root: &ProcessIdentity) -> Vec<ProcessIdentity> {
        let Some(root) = self.get(root) else {
            return Vec::new();
        };
        let mut children: HashMap<u32, Vec<&SnapshotEntry>> = HashMap::new();
        for entry in &self.0 {
            children.entry(entry.parent).or_default().push(entry);
        }
        let mut found = vec![root];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            let of_parent = children.remove(&parent.identity.pid).unwrap_or_default();
            // No child is older than its parent: such a one belongs to somebody who had the pid before.
            let younger = |child: &&SnapshotEntry| child.identity.start_time >= parent.identity.start_time;
            found.extend(of_parent.into_iter().filter(younger));
            next += 1;
        }
        living(found.into_iter().skip(1))
    }

    /// The living members of the session that `leader` leads or led, itself included. Empty when `leader` is not in
    /// the table any more: only while it holds the number, be it as a zombie, is the session surely its own.
    pub fn session_of(&self, leader: &ProcessIdentity) -> Vec<ProcessIdentity> {
        if self.get(leader).is_none() {
            return Vec::new();
        }
        living(self.0.iter().filter(|entry| entry.session == leader.pid))
    }
}

fn living<'a>(entries: impl Iterator<Item = &'a SnapshotEntry>) -> Vec<ProcessIdentity> {
    entries
        .filter(|entry| !entry.zombie)
        .map(|entry| entry.identity.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(pid: u32, start_time: u64) -> ProcessIdentity {
        ProcessIdentity {
            pid,
            start_time,
            boot_id: "boot".into(),
        }
    }

    fn entry(pid: u32, start_time: u64, parent: u32, session: u32) -> SnapshotEntry {
        SnapshotEntry::new(identity(pid, start_time), parent, session, false)
    }

    fn pids(found: &[ProcessIdentity]) -> Vec<u32> {
        found.iter().map(|identity| identity.pid).collect()
    }

    #[test]
    fn descendants_are_found_through_the_dead_and_the_dead_left_out() {
        let mut dead = entry(3, 3, 2, 2);
        dead.zombie = true;
        let table = Snapshot::new(vec![
            entry(1, 1, 0, 1),
            entry(4, 4, 3, 2),
            entry(2, 2, 1, 2),
            dead,
            entry(9, 9, 1, 9),
        ]);
        assert_eq!(pids(&table.descendants(&identity(2, 2))), [4]);
        assert_eq!(pids(&table.session_of(&identity(2, 2))), [4, 2]);
    }

    #[test]
    fn who_has_the_pid_now_has_no_part_in_who_had_it() {
        let table = Snapshot::new(vec![entry(2, 50, 1, 2), entry(3, 51, 2, 2)]);
        assert!(table.descendants(&identity(2, 2)).is_empty());
        assert!(table.session_of(&identity(2, 2)).is_empty());
    }

    #[test]
    fn a_child_that_is_older_than_its_parent_is_another_ones() {
        let table = Snapshot::new(vec![entry(2, 50, 1, 2), entry(3, 7, 2, 2), entry(4, 51, 2, 4)]);
        assert_eq!(pids(&table.descendants(&identity(2, 50))), [4]);
    }
}
