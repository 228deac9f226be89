//! `start` and `restart`.

use std::sync::Arc;

use futures_util::StreamExt;
use thv_core::{RunConfig, WorkloadName, WorkloadStatus};
use thv_runtime::Runtime;
use thv_status::{
    Authority, ClaimId, Desired, Draft, ForeignMeaning, OpGuard, Operation, OwnerState, Reading, Snapshot,
};

use crate::launch::{Launch, Launchable, stopped_meanwhile};
use crate::run::{check_honoured, isolation};
use crate::stop::begin;
use crate::{
    Error, Manager, Override, Result, RunOutcome, StartOptions, StopOptions, WaitFor, engine, ports, request,
    toolhive,
};

impl Manager {
    /// Starts `name` with its saved configuration, on the same port. What runs already is left alone.
    ///
    /// # Errors
    /// `NotFound`; `PortTaken`; `BelongsElsewhere` for a workload that another application launched;
    /// `StartFailed` with the last lines of the server.
    #[tracing::instrument(skip_all, fields(workload = %name))]
    pub async fn start(&self, name: &WorkloadName, options: StartOptions) -> Result<RunOutcome> {
        self.launcher.check(&self.parts.env)?;
        match Box::pin(self.prepare_start(name, &options)).await? {
            Start::AlreadyRunning(outcome) => self.wait_for_another(outcome, options.wait).await,
            Start::Launch(launch, notices) => Box::pin(self.launch(*launch, options.wait, notices)).await,
        }
    }

    /// Somebody else started it and it may not be ready: waits for what comes of that as for a launch of one's own.
    async fn wait_for_another(&self, mut outcome: RunOutcome, wait: WaitFor) -> Result<RunOutcome> {
        let limit = match wait {
            WaitFor::Owned => return Ok(outcome),
            WaitFor::Launch(limit) | WaitFor::Ready(limit) => limit,
        };
        let name = outcome.name.clone();
        let for_ready = matches!(wait, WaitFor::Ready(_));
        // Heard from before the first look, so that nothing falls between.
        let mut changes = self.parts.status.watch().await?;
        let waiting = async {
            loop {
                let snapshot = self.parts.status.read(&name).await?;
                let file = snapshot.status.as_ref();
                match file.map(|file| (file.status, file.status_context.clone())) {
                    Some((WorkloadStatus::Running, _)) => return Ok(true),
                    Some((WorkloadStatus::Error, reason)) => {
                        return Err(Error::StartFailed {
                            name: name.to_string(),
                            reason,
                            last_lines: Vec::new(),
                        });
                    }
                    Some((WorkloadStatus::Starting, _)) => {}
                    // Its server was ready and is away.
                    Some((WorkloadStatus::Unhealthy, _)) if for_ready => {}
                    None => return Err(stopped_meanwhile(&name)),
                    Some((status, _)) if is_down(status) => return Err(stopped_meanwhile(&name)),
                    Some(_) => return Ok(false),
                }
                while changes.next().await.is_some_and(|changed| changed != name) {}
            }
        };
        match (tokio::time::timeout(limit, waiting).await, wait) {
            (Ok(ready), _) => outcome.ready = ready?,
            (Err(_), WaitFor::Ready(waited)) => {
                return Err(self.not_ready(&name, waited).await?);
            }
            (Err(_), _) => {}
        }
        outcome.context = if outcome.ready {
            String::new()
        } else {
            self.starting_context(&name).await?
        };
        Ok(outcome)
    }

    /// Stops `name` if it runs, and starts it; what could keep it from being started is found out before it is stopped.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`stop`](Self::stop).
    pub async fn restart(
        &self,
        name: &WorkloadName,
        stop: StopOptions,
        start: StartOptions,
    ) -> Result<RunOutcome> {
        self.launcher.check(&self.parts.env)?;
        let (launch, notices) = Box::pin(self.prepare_restart(name, stop, &start)).await?;
        Box::pin(self.launch(launch, start.wait, notices)).await
    }

