//! The companion record: what we know besides ToolHive's five keys.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thv_core::{ProvenanceRecord, RunConfig, WorkloadStatus};
use thv_process::ProcessIdentity;
use thv_runtime::{InstanceId, RuntimeKind};

use crate::transaction::hash;

/// The hash under which records name a run configuration. The group is not in it: no server is another one for that, and a
/// move changes nothing but the run configuration.
pub fn config_hash(config: &RunConfig) -> String {
    let mut config = config.clone();
    config.group.clear();
    hash(config.to_json().as_bytes())
}

/// A claim: random, new each time, never used again. It is the fence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimId(String);

impl ClaimId {
    /// 128 random bits.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives randomness");
        Self(bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    /// 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What we know of a workload besides its status file.
///
/// Keys that we do not know are kept, so that an older program does not lose what a newer one wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Companion {
    /// The format's version.
    pub version: u32,
    /// Who may write: the supervisor with this claim.
    pub claim: ClaimId,
    /// Counts changes.
    pub revision: u64,
    /// The process that supervises, once it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Who launched it: `thv`, or an application's id. Empty: ToolHive made it.
    #[serde(default)]
    pub launcher: String,
    /// What the user wants.
    pub desired: Desired,
    /// How long the server may take to end before it is killed, in milliseconds, as the last `stop` said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_grace_ms: Option<u64>,
    /// Whether it is `desired = stopped` only so that a start under way gives up for a verb that starts it anew: should
    /// that one never come, it should run as before. The next change by a verb takes it in and clears it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gives_way: bool,
    /// The hash of the run configuration that was ready once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// The journal entry of the verb under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// What an update replaced and brings back, if what it brought does not become ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<Previous>>,
    /// The runtime that it belongs to; none for remote workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeRecord>,
    /// The instance that a supervisor deployed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// What the image was when the configuration was saved: what each start deploys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<ResolvedImage>,
    /// What was found out about who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<ProvenanceRecord>,
    /// The runtime that keeps the image of what an update replaced from clean-ups; none: nothing is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_kept_on: Option<RuntimeKind>,
    /// Whether the instance's network is isolated in effect.
    #[serde(default)]
    pub isolated: bool,
    /// A copy of our keys of the run configuration, which ToolHive drops when it saves the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thv: Option<Value>,
    /// How often each secret had changed when the instance was started.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_revisions: BTreeMap<String, u64>,
    /// The status file as it was found and as it was written at the last change.
    #[serde(default)]
    pub status_file: StatusFileHashes,
    /// The status fields of that write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastStatus>,
    /// Keys of a newer version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Companion {
    /// The version that is written; older ones are read.
    pub(crate) const VERSION: u32 = 1;

    /// The record of a workload that `launcher` should keep running.
    pub fn new(claim: ClaimId, launcher: &str) -> Self {
        Self {
            version: Self::VERSION,
            claim,
            revision: 0,
            owner: None,
            launcher: launcher.to_owned(),
            desired: Desired::Running,
            stop_grace_ms: None,
            gives_way: false,
            ready: None,
            pending: None,
            previous: None,
            runtime: None,
            instance: None,
            resolved: None,
            provenance: None,
            image_kept_on: None,
            isolated: false,
            thv: None,
            secret_revisions: BTreeMap::new(),
            status_file: StatusFileHashes::default(),
            last: None,
            extra: Map::new(),
        }
    }

    /// What is said of the run configuration that is there.
    pub fn described(&self) -> Described {
        Described {
            launcher: self.launcher.clone(),
            runtime: self.runtime.clone(),
            resolved: self.resolved.clone(),
            provenance: self.provenance.clone(),
            thv: self.thv.clone(),
        }
    }

    /// The run configuration that the verb under way brings is there: what the entry holds for it is taken over.
    pub fn carry_out(&mut self) {
        let Some(pending) = &mut self.pending else { return };
        if let Some(previous) = pending.previous.take() {
            self.previous = Some(previous);
        }
        if let Some(next) = self.pending.as_mut().and_then(|pending| pending.next.take()) {
            self.describe(next);
        }
    }

    /// Forgets what was said of the run configuration before, and that it was ready.
    pub fn describe(&mut self, described: Described) {
        self.launcher = described.launcher;
        self.runtime = described.runtime;
        self.resolved = described.resolved;
        self.provenance = described.provenance;
        self.thv = described.thv;
        self.ready = None;
        self.instance = None;
        self.isolated = false;
        self.secret_revisions.clear();
    }
}

/// Who supervises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// In what kind of process.
    pub kind: OwnerKind,
    /// Which one.
    #[serde(flatten)]
    pub identity: ProcessIdentity,
    /// Whether it has heard that it should end: one that never says so hangs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

/// In what kind of process a supervisor lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerKind {
    /// One of its own, launched for it: it may be signalled.
    Detached,
    /// A command in the foreground of a terminal: it may be signalled.
    Foreground,
    /// An application that embeds the manager: it is never signalled.
    Application,
}

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// It should run.
    Running,
    /// It should not.
    Stopped,
}

