//! `update`: another configuration for a workload, with one rename; and back, where that was asked for.

use thv_core::{RunConfig, WorkloadName};
use thv_status::Operation;

use crate::run::Replaces;
use crate::supervisor::with_causes;
use crate::{
    Error, Manager, Result, RollbackPolicy, RunOutcome, StartOptions, StopOptions, UpdateOptions, WaitFor,
    journal,
};

impl Manager {
    /// Gives a workload the configuration `config`, which names it, and starts it with that; a `port` of 0 keeps the one
    /// that it has. There is no moment at which neither the old nor the new configuration is saved.
    ///
    /// What fails before the old server is stopped leaves everything as it was. Cut off later, the next verb or
    /// [`reconcile`](Self::reconcile) finds one of the two.
    ///
    /// # Errors
    /// `NotFound`; what [`run_config`](Self::run_config) refuses; with [`RollbackPolicy::OnFailure`] `UpdateFailed` when
    /// the new configuration did not become ready and the old one is there again.
    #[tracing::instrument(skip_all)]
    pub async fn update(&self, config: RunConfig, options: UpdateOptions) -> Result<RunOutcome> {
        self.launcher.check(&self.parts.env)?;
        Box::pin(self.replace_config(config, options)).await
    }

    async fn replace_config(&self, mut config: RunConfig, options: UpdateOptions) -> Result<RunOutcome> {
        let name = config.workload_name()?;
        self.known(&name).await?;
        let old = self.parts.config(&name).await?;
        if config.port == 0 {
            config.port = old.port;
        }
        let replaces = Replaces::Updated(options.rollback);
        let prepared =
            Box::pin(self.prepare_config(config.normalized(), None, Vec::new(), replaces, &options.image))
                .await?;
        let notices = prepared.notices.clone();
        let launch = Box::pin(self.save(prepared)).await?;
        let wait = WaitFor::Ready(options.ready_within);
        match Box::pin(self.launch(launch, wait, notices)).await {
            Err(error) if options.rollback == RollbackPolicy::OnFailure => {
                Box::pin(self.roll_back(&name, &error)).await
            }
            other => other,
        }
    }

    async fn roll_back(&self, name: &WorkloadName, error: &Error) -> Result<RunOutcome> {
        let back = match Box::pin(self.serve_previous(name)).await {
            Ok(outcome) if outcome.ready => "the old configuration serves again".to_owned(),
            Ok(_) => "the old configuration is back, and is starting".to_owned(),
            Err(error) => format!(
                "the old configuration does not serve either: {}",
                with_causes(&error)
            ),
        };
        Err(Error::UpdateFailed {
            name: name.to_string(),
            reason: with_causes(error),
            old: back,
        })
    }

    async fn serve_previous(&self, name: &WorkloadName) -> Result<RunOutcome> {
        let stop = StopOptions::default();
        self.request_stop(name, stop.grace).await?;
        let op = self.lock(name, Operation::Update).await?;
        let saved = self.parts.saved(name).await?;
        Box::pin(self.end(name, &op, saved.config(), stop)).await?;
        let snapshot = self.parts.status.read(name).await?;
        journal::bring_back(&self.parts, name, &op, &snapshot).await?;
        let (what, notices) = self.launchable(name, &op, &StartOptions::default()).await?;
        let wait = WaitFor::Ready(UpdateOptions::default().ready_within);
        Box::pin(self.launch(what.under(op), wait, notices)).await
    }
}