    /// Both halves are one verb: cut off between them, it is a start that was interrupted. So nobody is asked to stop
    /// before the journal says what for.
    pub(crate) async fn prepare_restart(
        &self,
        name: &WorkloadName,
        stop: StopOptions,
        start: &StartOptions,
    ) -> Result<(Launch, Vec<String>)> {
        let snapshot = self.known(name).await?;
        let config = self.startable(name).await?;
        self.check_start(name, &snapshot, &config, start).await?;
        self.check_stop(name, stop).await?;
        let op = self.lock_to_replace(name, Operation::Restart, stop).await?;
        let op = self.settled(name, op).await?;
        // Another verb may have brought another one while this one waited.
        let config = self.startable(name).await?;
        begin(&self.parts, name, &op, Operation::Restart, Some(&config), stop).await?;
        thv_process::crash_point!(RestartBegun);
        Box::pin(self.end(name, &op, Some(&config), stop)).await?;
        thv_process::crash_point!(RestartEnded);
        match self.launchable(name, &op, start).await {
            Ok((parts, notices)) => Ok((parts.under(op), notices)),
            Err(error) => {
                self.launch_failed(name, &op, &error).await?;
                Err(error)
            }
        }
    }

    pub(crate) async fn prepare_start(&self, name: &WorkloadName, options: &StartOptions) -> Result<Start> {
        let snapshot = self.known(name).await?;
        let config = self.startable(name).await?;
        match self.runs_already(name, &snapshot, &config)? {
            // That it should run is recorded below: what another program started may be down by the next reconcile.
            Some(_) if snapshot.reading == Reading::Foreign(ForeignMeaning::MayRun) => {}
            Some(outcome) => return Ok(Start::AlreadyRunning(outcome)),
            None => drop(self.check_start(name, &snapshot, &config, options).await?),
        }
        let op = self.lock(name, Operation::Start).await?;
        // Another verb may have been faster.
        let snapshot = self.parts.status.read(name).await?;
        let config = self.startable(name).await?;
        if let Some(outcome) = self.runs_already(name, &snapshot, &config)? {
            return Ok(Start::AlreadyRunning(outcome));
        }
        if snapshot.owner == OwnerState::Alive {
            // It was stopped, by us or by a program that let its proxy live: a start is the last word.
            let stop = StopOptions::default();
            self.check_start(name, &snapshot, &config, options).await?;
            self.check_stop(name, stop).await?;
            Box::pin(self.end(name, &op, Some(&config), stop)).await?;
        }
        let launchable = match self.launchable(name, &op, options).await {
            // Another program's proxy of this very workload, of which no record speaks any more.
            Err(Error::PortTaken { .. })
                if toolhive::find_proxy(&self.parts, name, &snapshot, Some(&config))?.is_some() =>
            {
                Box::pin(self.end(name, &op, Some(&config), StopOptions::default())).await?;
                self.launchable(name, &op, options).await
            }
            other => other,
        };
        let (launch, notices) = launchable?;
        Ok(Start::Launch(Box::new(launch.under(op)), notices))
    }

    /// Everything that can keep a workload from being started and is known before anything is touched.
    async fn check_start(
        &self,
        name: &WorkloadName,
        snapshot: &Snapshot,
        config: &RunConfig,
        options: &StartOptions,
    ) -> Result<Option<Arc<dyn Runtime>>> {
        self.check_launcher(name, snapshot, options)?;
        self.check_secrets(name, config).await?;
        let runtime = self.parts.runtime_in(name, snapshot, Some(config)).await?;
        if let Some(runtime) = &runtime {
            engine::check(
                name,
                snapshot,
                &**runtime,
                (Override::TakeOver, options.take_over),
            )
            .await?;
            isolation(name, config, &**runtime).await?;
        }
        Ok(runtime)
    }

    /// Takes what a launch needs, and with the new claim commits the start.
    pub(crate) async fn launchable(
        &self,
        name: &WorkloadName,
        op: &OpGuard,
        options: &StartOptions,
    ) -> Result<(Launchable, Vec<String>)> {
        let parts = &self.parts;
        let snapshot = parts.status.read(name).await?;
        let config = self.startable(name).await?;
        let runtime = self.check_start(name, &snapshot, &config, options).await?;
        let mut notices = parts.tuning.warnings.clone();
        if let Some(runtime) = &runtime {
            notices.extend(isolation(name, &config, &**runtime).await?);
        }
        let owner = parts.status.acquire_owner(name).await?;
        let listener = ports::bind(&config.host, config.port, &*parts.ports, &*parts.processes)?;
        let claim = ClaimId::random();
        let kind = runtime.map(|runtime| runtime.kind().clone());
        self.claim(name, op, &config, claim.clone(), kind).await?;
        thv_process::crash_point!(StartClaimed);
        let launchable = Launchable {
            name: name.clone(),
            claim,
            config,
            listener,
            owner,
        };
        Ok((launchable, notices))
    }

