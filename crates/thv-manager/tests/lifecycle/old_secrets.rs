//! A server that runs with an old value of a secret is told, until it is started again.

use std::sync::Arc;

use thv_core::{Workload, WorkloadStatus};
use thv_manager::{ListOptions, Manager, StopOptions};
use thv_secrets::{MemorySecrets, SecretProvider};

use crate::support::*;

async fn listed(manager: &Manager) -> Workload {
    let listed = manager.list(ListOptions::default()).await.unwrap();
    assert!(listed.warnings.is_empty(), "{:?}", listed.warnings);
    let workload = listed.workloads.into_iter().next().unwrap();
    assert_eq!(
        manager.get(&name(&workload.name)).await.unwrap().thv,
        workload.thv
    );
    workload
}

async fn old(manager: &Manager) -> Vec<String> {
    let details = listed(manager).await.thv;
    assert!(!details.secrets_may_be_old, "{details:?}");
    details.old_secrets
}

#[tokio::test(start_paused = true)]
async fn a_server_with_an_old_secret_is_told_until_it_is_restarted() {
    let world = World::new();
    let secrets: Arc<dyn SecretProvider> = Arc::new(
        [("token", "1"), ("other", "1")]
            .into_iter()
            .collect::<MemorySecrets>(),
    );
    let manager = world.builder(APP).secrets(secrets).build().unwrap();
    let mut request = request("echo");
    request.secrets = vec!["token,target=TOKEN".into()];
    manager.run(request, until_ready()).await.unwrap();
    assert!(old(&manager).await.is_empty());

    manager.set_secret("other", "2".into()).await.unwrap();
    assert!(old(&manager).await.is_empty(), "it does not use that one");
    manager.set_secret("token", "2".into()).await.unwrap();
    assert_eq!(old(&manager).await, ["token"]);
    // The server that comes after one that ended by itself has the new value.
    world.runtime.exit(&name("echo"), 1);
    world.until(&name("echo"), WorkloadStatus::Starting).await;
    let coming = manager.get(&name("echo")).await.unwrap();
    assert_eq!(coming.status, WorkloadStatus::Starting);
    assert!(coming.thv.old_secrets.is_empty(), "it gets what is there");
    world.until(&name("echo"), WorkloadStatus::Running).await;
    assert!(old(&manager).await.is_empty());
    manager.set_secret("token", "3".into()).await.unwrap();
    assert_eq!(old(&manager).await, ["token"]);
    let stop = StopOptions::default();
    manager
        .restart(&name("echo"), stop, start_until_ready())
        .await
        .unwrap();
    assert!(old(&manager).await.is_empty());
    manager.delete_secret("token").await.unwrap();
    assert_eq!(old(&manager).await, ["token"]);
    manager.stop(&name("echo"), stop).await.unwrap();
    let stopped = manager.get(&name("echo")).await.unwrap().thv;
    assert!(stopped.old_secrets.is_empty(), "nothing runs with it");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_counted_may_be_old() {
    let world = World::new();
    let env = thv_core::Env::from_vars([("TOOLHIVE_SECRET_token", "1")]);
    let uncounted = world.builder(APP).env(env).build().unwrap();
    let mut request = request("echo");
    request.secrets = vec!["token,target=TOKEN".into()];
    uncounted.run(request, until_ready()).await.unwrap();
    assert!(
        old(&uncounted).await.is_empty(),
        "who does not count says nothing"
    );
    let secrets: Arc<dyn SecretProvider> = Arc::new(MemorySecrets::new());
    let counting = world.builder(APP).secrets(secrets).build().unwrap();
    assert!(listed(&counting).await.thv.secrets_may_be_old);
}
