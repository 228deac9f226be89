//! Upgrades by a real manager, over a machine in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use thv_core::{Dirs, RunConfig, TransportType, WorkloadStatus};
use thv_image::{Digest, Gate, MemoryImageRegistry, Policy, Reference, Signer};
use thv_manager::{Manager, RollbackPolicy, RunOptions, ShutdownMode, WaitFor};
use thv_process::MemoryProcesses;
use thv_registry::{Entry, MemoryRegistry, Provenance};
use thv_runtime::{Call, InstanceId, MemoryRuntime, MemoryServer, Runtime, Runtimes};
use thv_state::{DocumentKind, MemoryStateStore, StateStore};
use thv_status::{MemoryStatusManager, ResolvedImage, StatusManager};
use thv_upgrade::{Applier, ApplyOptions, PolicyGate, Proposed};

use crate::support::{entry, name, old_config};

struct World {
    runtime: MemoryRuntime,
    state: Arc<MemoryStateStore>,
    status: MemoryStatusManager,
    images: Arc<MemoryImageRegistry>,
    manager: Manager,
    _folder: TempDir,
}

/// What of a workload must not change.
type Mark = (Vec<u8>, InstanceId);

impl World {
    /// Version 1 runs, and the registry has version 2. Servers of version 2 end at once when `broken`.
    async fn new(broken: bool) -> Self {
        Self::where_end(move |_, is_two| broken && is_two).await
    }

    /// The same, where those end at once of which that is said: how many started before, and whether it is version 2.
    async fn where_end(ends: impl Fn(usize, bool) -> bool + Send + Sync + 'static) -> Self {
        let (two, starts) = (Digest::of(b"2").to_string(), AtomicUsize::new(0));
        let runtime = MemoryRuntime::new().with_server(move |server: MemoryServer| {
            let before = starts.fetch_add(1, Ordering::Relaxed);
            let ends = ends(before, server.image.contains(&two));
            async move { if ends { 3 } else { mcp_server(server).await } }
        });
        let state = Arc::new(MemoryStateStore::new());
        let status = MemoryStatusManager::new();
        let folder = tempfile::tempdir().unwrap();
        let manager = Manager::builder()
            .launcher_id("com.example.app")
            .dirs(Dirs::under(folder.path()))
            .runtimes(Runtimes::new().with(Arc::new(runtime.clone())))
            .state(state.clone())
            .status(Arc::new(status.clone()))
            .processes(Arc::new(MemoryProcesses::new()))
            .build()
            .unwrap();
        let images = Arc::new(MemoryImageRegistry::new());
        images.tag(
            &"a.example/work:2".parse::<Reference>().unwrap(),
            Digest::of(b"2"),
        );
        let config = RunConfig {
            transport: TransportType::Stdio,
            host: "127.0.0.1".into(),
            env_vars: [("MINE".to_owned(), "kept".to_owned())].into(),
            container_labels: [("team".to_owned(), "kept".to_owned())].into(),
            ..old_config()
        };
        let options = RunOptions {
            wait: WaitFor::Ready(Duration::from_secs(60)),
            ..RunOptions::default()
        };
        manager.run_config(config, None, options).await.unwrap();
        Self {
            runtime,
            state,
            status,
            images,
            manager,
            _folder: folder,
        }
    }

    fn applier(&self) -> Applier {
        let mut signed = entry("a.example/work:2");
        signed.provenance = Some(Provenance {
            cert_issuer: "https://issuer.example".into(),
            ..Provenance::default()
        });
        let registry = MemoryRegistry::new([Entry::Image(signed)]);
        let gate = Gate::new(self.images.clone(), self.images.clone());
        Applier::new(Arc::new(registry), Arc::new(gate), Arc::new(self.manager.clone()))
    }

    async fn config(&self) -> RunConfig {
        self.manager.export(&name()).await.unwrap()
    }

    async fn mark(&self) -> Mark {
        let document = (&name()).into();
        let bytes = self.state.read(DocumentKind::RunConfig, &document).await.unwrap();
        (
            bytes.unwrap(),
            self.runtime.inspect(&name()).await.unwrap().unwrap().id,
        )
    }

    async fn is_running(&self) -> bool {
        let file = self.status.read(&name()).await.unwrap().status.unwrap();
        file.status == WorkloadStatus::Running
    }

    async fn resolved(&self) -> Option<ResolvedImage> {
        self.status
            .read(&name())
            .await
            .unwrap()
            .companion
            .unwrap()
            .resolved
            .clone()
    }
}

#[tokio::test(start_paused = true)]
async fn the_new_version_serves_where_the_old_one_did() {
    let world = World::new(false).await;
    let old = world.config().await;
    let applied = world
        .applier()
        .apply(&name(), ApplyOptions::default())
        .await
        .unwrap();
    let outcome = applied.outcome.unwrap();
    assert!(outcome.ready);
    assert_eq!(Some(outcome.url), old.client_url("127.0.0.1"));
    assert_eq!(
        applied.warnings,
        ["image a.example/work:2 is not verified: it is not signed"]
    );
    let expected = RunConfig {
        image: "a.example/work:2".into(),
        ..old
    };
    assert_eq!(world.config().await, expected, "all else is as it was");
    let digest = Digest::of(b"2").to_string();
    assert_eq!(world.resolved().await, Some(ResolvedImage::Manifest(digest)));
    let again = world
        .applier()
        .apply(&name(), ApplyOptions::default())
        .await
        .unwrap();
    assert_eq!(again.check.status.as_str(), "up-to-date");
}