    /// The configuration, if everything it asks for can be honoured.
    async fn startable(&self, name: &WorkloadName) -> Result<RunConfig> {
        let config = self.parts.config(name).await?;
        check_honoured(&self.parts, &config)?;
        request::check_ca_bundle(&self.parts, &config).await?;
        request::hidden_paths(&self.parts, &config).await?;
        Ok(config)
    }

    /// Writes the new claim: with it the start is committed.
    async fn claim(
        &self,
        name: &WorkloadName,
        op: &OpGuard,
        config: &RunConfig,
        claim: ClaimId,
        runtime: Option<thv_runtime::RuntimeKind>,
    ) -> Result<()> {
        let pending = self.pending(Operation::Start, Some(config));
        let launcher = self.parts.launcher_id.clone();
        let change = Box::new(move |draft: &mut Draft| {
            draft.companion.claim = claim;
            draft.companion.desired = Desired::Running;
            draft.companion.stop_grace_ms = None;
            draft.companion.launcher = launcher;
            draft.companion.owner = None;
            draft.companion.pending = Some(pending);
            if draft.companion.runtime.is_none() {
                draft.companion.runtime = runtime.map(Into::into);
            }
            draft.status.process_id = 0;
            draft.force_status(WorkloadStatus::Starting, "");
        });
        self.parts
            .status
            .update(name, Authority::Verb(op), change)
            .await?;
        Ok(())
    }

    /// The outcome for a workload whose proxy is alive and should be.
    fn runs_already(
        &self,
        name: &WorkloadName,
        snapshot: &Snapshot,
        config: &RunConfig,
    ) -> Result<Option<RunOutcome>> {
        let ours = snapshot.owner == OwnerState::Alive && snapshot.desired() == Desired::Running;
        let theirs = || -> Result<bool> {
            let runs = snapshot.status.as_ref().is_some_and(|status| {
                matches!(status.status, WorkloadStatus::Running | WorkloadStatus::Starting)
            });
            Ok(runs
                && snapshot.owner != OwnerState::Alive
                && toolhive::find_proxy(&self.parts, name, snapshot, Some(config))?.is_some())
        };
        if !ours && !theirs()? {
            return Ok(None);
        }
        let status = snapshot.status.as_ref();
        let ready = status.is_some_and(|status| status.status == WorkloadStatus::Running);
        let starting = status.filter(|status| status.status == WorkloadStatus::Starting);
        Ok(Some(RunOutcome {
            name: name.clone(),
            url: config.client_url("127.0.0.1").unwrap_or_default(),
            ready,
            context: starting
                .map(|status| status.status_context.clone())
                .unwrap_or_default(),
            already_running: true,
            notices: Vec::new(),
        }))
    }

    /// Another launcher's workload is started by that launcher, unless it is taken over.
    fn check_launcher(&self, name: &WorkloadName, snapshot: &Snapshot, options: &StartOptions) -> Result<()> {
        let Some(companion) = &snapshot.companion else {
            return Ok(());
        };
        let launcher = companion.launcher.as_str();
        let mine = launcher.is_empty() || launcher == self.parts.launcher_id;
        if mine || options.take_over {
            return Ok(());
        }
        Err(Error::BelongsElsewhere {
            name: name.to_string(),
            launcher: launcher.to_owned(),
            detail: "start it there, or take it over".into(),
            option: Override::TakeOver,
        })
    }
}

/// Whether somebody does not want it to run.
fn is_down(status: WorkloadStatus) -> bool {
    use WorkloadStatus as S;
    matches!(status, S::Stopping | S::Stopped | S::Removing | S::PolicyStopped)
}

pub(crate) enum Start {
    AlreadyRunning(RunOutcome),
    Launch(Box<Launch>, Vec<String>),
}
