//! Instances as a runtime sees them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thv_core::{WorkloadName, WorkloadStatus};

use crate::{PortBinding, RuntimeKind};

/// The identity of one instance; a replaced instance has another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(String);

impl InstanceId {
    /// An id as the runtime spells it.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which instance a call means: the one of a workload, or exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceRef {
    /// The workload.
    pub name: WorkloadName,
    /// If given, any other instance under that name is a `Conflict`.
    pub id: Option<InstanceId>,
}

impl InstanceRef {
    /// Whatever instance the workload has.
    pub fn named(name: WorkloadName) -> Self {
        Self { name, id: None }
    }

    /// Exactly this instance.
    pub fn exact(name: WorkloadName, id: InstanceId) -> Self {
        Self { name, id: Some(id) }
    }
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Made, not started yet, or restarting.
    Starting,
    /// Running.
    Running,
    /// Its processes are there and do nothing until somebody resumes it; a record takes it for stopped.
    Paused,
    /// Exited, dead.
    Stopped,
    /// Being removed.
    Removing,
    /// The runtime says something that we do not know.
    Unknown,
}

impl InstanceState {
    /// Whether its processes are there.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl From<InstanceState> for WorkloadStatus {
    fn from(state: InstanceState) -> Self {
        match state {
            InstanceState::Starting => Self::Starting,
            InstanceState::Running => Self::Running,
            InstanceState::Paused | InstanceState::Stopped => Self::Stopped,
            InstanceState::Removing => Self::Removing,
            InstanceState::Unknown => Self::Unknown,
        }
    }
}

/// One instance. A runtime makes it with [`Instance::new`] and says what else it knows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Instance {
    /// The workload's name as the labels give it. Not validated: others make containers too.
    pub workload: String,
    /// Its identity.
    pub id: InstanceId,
    /// Its name in the engine.
    pub instance_name: String,
    /// Which runtime has it.
    pub runtime: RuntimeKind,
    /// The image or program as it was asked for.
    pub image: String,
    /// The id of the image that it was made of, where there is one.
    pub image_id: Option<String>,
    /// What it is doing.
    pub state: InstanceState,
    /// The runtime's own words for that (`Up 3 minutes`, `exited with code 1`); of a paused one, how it is resumed.
    pub status_text: String,
    /// The exit code of an instance that ended, where known.
    pub exit_code: Option<i64>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When it was last started; a list may leave it out.
    pub started: Option<Timestamp>,
    /// Its labels, image labels included.
    pub labels: BTreeMap<String, String>,
    /// The ports that are reachable.
    pub ports: Vec<PortBinding>,
    /// Whether its traffic is limited to the profile's allow-lists.
    pub network_isolated: bool,
    /// Why it is of no use although it runs: what its network needs has ended, for example. A list leaves it out.
    pub impaired: Option<String>,
}

impl Instance {
    /// What is known of each instance; its name in the engine is the workload's, and nothing else is said.
    pub fn new(
        workload: impl Into<String>,
        id: InstanceId,
        runtime: RuntimeKind,
        image: impl Into<String>,
        state: InstanceState,
    ) -> Self {
        let workload = workload.into();
        Self {
            instance_name: workload.clone(),
            workload,
            id,
            runtime,
            image: image.into(),
            image_id: None,
            state,
            status_text: String::new(),
            exit_code: None,
            created: None,
            started: None,
            labels: BTreeMap::new(),
            ports: Vec::new(),
            network_isolated: false,
            impaired: None,
        }
    }
}
