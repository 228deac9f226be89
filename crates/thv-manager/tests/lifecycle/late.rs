//! A verb is dropped while a write of its is under way, which nobody can call back.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thv_core::{WorkloadName, WorkloadStatus};
use thv_manager::{ReconcileAction, StopOptions};
use thv_status::{
    Authority, Change, Changes, ClaimId, Companion, MemoryStatusManager, OpGuard, Operation, OwnerGuard,
    Pending, Result, Snapshot, StatusManager, config_hash,
};
use tokio::sync::Semaphore;

use crate::support::*;

/// Writes as a disk does: under the lock of their verb, and to their end, whoever waits for it.
#[derive(Debug)]
struct LateWrites {
    inner: MemoryStatusManager,
    /// A write takes one permit, and gives it back.
    disk: Arc<Semaphore>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StatusManager for LateWrites {
    async fn update(
        &self,
        name: &WorkloadName,
        authority: Authority<'_>,
        change: Change,
    ) -> Result<Companion> {
        let Authority::Verb(op) = authority else {
            return self.inner.update(name, authority, change).await;
        };
        let (inner, disk) = (self.inner.clone(), self.disk.clone());
        let op = OpGuard::new(name.clone(), op.held());
        let write = async move {
            let _turn = disk.acquire().await.unwrap();
            inner.update(op.name(), Authority::Verb(&op), change).await
        };
        tokio::spawn(write).await.unwrap()
    }

    async fn read(&self, name: &WorkloadName) -> Result<Snapshot> {
        self.inner.read(name).await
    }

    async fn list(&self) -> Result<Vec<Snapshot>> {
        self.inner.list().await
    }

    async fn lock_op(&self, name: &WorkloadName, operation: Operation, timeout: Duration) -> Result<OpGuard> {
        self.inner.lock_op(name, operation, timeout).await
    }

    async fn acquire_owner(&self, name: &WorkloadName) -> Result<OwnerGuard> {
        self.inner.acquire_owner(name).await
    }

    async fn owner_free(&self, name: &WorkloadName, timeout: Duration) -> Result<bool> {
        self.inner.owner_free(name, timeout).await
    }

    async fn create(&self, name: &WorkloadName, op: &OpGuard, companion: Companion) -> Result<()> {
        self.inner.create(name, op, companion).await
    }

    async fn remove(&self, name: &WorkloadName, op: OpGuard) -> Result<()> {
        self.inner.remove(name, op).await
    }

    async fn remove_misnamed(&self, raw_name: &str) -> Result<()> {
        self.inner.remove_misnamed(raw_name).await
    }

    async fn claim_is_current(&self, name: &WorkloadName, claim: &ClaimId) -> Result<bool> {
        self.inner.claim_is_current(name, claim).await
    }

    async fn owner_id(&self) -> Result<String> {
        self.inner.owner_id().await
    }

    async fn write_pid_file(&self, name: &WorkloadName, pid: u32) -> Result<()> {
        self.inner.write_pid_file(name, pid).await
    }

    async fn remove_pid_files(&self, name: &WorkloadName) -> Result<()> {
        self.inner.remove_pid_files(name).await
    }

    async fn watch(&self) -> Result<Changes> {
        self.inner.watch().await
    }
}

#[tokio::test(start_paused = true)]
async fn reconcile_goes_on_from_what_a_dropped_start_was_writing() {
    let world = World::new();
    let disk = Arc::new(Semaphore::new(1));
    let status = Arc::new(LateWrites {
        inner: world.status.clone(),
        disk: disk.clone(),
    });
    let manager = world.builder(APP).status(status).build().unwrap();
    let echo = name("echo");
    run(&manager, "echo").await;
    manager.stop(&echo, StopOptions::default()).await.unwrap();

    let busy = disk.acquire().await.unwrap();
    let start = manager.start(&echo, start_until_ready());
    let given_up = tokio::time::timeout(Duration::from_millis(10), start).await;
    assert!(given_up.is_err(), "its write waits for the disk");
    let (done, ()) = tokio::join!(manager.reconcile(start_until_ready()), async { drop(busy) });
    let done = done.unwrap();
    assert!(
        matches!(&done[..], [one] if matches!(one.action, ReconcileAction::Started)),
        "{done:?}"
    );
    assert_eq!(world.status_of(&echo).await.0, WorkloadStatus::Running);
}

/// What it sets about once the lock of the verb is free, it does not touch before.
#[tokio::test(start_paused = true)]
async fn reconcile_leaves_a_verb_alone_that_goes_on() {
    let world = World::new();
    let manager = world.manager();
    run(&manager, "echo").await;
    let echo = name("echo");
    let verb = world.status.lock_op(&echo, Operation::Remove, Duration::ZERO);
    let verb = verb.await.unwrap();
    let mut pending = Pending::new(Operation::Remove, 1, "now");
    pending.config_hash = world.config(&echo).await.as_ref().map(config_hash);
    let begun: Change = Box::new(move |draft| draft.companion.pending = Some(pending));
    let update = world.status.update(&echo, Authority::Verb(&verb), begun);
    update.await.unwrap();

    assert!(manager.reconcile(start_until_ready()).await.unwrap().is_empty());
    assert!(world.runs(&echo).await);

    drop(verb);
    let done = manager.reconcile(start_until_ready()).await.unwrap();
    assert_eq!(done.len(), 1, "{done:?}");
}
