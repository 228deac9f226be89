//! Records and status files in memory, with the same semantics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use thv_core::gojson::GoTime;
use thv_core::{Clock, SystemClock, WorkloadName};
use tokio::sync::Notify;

use crate::transaction::Stored;
use crate::watch::{self, Changed};
use crate::{
    Authority, Change, Changes, ClaimId, Companion, Error, OpGuard, Operation, OwnerGuard, OwnerState,
    Result, Snapshot, StatusManager,
};

/// Records that live as long as the value. Clones are the same records, as seen by several processes.
#[derive(Debug, Clone)]
pub struct MemoryStatusManager {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    released: Notify,
    watchers: Mutex<Vec<std::sync::Weak<Changed>>>,
    owner_id: std::sync::OnceLock<ClaimId>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    stored: BTreeMap<WorkloadName, Stored>,
    /// What a read makes of what is stored, as long as that is not changed.
    known: BTreeMap<WorkloadName, Snapshot>,
    /// Each lock with the number of its holder, so that who lost one frees nobody else's.
    held: BTreeMap<(WorkloadName, Lock), u64>,
    holders: u64,
    full: bool,
}

impl State {
    fn set(&mut self, name: &WorkloadName, stored: Stored) {
        self.known.remove(name);
        self.stored.insert(name.clone(), stored);
    }

    fn forget(&mut self, name: &WorkloadName) {
        self.known.remove(name);
        self.stored.remove(name);
    }

    fn check_space(&self, name: &WorkloadName) -> Result<()> {
        if self.full {
            return Err(Error::io(
                "write",
                name.as_str(),
                std::io::ErrorKind::StorageFull.into(),
            ));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lock {
    Op,
    Owner,
}

/// Releases a lock when it is dropped.
struct Held {
    shared: Arc<Shared>,
    name: WorkloadName,
    lock: Lock,
    holder: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let key = (self.name.clone(), self.lock);
        {
            let mut state = self.shared.state();
            if state.held.get(&key) == Some(&self.holder) {
                state.held.remove(&key);
            }
        }
        self.shared.released.notify_waiters();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, name: &WorkloadName) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| {
            watcher
                .upgrade()
                .inspect(|watcher| watcher.tell(name.clone()))
                .is_some()
        });
    }
}

