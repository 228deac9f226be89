//! How the processes of a contained program are kept together.

use serde::{Deserialize, Serialize};

use crate::ProcessIdentity;

/// What keeps the descendants of a contained program together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Containment {
    /// A pid namespace: the kernel ends all that are in it at once. Needs the right to make one.
    PidNamespace,
    /// Orphans are given to the keeper, who ends them when the program has ended.
    Subreaper,
}

/// A program that was started [contained](crate::DetachedSpec::contained), as it was at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contained {
    /// What keeps it together.
    pub containment: Containment,
    /// The program itself, a child of its keeper; `None` when it had ended before anybody could look.
    pub program: Option<ProcessIdentity>,
}
