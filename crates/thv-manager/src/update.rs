//! `update`: another configuration for a workload, with one rename; and back, where that was asked for.

use thv_core::{RunConfig, WorkloadName};
use thv_status::{Operation, OwnerState, Snapshot};

use crate::request::RuntimeChoice;
use crate::run::{Prepared, Replaces};
use crate::supervisor::reason_of;
use crate::{
    Error, Manager, Result, RollbackPolicy, RunOutcome, StartOptions, StopOptions, UpdateOptions, WaitFor,
    journal, owner,
};

/// An update that is checked and has its image, and of which nothing is done yet. Dropping it changes nothing.
#[must_use]
pub struct PreparedUpdate {
    manager: Manager,
    what: Prepared,
    options: UpdateOptions,
}

impl std::fmt::Debug for PreparedUpdate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedUpdate")
            .field("name", &self.what.name)
            .finish_non_exhaustive()
    }
}

impl PreparedUpdate {
    /// Whether it can still be begun.
    ///
    /// # Errors
    /// `Conflict` when the configuration that it was made from is not there any more, or the instance is another
    /// installation's.
    pub async fn check(&self) -> Result<()> {
        let Manager { parts, .. } = &self.manager;
        let name = &self.what.name;
        self.manager.check_expected(&self.what).await?;
        let snapshot = self.manager.known(name).await?;
        let saved = parts.saved(name).await?;
        owner::check_first(parts, name, &snapshot, saved.config(), false).await
    }

    /// Does it: the old server is stopped, the configuration replaced, the new server started and waited for. Dropped on
    /// the way, it is finished by the next verb.
    ///
    /// # Errors
    /// As [`Manager::update`].
    pub async fn carry_out(self) -> Result<RunOutcome> {
        let Self {
            manager,
            what,
            options,
        } = self;
        let (name, notices) = (what.name.clone(), what.notices.clone());
        let _under_way = manager.tasks.begin_update(&name)?;
        let launch = Box::pin(manager.save(what)).await?;
        let wait = WaitFor::Ready(options.ready_within);
        match Box::pin(manager.launch(launch, wait, notices)).await {
            Err(error) if options.rollback == RollbackPolicy::OnFailure => {
                Box::pin(manager.roll_back(&name, &error)).await
            }
            other => other,
        }
    }
}

impl Manager {
    /// Gives a workload the configuration `config`, which names it, and starts it with that; a `port` of 0 keeps the one
    /// that it has. There is no moment at which neither the old nor the new configuration is saved.
    ///
    /// What fails before the old server is stopped leaves everything as it was. Cut off later, the next verb or
    /// [`reconcile`](Self::reconcile) finds one of the two.
    ///
    /// # Errors
    /// `NotFound`; what [`run_config`](Self::run_config) refuses; with [`RollbackPolicy::OnFailure`] `UpdateFailed` when
    /// the new configuration did not become ready, whatever became of the old one then.
    #[tracing::instrument(skip_all)]
    pub async fn update(&self, config: RunConfig, options: UpdateOptions) -> Result<RunOutcome> {
        let name = config.workload_name()?;
        let prepared = Box::pin(self.prepare_update_of(&name, config, options)).await?;
        prepared.carry_out().await
    }

    /// Everything of an [`update`](Self::update) that leaves the workload as it is: checks, and the pull of the image.
    /// The new configuration was made from `old`: another one that is there by then is not replaced.
    ///
    /// # Errors
    /// As `update`; `Conflict` when `old` is not what is saved.
    #[tracing::instrument(skip_all)]
    pub async fn prepare_update(
        &self,
        old: &RunConfig,
        config: RunConfig,
        options: UpdateOptions,
    ) -> Result<PreparedUpdate> {
        let name = old.workload_name()?;
        let mut prepared = Box::pin(self.prepare_update_of(&name, config, options)).await?;
        prepared.what.expects = Some(thv_status::config_hash(old));
        prepared.check().await?;
        Ok(prepared)
    }

