//! The suite that every [`StatusManager`] passes. Each function checks one promise and panics when it is broken.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use thv_core::{WorkloadName, WorkloadStatus};

use crate::{
    Authority, Change, ClaimId, Companion, Desired, Draft, Error, Operation, OwnerState, Reading,
    StatusManager,
};

const SOON: Duration = Duration::from_secs(10);
const NOW: Duration = Duration::ZERO;

/// Checks all promises on a manager without records.
pub async fn check(status: Arc<dyn StatusManager>) {
    nothing_is_known_of_strangers(&*status).await;
    a_record_is_created_once(&*status).await;
    an_old_claim_writes_nothing(&*status).await;
    a_stop_request_needs_no_lock(&*status).await;
    locks_exclude_and_are_released_by_dropping(&*status).await;
    an_owner_is_seen(&*status).await;
    what_is_removed_is_gone(&*status).await;
    changes_are_told(&*status).await;
    updates_do_not_lose_each_other(status.clone()).await;
}

fn name(text: &str) -> WorkloadName {
    WorkloadName::new(text).expect("a valid name")
}

fn change(change: impl FnOnce(&mut Draft) + Send + 'static) -> Change {
    Box::new(change)
}

async fn nothing_is_known_of_strangers(status: &dyn StatusManager) {
    let snapshot = status.read(&name("stranger")).await.expect("read");
    assert_eq!(snapshot.reading, Reading::Nothing);
    assert_eq!(snapshot.owner, OwnerState::Dead);
    assert!(status.list().await.expect("list").is_empty());
}

async fn a_record_is_created_once(status: &dyn StatusManager) {
    let name = name("once");
    let op = status.lock_op(&name, Operation::Run, SOON).await.expect("lock");
    let companion = Companion::new(ClaimId::random(), "test");
    status
        .create(&name, &op, companion.clone())
        .await
        .expect("create");
    let again = status.create(&name, &op, companion.clone()).await;
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    let read = status
        .read(&name)
        .await
        .expect("read")
        .companion
        .expect("a record");
    assert_eq!((&read.claim, read.revision), (&companion.claim, 1));
    status.remove(&name, op).await.expect("remove");
}

async fn an_old_claim_writes_nothing(status: &dyn StatusManager) {
    let name = name("fenced");
    let op = status.lock_op(&name, Operation::Run, SOON).await.expect("lock");
    let old = ClaimId::random();
    status
        .create(&name, &op, Companion::new(old.clone(), "test"))
        .await
        .expect("create");
    let to_running = || change(|draft| draft.force_status(WorkloadStatus::Running, ""));
    status
        .update(&name, Authority::Supervisor(&old), to_running())
        .await
        .expect("the claim holds");
    let new = ClaimId::random();
    let claim = new.clone();
    let taken = change(move |draft| draft.companion.claim = claim);
    status
        .update(&name, Authority::Verb(&op), taken)
        .await
        .expect("take over");
    let before = status.read(&name).await.expect("read");
    let late = status
        .update(&name, Authority::Supervisor(&old), to_running())
        .await;
    assert!(matches!(late, Err(Error::ClaimLost { .. })), "{late:?}");
    let after = status.read(&name).await.expect("read");
    assert_eq!((before.companion, before.status), (after.companion, after.status));
    assert!(status.claim_is_current(&name, &new).await.expect("read"));
    assert!(!status.claim_is_current(&name, &old).await.expect("read"));
    status.remove(&name, op).await.expect("remove");
    let removed = status
        .update(&name, Authority::Supervisor(&new), to_running())
        .await;
    assert!(
        matches!(removed, Err(Error::ClaimLost { .. })),
        "a supervisor never brings a record back"
    );
}

async fn a_stop_request_needs_no_lock(status: &dyn StatusManager) {
    let name = name("asked");
    let stop = || change(|draft| draft.companion.desired = Desired::Stopped);
    let unknown = status.update(&name, Authority::StopRequest, stop()).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
    let op = status.lock_op(&name, Operation::Run, SOON).await.expect("lock");
    status
        .create(&name, &op, Companion::new(ClaimId::random(), "test"))
        .await
        .expect("create");
    status
        .update(&name, Authority::StopRequest, stop())
        .await
        .expect("while the lock is held");
    assert_eq!(
        status.read(&name).await.expect("read").desired(),
        Desired::Stopped
    );
    status.remove(&name, op).await.expect("remove");
}

async fn locks_exclude_and_are_released_by_dropping(status: &dyn StatusManager) {
    let name = name("locked");
    let op = status.lock_op(&name, Operation::Stop, SOON).await.expect("lock");
    let second = status.lock_op(&name, Operation::Start, NOW).await;
    assert!(matches!(second, Err(Error::Conflict { .. })), "{second:?}");
    drop(op);
    status
        .lock_op(&name, Operation::Start, SOON)
        .await
        .expect("a dropped guard is free");
}

async fn an_owner_is_seen(status: &dyn StatusManager) {
    let name = name("owned");
    let owner = status.acquire_owner(&name).await.expect("acquire");
    assert!(matches!(
        status.acquire_owner(&name).await,
        Err(Error::Conflict { .. })
    ));
    assert_eq!(status.read(&name).await.expect("read").owner, OwnerState::Alive);
    assert!(!status.owner_free(&name, NOW).await.expect("look"));
    drop(owner);
    assert!(status.owner_free(&name, SOON).await.expect("look"));
    assert_eq!(status.read(&name).await.expect("read").owner, OwnerState::Dead);
}

async fn what_is_removed_is_gone(status: &dyn StatusManager) {
    let name = name("removed");
    let op = status
        .lock_op(&name, Operation::Remove, SOON)
        .await
        .expect("lock");
    let running = change(|draft| draft.force_status(WorkloadStatus::Running, ""));
    status
        .update(&name, Authority::Verb(&op), running)
        .await
        .expect("adopt");
    assert_eq!(status.list().await.expect("list").len(), 1);
    status.remove(&name, op).await.expect("remove");
    assert_eq!(status.read(&name).await.expect("read").reading, Reading::Nothing);
    assert!(status.list().await.expect("list").is_empty());
    let op = status
        .lock_op(&name, Operation::Run, SOON)
        .await
        .expect("the name is free again");
    drop(op);
}

async fn changes_are_told(status: &dyn StatusManager) {
    let name = name("watched");
    let mut changes = status.watch().await.expect("watch");
    let op = status.lock_op(&name, Operation::Run, SOON).await.expect("lock");
    status
        .update(&name, Authority::Verb(&op), change(|_| {}))
        .await
        .expect("update");
    let told = tokio::time::timeout(SOON, changes.next()).await.expect("in time");
    assert_eq!(told.as_ref(), Some(&name));
    status.remove(&name, op).await.expect("remove");
}

async fn updates_do_not_lose_each_other(status: Arc<dyn StatusManager>) {
    let name = name("counted");
    let op = status.lock_op(&name, Operation::Run, SOON).await.expect("lock");
    let claim = ClaimId::random();
    status
        .create(&name, &op, Companion::new(claim.clone(), "test"))
        .await
        .expect("create");
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (status, name, claim) = (status.clone(), name.clone(), claim.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    let nothing = change(|_| {});
                    status
                        .update(&name, Authority::Supervisor(&claim), nothing)
                        .await
                        .expect("update");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    let revision = status
        .read(&name)
        .await
        .expect("read")
        .companion
        .map(|companion| companion.revision);
    assert_eq!(revision, Some(81));
    status.remove(&name, op).await.expect("remove");
}
