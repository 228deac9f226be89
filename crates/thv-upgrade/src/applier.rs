//! `Applier`: the one path to a newer version. Its order stands in [`Applier::apply`], and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use thv_core::{RunConfig, WorkloadName};
use thv_image::{Digest, ImageGate, Policy, Reference};
use thv_manager::{ImageTerms, RollbackPolicy, RunOutcome, UpdateOptions, expected_identity};
use thv_registry::{ImageEntry, Registry};
use tokio::sync::watch;

use crate::merge::{merge, missing};
use crate::{
    Additions, AllowAll, CheckResult, Checker, Error, PolicyGate, Proposed, Result, Upgrade, Workloads,
};

/// How an upgrade is done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApplyOptions {
    /// What the user gives besides.
    pub additions: Additions,
    /// What an image without a verified signature means.
    pub verification: Policy,
    /// What becomes of a new version that does not become ready.
    pub rollback: RollbackPolicy,
    /// How long the new version may take to become ready.
    pub ready_within: Duration,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        let update = UpdateOptions::default();
        Self {
            additions: Additions::default(),
            verification: Policy::default(),
            rollback: update.rollback,
            ready_within: update.ready_within,
        }
    }
}

/// What `apply` did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Applied {
    /// What the registry said when it was asked again.
    pub check: CheckResult,
    /// The new version; none where there was nothing to do.
    pub outcome: Option<RunOutcome>,
    /// The manifest that runs now; none where there was nothing to do.
    pub digest: Option<Digest>,
    /// What the user should be told, one line each.
    pub warnings: Vec<String>,
}

/// Replaces workloads by their newer versions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Applier {
    registry: Arc<dyn Registry>,
    images: Arc<dyn ImageGate>,
    workloads: Arc<dyn Workloads>,
    policy: Arc<dyn PolicyGate>,
    /// How many upgrades are past the point of no return.
    under_way: watch::Sender<usize>,
}

impl Applier {
    /// Takes entries from `registry`, lets `images` decide which manifest may run, and has `workloads` replace.
    pub fn new(
        registry: Arc<dyn Registry>,
        images: Arc<dyn ImageGate>,
        workloads: Arc<dyn Workloads>,
    ) -> Self {
        Self {
            registry,
            images,
            workloads,
            policy: Arc::new(AllowAll),
            under_way: watch::Sender::new(0),
        }
    }

    /// The same, with somebody else who has a say.
    #[must_use]
    pub fn with_policy(mut self, policy: Arc<dyn PolicyGate>) -> Self {
        self.policy = policy;
        self
    }

    /// Replaces `name` by its newer version, if there is one. No earlier check is trusted.
    ///
    /// Dropping the future before the old version is stopped leaves everything as it was. Dropping it later does not stop
    /// the work, which [`finished`](Self::finished) waits for.
    ///
    /// # Errors
    /// Of all but [`Error::AfterDestroy`] the workload is as it was.
    #[tracing::instrument(skip_all, fields(workload = %name))]
    pub async fn apply(&self, name: &WorkloadName, options: ApplyOptions) -> Result<Applied> {
        let load = |source| Error::Load {
            name: name.to_string(),
            source,
        };
        self.workloads.settle(name).await.map_err(load)?;
        let old = self.workloads.config(name).await.map_err(load)?;

        // The entry that is checked is the one that is resolved, verified and merged.
        let (check, entry) = Checker::new(self.registry.clone()).look(&old).await;
        let mut applied = Applied {
            check,
            outcome: None,
            digest: None,
            warnings: Vec::new(),
        };
        let Some(entry) = entry.filter(|_| applied.check.is_available()) else {
            return Ok(applied);
        };
        let entry = entry.as_image().ok_or_else(|| Error::NotAnImage {
            name: name.to_string(),
            server: old.registry_server_name.clone(),
        })?;

        let mut admitted = self.resolve_and_verify(name, entry, options.verification).await?;
        applied.warnings.extend(admitted.warning.take());

        let (new, warnings) = merge(&old, entry, self.registry.source(), &options.additions);
        applied.warnings.extend(warnings);
        complete(name, &new, entry)?;

        let proposed = Proposed {
            current: &old,
            upgraded: &new,
            digest: &admitted.digest,
            verdict: admitted.verdict.as_ref(),
        };
        if let Some(reason) = self.policy.refusal(&proposed).await {
            let name = name.to_string();
            return Err(Error::Denied { name, reason });
        }

        let prepare = |source| Error::Prepare {
            name: name.to_string(),
            source,
        };
        let digest = admitted.digest;
        let update = UpdateOptions {
            ready_within: options.ready_within,
            rollback: options.rollback,
            image: ImageTerms {
                policy: options.verification,
                expected: None,
                admitted: Some(Box::new(admitted)),
            },
        };
        let prepared = self.workloads.prepare(&old, new, update).await;
        let prepared = prepared.map_err(prepare)?;
        prepared.check().await.map_err(prepare)?;

        // From here on the old version is being replaced.
        let outcome = self.carry_out(name, prepared).await?;
        applied.warnings.extend(outcome.notices.clone());
        applied.outcome = Some(outcome);
        applied.digest = Some(digest);
        Ok(applied)
    }

    /// Resolves when no upgrade of this applier is past the point of no return.
    pub async fn finished(&self) {
        // It fails only when the sender is gone, and `self` has it.
        let _ = self.under_way.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Whether an upgrade of this applier is past the point of no return.
    pub fn is_under_way(&self) -> bool {
        *self.under_way.borrow() > 0
    }

    async fn resolve_and_verify(
        &self,
        name: &WorkloadName,
        entry: &ImageEntry,
        policy: Policy,
    ) -> Result<thv_image::Admitted> {
        let resolve = |source| Error::Resolve {
            name: name.to_string(),
            source,
        };
        let reference: Reference = entry.image.parse().map_err(resolve)?;
        let expected = entry.provenance.as_ref().map(expected_identity);
        let admitted = self.images.admit(&reference, expected.as_ref(), policy).await;
        admitted.map_err(resolve)
    }

    /// In a task of its own, so that a caller who goes away does not leave half an upgrade behind.
    async fn carry_out(&self, name: &WorkloadName, upgrade: Box<dyn Upgrade>) -> Result<RunOutcome> {
        let after = |source| Error::AfterDestroy {
            name: name.to_string(),
            source,
        };
        let under_way = UnderWay::begin(&self.under_way);
        let span = tracing::Span::current();
        let work = async move {
            let done = upgrade.carry_out().await;
            drop(under_way);
            done
        };
        let done = tokio::spawn(tracing::Instrument::instrument(work, span)).await;
        done.unwrap_or_else(|_| {
            Err(thv_manager::Error::Panicked {
                name: name.to_string(),
                operation: "upgrade",
            })
        })
        .map_err(after)
    }
}

/// Refuses a configuration that lacks what the newer version needs.
fn complete(name: &WorkloadName, new: &RunConfig, entry: &ImageEntry) -> Result<()> {
    let missing = missing(new, entry);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::MissingValues {
        name: name.to_string(),
        secret: missing.iter().any(|spec| spec.secret),
        names: missing.into_iter().map(|spec| spec.name.clone()).collect(),
    })
}

/// Counts an upgrade until it is dropped.
struct UnderWay(watch::Sender<usize>);

impl UnderWay {
    fn begin(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
