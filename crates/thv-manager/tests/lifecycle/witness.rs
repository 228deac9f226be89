//! What is seen of processes: what they do, and whether one does something that it must not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use thv_core::WorkloadName;
use thv_status::{ClaimId, Companion, MemoryStatusManager, StatusManager};
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