#[derive(Debug)]
struct Never;

#[async_trait]
impl PolicyGate for Never {
    async fn refusal(&self, upgrade: &Proposed<'_>) -> Option<String> {
        Some(format!("{} is not on the list", upgrade.upgraded.image))
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_leave_file_and_instance_as_they_were() {
    let world = World::new(false).await;
    let before = world.mark().await;
    let mut enabled = ApplyOptions::default();
    enabled.verification = Policy::Enabled;

    let mut refusals = Vec::new();
    let denied = world.applier().with_policy(Arc::new(Never));
    refusals.push(denied.apply(&name(), ApplyOptions::default()).await.unwrap_err());
    refusals.push(world.applier().apply(&name(), enabled).await.unwrap_err());
    let other = Signer::default();
    world.images.sign(Digest::of(b"2"), other);
    refusals.push(
        world
            .applier()
            .apply(&name(), ApplyOptions::default())
            .await
            .unwrap_err(),
    );
    let mut unseen = ApplyOptions::default();
    unseen.verification = Policy::Disabled;
    world
        .runtime
        .memory_images()
        .only(["a.example/work:1".to_owned()]);
    refusals.push(world.applier().apply(&name(), unseen).await.unwrap_err());
    world.images.away(Some("it is down"));
    refusals.push(
        world
            .applier()
            .apply(&name(), ApplyOptions::default())
            .await
            .unwrap_err(),
    );

    let codes: Vec<_> = refusals.iter().map(thv_upgrade::Error::code).collect();
    assert_eq!(
        codes,
        [
            "denied",
            "image_not_verified",
            "image_denied",
            "image_not_found",
            "registry_unavailable"
        ]
    );
    assert!(refusals.iter().all(|refusal| !refusal.destruction_began()));
    assert_eq!(world.mark().await, before);
    assert!(world.is_running().await);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_does_not_serve_stands_unless_the_old_one_is_wanted_back() {
    let world = World::new(true).await;
    let (before, _) = world.mark().await;
    let was = world.resolved().await;
    let mut back = ApplyOptions::default();
    back.rollback = RollbackPolicy::OnFailure;
    let failed = world.applier().apply(&name(), back).await.unwrap_err();
    assert_eq!(
        (failed.code(), failed.destruction_began()),
        ("upgrade_rolled_back", true)
    );
    let cause = std::error::Error::source(&failed).unwrap().to_string();
    assert!(
        cause.contains("code 3") && cause.contains("serves again"),
        "{cause}"
    );
    assert_eq!(world.mark().await.0, before, "byte for byte");
    assert_eq!(world.resolved().await, was);
    assert!(world.is_running().await);

    let failed = world
        .applier()
        .apply(&name(), ApplyOptions::default())
        .await
        .unwrap_err();
    assert_eq!(failed.code(), "upgrade_failed_after_destroy");
    assert_eq!(world.config().await.image, "a.example/work:2");
    assert!(!world.is_running().await);
}

#[tokio::test(start_paused = true)]
async fn an_old_version_that_does_not_serve_either_was_not_rolled_back_to() {
    let world = World::where_end(|before, _| before > 0).await;
    let mut back = ApplyOptions::default();
    back.rollback = RollbackPolicy::OnFailure;
    let failed = world.applier().apply(&name(), back).await.unwrap_err();
    assert_eq!(failed.code(), "upgrade_rollback_failed");
    let cause = std::error::Error::source(&failed).unwrap().to_string();
    assert!(cause.contains("does not serve either"), "{cause}");
    assert!(!world.is_running().await);
}

/// A server that speaks MCP, and ends when it is asked to.
async fn mcp_server(mut server: MemoryServer) -> i64 {
    let term = server.term.clone();
    loop {
        let line = tokio::select! {
            biased;
            () = term.cancelled() => return 143,
            line = server.next_line() => line,
        };
        let Some(line) = line else { return 0 };
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if let Some(id) = message.get("id") {
            let result = json!({
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "serverInfo": {"name": "memory", "version": "1"},
            });
            let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
            server.write_line(&answer.to_string()).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_awaits_an_upgrade_that_has_begun() {
    let world = World::new(false).await;
    let (old, applier) = (world.config().await, world.applier());
    world.runtime.delay(Call::Stop, Duration::from_secs(5));
    let work = tokio::spawn({
        let applier = applier.clone();
        async move { applier.apply(&name(), ApplyOptions::default()).await }
    });
    // The old server takes its time to end.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(applier.is_under_way());
    world.manager.shutdown(ShutdownMode::Stop).await.unwrap();
    assert!(!applier.is_under_way(), "it has come to an end");
    // How far it came is another matter: one of the two is saved.
    let _ = work.await.unwrap();
    let new = RunConfig {
        image: "a.example/work:2".into(),
        ..old.clone()
    };
    let saved = world.config().await;
    assert!(saved == old || saved == new, "{saved:?}");
    let refused = world.applier().apply(&name(), ApplyOptions::default()).await;
    let serves = refused.is_ok_and(|applied| applied.outcome.is_some());
    assert!(!serves, "nothing is begun any more");
}