impl Default for MemoryStatusManager {
    fn default() -> Self {
        Self {
            shared: Arc::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl MemoryStatusManager {
    /// No records.
    pub fn new() -> Self {
        Self::default()
    }

    /// With these times in what it writes, in place of the machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Writes a status file past the record, as another program would; `None` removes it.
    pub fn write_status_file(&self, name: &WorkloadName, bytes: Option<Vec<u8>>) {
        {
            let mut state = self.shared.state();
            let stored = state.stored.get(name).cloned().unwrap_or_default();
            let status = bytes;
            state.set(name, Stored { status, ..stored });
        }
        self.shared.changed(name);
    }

    /// Forgets everything of a workload past all locks, as somebody does who deletes the files by hand.
    pub fn forget(&self, name: &WorkloadName) {
        self.shared.state().forget(name);
        self.shared.changed(name);
    }

    /// Frees the lock of a supervisor that does not know, as somebody does who deletes the lock's file by hand.
    pub fn lose_owner(&self, name: &WorkloadName) {
        self.shared.state().held.remove(&(name.clone(), Lock::Owner));
        self.shared.released.notify_waiters();
    }

    /// Lets every write fail, or no more, as on a disk that is full.
    pub fn set_full(&self, full: bool) {
        self.shared.state().full = full;
    }

    fn try_lock(&self, name: &WorkloadName, lock: Lock) -> Option<Held> {
        let mut state = self.shared.state();
        let key = (name.clone(), lock);
        if state.held.contains_key(&key) {
            return None;
        }
        state.holders += 1;
        let holder = state.holders;
        state.held.insert(key, holder);
        drop(state);
        Some(Held {
            shared: Arc::clone(&self.shared),
            name: name.clone(),
            lock,
            holder,
        })
    }

    /// Waits until `attempt` gives something; `None` after `timeout`.
    async fn wait<T>(&self, timeout: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        let trying = async {
            loop {
                let released = self.shared.released.notified();
                if let Some(got) = attempt() {
                    return got;
                }
                released.await;
            }
        };
        tokio::time::timeout(timeout, trying).await.ok()
    }

    fn snapshot(state: &mut State, name: &WorkloadName) -> Snapshot {
        let owned = state.held.contains_key(&(name.clone(), Lock::Owner));
        let owner = if owned {
            OwnerState::Alive
        } else {
            OwnerState::Dead
        };
        if let Some(known) = state.known.get(name) {
            return Snapshot {
                owner,
                ..known.clone()
            };
        }
        let stored = state.stored.get(name).cloned().unwrap_or_default();
        let read = stored.read();
        let snapshot = Snapshot {
            raw_name: name.to_string(),
            name: Some(name.clone()),
            status: read.status,
            damage: read.damage.or(read.status_damage),
            companion: stored.companion.map(Arc::new),
            reading: read.reading,
            overruled: read.overruled,
            owner,
            pid_file: None,
        };
        state.known.insert(name.clone(), snapshot.clone());
        snapshot
    }
}

#[async_trait]
impl StatusManager for MemoryStatusManager {
    async fn read(&self, name: &WorkloadName) -> Result<Snapshot> {
        Ok(Self::snapshot(&mut self.shared.state(), name))
    }

    async fn list(&self) -> Result<Vec<Snapshot>> {
        let mut state = self.shared.state();
        let known = state
            .stored
            .iter()
            .filter(|(_, s)| s.companion.is_some() || s.status.is_some());
        let names: Vec<_> = known.map(|(name, _)| name.clone()).collect();
        Ok(names
            .iter()
            .map(|name| Self::snapshot(&mut state, name))
            .collect())
    }

    async fn lock_op(&self, name: &WorkloadName, operation: Operation, timeout: Duration) -> Result<OpGuard> {
        match self.wait(timeout, || self.try_lock(name, Lock::Op)).await {
            Some(held) => Ok(OpGuard::new(name.clone(), held)),
            None => Err(Error::Conflict {
                name: name.clone(),
                detail: format!("{operation} has to wait for another verb"),
            }),
        }
    }

    async fn acquire_owner(&self, name: &WorkloadName) -> Result<OwnerGuard> {
        match self.try_lock(name, Lock::Owner) {
            Some(held) => Ok(OwnerGuard::new(name.clone(), held)),
            None => Err(Error::Conflict {
                name: name.clone(),
                detail: "another supervisor owns it".into(),
            }),
        }
    }

    async fn owner_free(&self, name: &WorkloadName, timeout: Duration) -> Result<bool> {
        let key = (name.clone(), Lock::Owner);
        let free = || (!self.shared.state().held.contains_key(&key)).then_some(());
        Ok(self.wait(timeout, free).await.is_some())
    }

    async fn update(
        &self,
        name: &WorkloadName,
        authority: Authority<'_>,
        change: Change,
    ) -> Result<Companion> {
        let companion = {
            let mut state = self.shared.state();
            state.check_space(name)?;
            let stored = state.stored.get(name).cloned().unwrap_or_default();
            let (companion, status) =
                stored.apply(name, authority, change, GoTime::from(&self.clock.now()))?;
            let status = status.or(stored.status);
            state.set(
                name,
                Stored {
                    companion: Some(companion.clone()),
                    status,
                    ..Stored::default()
                },
            );
            companion
        };
        self.shared.changed(name);
        Ok(companion)
    }

    async fn create(&self, name: &WorkloadName, _op: &OpGuard, mut companion: Companion) -> Result<()> {
        let mut state = self.shared.state();
        state.check_space(name)?;
        let stored = state.stored.get(name).cloned().unwrap_or_default();
        if stored.companion.is_some() {
            return Err(Error::Exists { name: name.clone() });
        }
        companion.revision = 1;
        let companion = Some(companion);
        state.set(name, Stored { companion, ..stored });
        Ok(())
    }

    async fn remove(&self, name: &WorkloadName, op: OpGuard) -> Result<()> {
        let _owner = self.acquire_owner(name).await?;
        self.shared.state().forget(name);
        drop(op);
        self.shared.changed(name);
        Ok(())
    }

    async fn claim_is_current(&self, name: &WorkloadName, claim: &ClaimId) -> Result<bool> {
        let state = self.shared.state();
        let companion = state
            .stored
            .get(name)
            .and_then(|stored| stored.companion.as_ref());
        Ok(companion.is_some_and(|companion| companion.claim == *claim))
    }

    async fn owner_id(&self) -> Result<String> {
        Ok(self
            .shared
            .owner_id
            .get_or_init(ClaimId::random)
            .as_str()
            .to_owned())
    }

    async fn write_pid_file(&self, _name: &WorkloadName, _pid: u32) -> Result<()> {
        Ok(())
    }

    async fn remove_pid_files(&self, _name: &WorkloadName) -> Result<()> {
        Ok(())
    }

    async fn watch(&self) -> Result<Changes> {
        let changed = Arc::new(Changed::default());
        let mut watchers = self
            .shared
            .watchers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        watchers.push(Arc::downgrade(&changed));
        Ok(watch::stream(changed))
    }
}
