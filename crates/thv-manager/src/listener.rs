//! The one task of a manager that hears changes of records by anybody, and deaths of proxies: for its supervisors, and for
//! those who watch.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use thv_core::{WorkloadName, WorkloadStatus};
use thv_process::ProcessIdentity;
use thv_status::{Desired, InstanceView, OwnerState, Snapshot, observe};
use tokio::task::JoinHandle;

use crate::events::WorkloadState;
use crate::feed::{Feed, Readers, feed};
use crate::manager::Tasks;
use crate::parts::Parts;
use crate::stop::was_removed;
use crate::{Error, Result, list, toolhive};

/// When changes are listened for again after that ended.
const AGAIN: Duration = Duration::from_secs(1);

/// A listening task and who reads what it hears. Dropping it ends both.
#[derive(Debug)]
pub(crate) struct Listener {
    task: JoinHandle<()>,
    readers: Readers,
}

impl Listener {
    pub(crate) fn start(parts: Arc<Parts>, tasks: Weak<Tasks>) -> Self {
        let (feed, readers) = feed();
        let task = tokio::spawn(listen(parts, tasks, feed));
        Self { task, readers }
    }

    /// Whether its async runtime lives.
    pub(crate) fn listens(&self) -> bool {
        !self.task.is_finished()
    }

