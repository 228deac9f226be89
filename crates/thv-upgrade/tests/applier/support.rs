//! Everybody whom an upgrade asks, writing down that they were asked.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use thv_core::{RunConfig, WorkloadName};
use thv_image::{Admitted, Digest, ExpectedIdentity, ImageGate, Policy, Reference, Verdict};
use thv_manager::{RunOutcome, UpdateOptions};
use thv_registry::{Catalogue, Entry, EntryInfo, ImageEntry, MemoryRegistry, Registry, Source};
use thv_upgrade::{Applier, PolicyGate, Proposed, Upgrade, Workloads};
use tokio::sync::{Semaphore, mpsc};

/// What the manager says of the new version.
pub(crate) const NOTICE: &str = "its network is not isolated";

pub(crate) fn name() -> WorkloadName {
    WorkloadName::new("work").unwrap()
}

pub(crate) fn entry(image: &str) -> ImageEntry {
    ImageEntry {
        info: EntryInfo {
            name: "a/work".into(),
            ..EntryInfo::default()
        },
        image: image.into(),
        ..ImageEntry::default()
    }
}

pub(crate) fn old_config() -> RunConfig {
    RunConfig {
        name: "work".into(),
        base_name: "work".into(),
        image: "a.example/work:1".into(),
        registry_server_name: "a/work".into(),
        ..RunConfig::default()
    }
}

/// The steps, in the order in which they were taken; one of them may fail, and one may wait for a permit.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) log: Mutex<Vec<&'static str>>,
    pub(crate) fails: Option<&'static str>,
    pub(crate) waits: Option<&'static str>,
    pub(crate) permit: Semaphore,
    pub(crate) reached: mpsc::UnboundedSender<&'static str>,
    pub(crate) config: RunConfig,
    pub(crate) updates: Mutex<Vec<(RunConfig, UpdateOptions)>>,
    pub(crate) expected: Mutex<Option<ExpectedIdentity>>,
    registry: MemoryRegistry,
}

/// A script, and the steps as they are reached.
pub(crate) fn script(
    change: impl FnOnce(&mut Script),
) -> (Arc<Script>, mpsc::UnboundedReceiver<&'static str>) {
    let (reached, steps) = mpsc::unbounded_channel();
    let mut script = Script {
        log: Mutex::default(),
        fails: None,
        waits: None,
        permit: Semaphore::new(0),
        reached,
        config: old_config(),
        updates: Mutex::default(),
        expected: Mutex::default(),
        registry: MemoryRegistry::new([Entry::Image(entry("a.example/work:2"))])
            .with_source(Source::Url("https://registry.example/r.json".into())),
    };
    change(&mut script);
    (Arc::new(script), steps)
}

pub(crate) fn applier(script: &Arc<Script>) -> Applier {
    let asked = Arc::new(Asked(script.clone()));
    Applier::new(asked.clone(), asked.clone(), asked.clone()).with_policy(asked)
}

impl Script {
    pub(crate) fn offer(&self, entry: ImageEntry) {
        self.registry.set(Catalogue::new([Entry::Image(entry)]));
    }

    pub(crate) fn steps(&self) -> Vec<&'static str> {
        self.log.lock().unwrap().clone()
    }

    /// Whether the step succeeds.
    async fn step(&self, step: &'static str) -> bool {
        self.log.lock().unwrap().push(step);
        // Not every test listens.
        let _ = self.reached.send(step);
        if self.waits == Some(step) {
            self.permit.acquire().await.unwrap().forget();
        }
        self.fails != Some(step)
    }

    async fn managed(&self, step: &'static str) -> thv_manager::Result<()> {
        if self.step(step).await {
            return Ok(());
        }
        Err(thv_manager::Error::Conflict {
            name: "work".into(),
            detail: step.into(),
        })
    }
}

/// Everybody at once.
#[derive(Debug)]
struct Asked(Arc<Script>);

#[async_trait]
impl Registry for Asked {
    fn source(&self) -> &Source {
        self.0.registry.source()
    }

    async fn catalogue(&self) -> thv_registry::Result<Arc<Catalogue>> {
        if !self.0.step("look up").await {
            self.0.registry.set_down(Some("it is down"));
        }
        self.0.registry.catalogue().await
    }
}

#[async_trait]
impl ImageGate for Asked {
    async fn admit(
        &self,
        reference: &Reference,
        expected: Option<&ExpectedIdentity>,
        policy: Policy,
    ) -> thv_image::Result<Admitted> {
        *self.0.expected.lock().unwrap() = expected.cloned();
        if !self.0.step("resolve and verify").await {
            return Err(thv_image::Error::Denied {
                reference: reference.familiar(),
                detail: "another signer".into(),
            });
        }
        Admitted::decide(reference, Digest::of(b"2"), Verdict::Absent, policy)
    }
}

#[async_trait]
impl PolicyGate for Asked {
    async fn refusal(&self, _upgrade: &Proposed<'_>) -> Option<String> {
        (!self.0.step("policy").await).then(|| "not on a Friday".into())
    }
}

#[async_trait]
impl Workloads for Asked {
    async fn settle(&self, _name: &WorkloadName) -> thv_manager::Result<()> {
        self.0.managed("settle").await
    }

    async fn config(&self, _name: &WorkloadName) -> thv_manager::Result<RunConfig> {
        self.0.managed("load").await?;
        Ok(self.0.config.clone())
    }

    async fn prepare(
        &self,
        old: &RunConfig,
        new: RunConfig,
        options: UpdateOptions,
    ) -> thv_manager::Result<Box<dyn Upgrade>> {
        assert_eq!(*old, self.0.config);
        self.0.updates.lock().unwrap().push((new, options));
        self.0.managed("prepare").await?;
        Ok(Box::new(Self(self.0.clone())))
    }
}

#[async_trait]
impl Upgrade for Asked {
    async fn check(&self) -> thv_manager::Result<()> {
        self.0.managed("check").await
    }

    async fn carry_out(self: Box<Self>) -> thv_manager::Result<RunOutcome> {
        self.0.managed("carry out").await?;
        self.0.step("done").await;
        let mut outcome = RunOutcome::ready(name(), "http://127.0.0.1:1/mcp");
        outcome.notices.push(NOTICE.into());
        Ok(outcome)
    }
}
