//! What is seen of processes: what they do, and whether one does something that it must not, or in the wrong order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use thv_core::WorkloadName;
use thv_runtime::{MemoryRuntime, Runtime};
use thv_state::{MemoryStateStore, StateStoreExt};
use thv_status::{ClaimId, Companion, MemoryStatusManager, Operation, OwnerState, Snapshot, StatusManager};
use tokio::time::Instant;

/// What processes did, in its order, if anybody asked for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    lines: Option<Arc<Mutex<Vec<String>>>>,
    began: OnceLock<Instant>,
    wrongs: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    pub(crate) fn kept() -> Self {
        Self {
            lines: Some(Arc::default()),
            ..Self::default()
        }
    }

    pub(crate) fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            let began = self.began.get_or_init(Instant::now);
            let line = format!("{:?} {}", began.elapsed(), line());
            lines.lock().unwrap().push(line);
        }
    }

    /// Something happened that must not.
    pub(crate) fn wrong(&self, what: String) {
        self.wrongs.lock().unwrap().push(what);
    }

    pub(crate) fn wrongs(&self) -> Vec<String> {
        self.wrongs.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.lines.as_ref();
        lines.map_or_else(Vec::new, |lines| lines.lock().unwrap().clone())
    }
}

/// Looks whether a supervisor does something under a claim that is not the recorded one any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fence {
    pub(crate) records: Option<MemoryStatusManager>,
    /// Under which claims this process supervises.
    claims: Arc<Mutex<BTreeMap<WorkloadName, ClaimId>>>,
}

impl Fence {
    /// A supervisor wrote under `claim`, and left the record so.
    pub(crate) fn wrote(&self, name: &WorkloadName, claim: &ClaimId, companion: &Companion) -> bool {
        self.claims.lock().unwrap().insert(name.clone(), claim.clone());
        companion.claim == *claim
    }

    /// Whether the process's supervisor of `name`, if it has one, may deploy.
    pub(crate) async fn may_deploy(&self, name: &WorkloadName) -> bool {
        let claim = self.claims.lock().unwrap().get(name).cloned();
        match (&self.records, claim) {
            (Some(records), Some(claim)) => records.claim_is_current(name, &claim).await.unwrap(),
            _ => true,
        }
    }
}

/// Looks whether a removal goes in its order: proxy, instance, configuration, record.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) records: MemoryStatusManager,
    pub(crate) runtime: MemoryRuntime,
    pub(crate) state: Arc<MemoryStateStore>,
}

impl Order {
    /// What is wrong with deleting the configuration now.
    pub(crate) async fn of_config(&self, name: &WorkloadName) -> Option<String> {
        let snapshot = self.removed(name).await?;
        if snapshot.owner == OwnerState::Alive {
            return Some(format!("the configuration of {name} went before its proxy"));
        }
        let instance = self.runtime.clone().inspect(name).await.unwrap()?;
        // Without a label it is another program's, which does not wait for us.
        let ours = instance.labels.contains_key(thv_labels::OWNER);
        ours.then(|| format!("the configuration of {name} went before its instance"))
    }

    /// What is wrong with deleting the record now.
    pub(crate) async fn of_record(&self, name: &WorkloadName) -> Option<String> {
        self.removed(name).await?;
        let config = self.state.read_run_config(name).await.unwrap();
        config.map(|_| format!("the record of {name} went before its configuration"))
    }

    /// Of a workload that is being removed.
    async fn removed(&self, name: &WorkloadName) -> Option<Snapshot> {
        let snapshot = self.records.read(name).await.unwrap();
        let removing = snapshot.companion.as_ref()?.pending.as_ref()?.operation == Operation::Remove;
        removing.then_some(snapshot)
    }
}