    pub(crate) fn readers(&self) -> Readers {
        self.readers.clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(parts: Arc<Parts>, tasks: Weak<Tasks>, feed: Feed) {
    let mut hears = Hears {
        parts,
        tasks,
        feed,
        fills: false,
        deaths: Deaths::default(),
    };
    loop {
        if let Err(error) = hears.hear().await {
            tracing::warn!(%error, "changes by other processes are not heard");
            hears.feed.fails(error.to_string());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

struct Hears {
    parts: Arc<Parts>,
    tasks: Weak<Tasks>,
    feed: Feed,
    /// Whether somebody ever watched: from then on all workloads are looked at.
    fills: bool,
    deaths: Deaths,
}

impl Hears {
    /// Hears until that ends, which it does when changes were missed: then everything is looked at again.
    async fn hear(&mut self) -> Result<()> {
        let mut changes = self.parts.status.watch().await?;
        // What was changed before it was listened.
        let supervised = self
            .tasks
            .upgrade()
            .map(|tasks| tasks.names())
            .unwrap_or_default();
        for name in supervised {
            self.look(&name).await;
        }
        if self.fills {
            self.fill().await?;
        }
        loop {
            // Changes last: of them alone there may be more at any time.
            let name = tokio::select! {
                biased;
                Some(name) = self.deaths.next() => name,
                () = self.feed.wanted() => {
                    if !self.fills {
                        self.fill().await?;
                        self.fills = true;
                    }
                    continue;
                }
                name = changes.next() => match name {
                    Some(name) => name,
                    None => return Ok(()),
                },
            };
            self.look(&name).await;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        let mut all = Vec::new();
        for snapshot in self.parts.status.list().await? {
            if let Some(name) = snapshot.name.clone() {
                all.push(self.state(name, snapshot).await);
            }
        }
        self.feed.reset(all);
        Ok(())
    }

    /// Looks at one workload, for its supervisor in this process and for those who watch.
    async fn look(&mut self, name: &WorkloadName) {
        let claim = self.tasks.upgrade().and_then(|tasks| tasks.claim_of(name));
        if claim.is_none() && !self.fills {
            return;
        }
        let snapshot = match self.parts.status.read(name).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(workload = %name, %error, "a changed record cannot be read");
                if self.fills {
                    self.feed.tell(Ok(unreadable(name.clone(), &error.into())));
                }
                return;
            }
        };
        if let Some(claim) = claim {
            let go_on = snapshot
                .companion
                .as_ref()
                .is_some_and(|companion| companion.claim == claim)
                && snapshot.desired() == Desired::Running
                && !toolhive::runs(&self.parts, name, &snapshot, None).unwrap_or(false);
            if !go_on && let Some(tasks) = self.tasks.upgrade() {
                tasks.stop_claimed(name, &claim);
            }
        }
        if self.fills {
            let state = self.state(name.clone(), snapshot).await;
            self.feed.tell(state);
        }
    }

    /// What a workload is, or its name when it is not there.
    async fn state(
        &mut self,
        name: WorkloadName,
        mut snapshot: Snapshot,
    ) -> std::result::Result<WorkloadState, WorkloadName> {
        if !self.deaths.expect(&self.parts, &name, &snapshot) {
            // Its proxy ended after it was read.
            match self.parts.status.read(&name).await {
                Ok(newer) => snapshot = newer,
                Err(error) => return Ok(unreadable(name, &error.into())),
            }
        }
        state(&self.parts, name, &snapshot).await
    }
}

/// What a workload is, or its name when it is not there.
async fn state(
    parts: &Parts,
    name: WorkloadName,
    snapshot: &Snapshot,
) -> std::result::Result<WorkloadState, WorkloadName> {
    // By its port the proxy of ToolHive is found whose pid nobody recorded.
    let config = if snapshot.owner == OwnerState::Dead {
        parts.find_config(&name).await.ok().flatten()
    } else {
        None
    };
    // A record alone is what another program left when it removed the workload.
    let removed = config.is_none() && was_removed(snapshot);
    let recorded = snapshot.companion.is_some() && !removed;
    if !recorded && snapshot.status.is_none() && snapshot.damage.is_none() {
        return Err(name);
    }
    let proxy = list::proxy_state(parts, snapshot, config.as_ref());
    // With this an instance is neither looked for nor missed.
    let seen = observe(
        snapshot,
        &InstanceView::NotApplicable,
        proxy,
        &parts.processes.boot_id(),
    );
    Ok(WorkloadState {
        name,
        status: seen.status,
        context: seen.context,
        should_run: snapshot.desired() == Desired::Running,
    })
}

fn unreadable(name: WorkloadName, error: &Error) -> WorkloadState {
    WorkloadState {
        name,
        status: WorkloadStatus::Unknown,
        context: error.to_string(),
        should_run: false,
    }
}

/// Proxies in other processes, whose death changes no file.
#[derive(Default)]
struct Deaths {
    expected: BTreeMap<WorkloadName, ProcessIdentity>,
    pending: FuturesUnordered<BoxFuture<'static, (WorkloadName, ProcessIdentity)>>,
}

impl Deaths {
    /// Waits for the end of the process that supervises `name`, if that is another one. `false` when it has ended.
    fn expect(&mut self, parts: &Parts, name: &WorkloadName, snapshot: &Snapshot) -> bool {
        let owner = snapshot
            .companion
            .as_ref()
            .and_then(|companion| companion.owner.as_ref())
            .filter(|_| snapshot.owner == OwnerState::Alive)
            .map(|owner| &owner.identity);
        let Some(owner) = owner.filter(|owner| **owner != parts.processes.current()) else {
            self.expected.remove(name);
            return true;
        };
        if self.expected.get(name) == Some(owner) {
            return true;
        }
        match parts.processes.open(owner) {
            Ok(Some(handle)) => {
                let (named, identity) = (name.clone(), owner.clone());
                self.expected.insert(name.clone(), owner.clone());
                let death = async move {
                    if let Err(error) = handle.exited().await {
                        tracing::debug!(%error, "the end of a proxy is not heard");
                        std::future::pending::<()>().await;
                    }
                    (named, identity)
                };
                self.pending.push(death.boxed());
                true
            }
            // Or another one took its place, and has not said so yet.
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(%error, "a proxy cannot be watched");
                true
            }
        }
    }

    /// The next workload whose proxy ended; `None` when there is none to wait for. Cancel-safe.
    async fn next(&mut self) -> Option<WorkloadName> {
        loop {
            let (name, identity) = self.pending.next().await?;
            if self.expected.get(&name) == Some(&identity) {
                self.expected.remove(&name);
                return Some(name);
            }
        }
    }
}