/// A changing verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Operation {
    /// `run`.
    Run,
    /// `start`.
    Start,
    /// `restart`, until its server is down; from then on it is a `start`.
    Restart,
    /// `stop`.
    Stop,
    /// `rm`.
    Remove,
    /// An upgrade or an edit.
    Update,
    /// To another group.
    Move,
    /// One that a newer program knows.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "run",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Remove => "rm",
            Self::Update => "update",
            Self::Move => "group move",
            Self::Unknown => "an operation of a newer program",
        })
    }
}

/// The journal entry of a verb under way, or of one that was cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The verb.
    pub operation: Operation,
    /// The process that works on it.
    pub pid: u32,
    /// Since when, for people.
    pub since: String,
    /// The [hash](config_hash) of the run configuration as the last step left it; none: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    /// The hash of the run configuration that the verb replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// What was desired before the verb, where it is to be so again if the verb comes to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_before: Option<Desired>,
    /// What the record says once the verb's run configuration is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Described>,
    /// Whether it may act on an instance of another installation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// What the verb keeps of what it replaces, to bring it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<Previous>>,
}

impl Pending {
    /// An entry of `operation`, worked on by `pid` since `since`.
    pub fn new(operation: Operation, pid: u32, since: &str) -> Self {
        let since = since.to_owned();
        Self {
            operation,
            pid,
            since,
            config_hash: None,
            replaces: None,
            desired_before: None,
            next: None,
            force: false,
            previous: None,
        }
    }
}

/// What a record says of a run configuration, and of nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Described {
    /// Who launches it.
    pub launcher: String,
    /// The runtime that it belongs to; none for remote workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeRecord>,
    /// What its image is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<ResolvedImage>,
    /// What was found out about who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<ProvenanceRecord>,
    /// A copy of our keys of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thv: Option<Value>,
}

impl Described {
    /// With a copy of `config`'s keys that are ours.
    #[must_use]
    pub fn with_thv_section(mut self, config: &RunConfig) -> Self {
        let document: Option<Value> = serde_json::from_str(&config.to_json()).ok();
        self.thv = document.and_then(|mut document| document.get_mut("thv").map(Value::take));
        self
    }
}

/// What an update replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// The bytes of its run configuration, which is text.
    pub config: String,
    /// What the record said of it.
    pub described: Described,
    /// Its hash, if it was ready once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Who waits for the new one to become ready, and brings this one back if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiter: Option<ProcessIdentity>,
}

/// The runtime that a workload belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeRecord {
    /// Its kind.
    pub kind: RuntimeKind,
    /// Where the one of that kind was that has the instance, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Which one it is, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_id: Option<String>,
}

impl From<RuntimeKind> for RuntimeRecord {
    fn from(kind: RuntimeKind) -> Self {
        Self {
            kind,
            endpoint: None,
            engine_id: None,
        }
    }
}

/// What an image reference was resolved to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedImage {
    /// A manifest (`sha256:…`): it can be pulled again.
    Manifest(String),
    /// The engine's id of an image that was built there: it cannot.
    Local(String),
}

/// Hashes of the status file, by which foreign writes are told from ours.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatusFileHashes {
    /// As it was found at the last change; none: there was none.
    #[serde(default)]
    pub before: Option<String>,
    /// As it was written.
    #[serde(default)]
    pub after: Option<String>,
    /// As another program had written it when a stop was asked for, which says nothing in it yet: what it tells is older than
    /// that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overruled: Option<String>,
}

/// The status fields of our last write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastStatus {
    /// The status.
    pub status: WorkloadStatus,
    /// Why.
    #[serde(default)]
    pub context: String,
    /// The proxy's process in the file.
    #[serde(default)]
    pub process_id: i64,
}