    /// Finishes what was cut off of the workload's last verb, as every changing verb does before it begins.
    ///
    /// # Errors
    /// `NotFound`, and `Conflict` while another verb works on it.
    pub async fn settle(&self, name: &WorkloadName) -> Result<()> {
        let snapshot = self.known(name).await?;
        let cut_off = snapshot.companion.as_ref().is_some_and(|companion| {
            companion.pending.is_some()
                || companion.gives_way
                || (companion.previous.is_some() && snapshot.owner == OwnerState::Dead)
        });
        if cut_off {
            drop(self.lock(name, Operation::Update).await?);
        }
        Ok(())
    }

    async fn prepare_update_of(
        &self,
        name: &WorkloadName,
        mut config: RunConfig,
        options: UpdateOptions,
    ) -> Result<PreparedUpdate> {
        self.launcher.check(&self.parts.env)?;
        let snapshot = self.known(name).await?;
        let old = self.parts.config(name).await?;
        if config.port == 0 {
            config.port = old.port;
        }
        let choice = self.same_runtime(&snapshot, &old, &config);
        let replaces = Replaces::Updated(options.rollback);
        let config = config.normalized();
        let what = self.prepare_config(config, choice, Vec::new(), replaces, &options.image);
        Ok(PreparedUpdate {
            what: Box::pin(what).await?,
            manager: self.clone(),
            options,
        })
    }

    /// An update stays on the workload's runtime, unless its new configuration is of another kind of server.
    fn same_runtime(&self, snapshot: &Snapshot, old: &RunConfig, new: &RunConfig) -> Option<RuntimeChoice> {
        let recorded = snapshot.companion.as_ref()?.runtime.as_ref()?.kind.clone();
        let usual = |config: &RunConfig| {
            let runtime = self.parts.runtime_for_image(&config.image).ok()?;
            Some(runtime.kind().clone())
        };
        (usual(old) == usual(new)).then_some(RuntimeChoice::Named(recorded))
    }

    async fn roll_back(&self, name: &WorkloadName, error: &Error) -> Result<RunOutcome> {
        let (old, old_serves) = match Box::pin(self.serve_previous(name)).await {
            Ok(outcome) if outcome.ready => ("the old configuration serves again".to_owned(), true),
            Ok(_) => ("the old configuration is back, and is starting".to_owned(), false),
            Err(error) => {
                let why = reason_of(&error);
                (
                    format!("the old configuration does not serve either: {why}"),
                    false,
                )
            }
        };
        Err(Error::UpdateFailed {
            name: name.to_string(),
            reason: reason_of(error),
            old,
            old_serves,
        })
    }

    /// Whether an update of this manager's that should go back is not ready, and nobody waits for it any more.
    pub(crate) fn is_abandoned(&self, snapshot: &Snapshot) -> Result<bool> {
        let Some(companion) = snapshot.companion.as_ref() else {
            return Ok(false);
        };
        let waiter = companion
            .previous
            .as_ref()
            .and_then(|previous| previous.waiter.as_ref());
        let mine = companion.launcher == self.parts.launcher_id && companion.pending.is_none();
        match waiter.filter(|_| mine && snapshot.owner == OwnerState::Alive) {
            Some(waiter) => Ok(self.parts.processes.open(waiter)?.is_none()),
            None => Ok(false),
        }
    }

    /// Ends what an update brought, and starts what it replaced. Cut off on the way, it is finished by the next verb.
    pub(crate) async fn serve_previous(&self, name: &WorkloadName) -> Result<RunOutcome> {
        let stop = StopOptions::default();
        let op = self.lock(name, Operation::Update).await?;
        let saved = self.parts.saved(name).await?;
        Box::pin(self.end(name, &op, saved.config(), stop)).await?;
        thv_process::crash_point!(RollbackEnded);
        let snapshot = self.parts.status.read(name).await?;
        journal::bring_back(&self.parts, name, &op, &snapshot).await?;
        let (what, notices) = self.launchable(name, &op, &StartOptions::default()).await?;
        let wait = WaitFor::Ready(UpdateOptions::default().ready_within);
        Box::pin(self.launch(what.under(op), wait, notices)).await
    }
}
