//! A program shaped like ToolHive: it shares files and engine, and knows nothing of our records and locks.

use std::sync::Arc;
use std::time::Duration;

use thv_core::{RunConfig, WorkloadName, WorkloadStatus};
use thv_runtime::{DeploySpec, Expect, InstanceId, InstanceRef, InstanceState, Runtime, StopOptions};
use tokio_util::sync::CancellationToken;

use crate::asked::Is;
use crate::machine::Machine;
use crate::mortal::Life;
use crate::support::IMAGE;

/// From its command to its proxy, and from one look at its container to the next.
const A_MOMENT: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_secs(1);

/// A proxy of that program.
struct Proxy {
    machine: Arc<Machine>,
    name: WorkloadName,
    pid: u32,
    life: Life,
    term: CancellationToken,
}

impl Machine {
    /// It stops a workload, as its status file says.
    pub(crate) async fn toolhive_stops(&self, workload: &'static str, name: &WorkloadName) {
        if self.world.snapshot(name).await.status.is_some() {
            // Whoever works on it right now may not have seen that.
            drop(self.asked.begin(workload, Some(Is::Stopped)));
            self.ask_proxy_to_end(name).await;
            self.world.toolhive_writes_now(name, WorkloadStatus::Stopped, 0);
        }
    }

    /// It removes a workload, in its order: the proxy, the instance, the status, the configuration.
    pub(crate) async fn toolhive_removes(&self, workload: &'static str, name: &WorkloadName) {
        if self.world.config(name).await.is_some() {
            let _asked = (
                self.asked.begin(workload, Some(Is::Stopped)),
                self.asked.begin(workload, Some(Is::Absent)),
            );
            self.ask_proxy_to_end(name).await;
            self.world.toolhive_removes(name).await;
        }
    }

    /// It signals whatever process the status file names.
    async fn ask_proxy_to_end(&self, name: &WorkloadName) {
        let status = self.world.snapshot(name).await.status;
        if let Some(pid) = status.and_then(|file| u32::try_from(file.process_id).ok()) {
            self.processes.ask_to_end(pid);
        }
    }

    /// It starts a workload that does not run as far as its status file says.
    pub(crate) async fn toolhive_starts(self: &Arc<Self>, workload: &'static str, name: &WorkloadName) {
        if self.world.config(name).await.is_none() {
            return;
        }
        let status = self.world.snapshot(name).await.status;
        let runs = [WorkloadStatus::Running, WorkloadStatus::Starting];
        if status.is_some_and(|file| runs.contains(&file.status)) {
            return;
        }
        let _asked = self.asked.begin(workload, Some(Is::Running));
        self.world.toolhive_writes_now(name, WorkloadStatus::Starting, 0);
        tokio::time::sleep(A_MOMENT).await;
        // Its proxy reads that anew.
        let Some(config) = self.world.config(name).await else {
            return;
        };
        let (life, term) = (self.life(None), CancellationToken::new());
        let proxy = Proxy {
            pid: self.processes.toolhive(name, &life, &term),
            machine: self.clone(),
            name: name.clone(),
            life,
            term,
        };
        proxy.begin(config);
        tokio::time::sleep(A_MOMENT * 2).await;
    }
}

impl Proxy {
    fn begin(self, config: RunConfig) {
        tokio::spawn(async move {
            self.life.until_killed(Box::pin(self.lives(&config))).await;
        });
    }

    async fn lives(&self, config: &RunConfig) {
        let id = if config.is_remote() {
            None
        } else {
            let Some(id) = self.deploys().await else { return };
            Some(id)
        };
        let pid = i64::from(self.pid);
        let world = &self.machine.world;
        let listens = self.machine.binds(config.port, self.pid);
        let (status, pid) = match &listens {
            Ok(_) => (WorkloadStatus::Running, pid),
            Err(_) => (WorkloadStatus::Error, 0),
        };
        world.toolhive_writes_now(&self.name, status, pid);
        while listens.is_ok() && !self.is_gone(id.as_ref()).await {
            let told = self.term.cancelled();
            if tokio::time::timeout(LOOK, told).await.is_ok() {
                break;
            }
        }
        if let Some(id) = id {
            let which = InstanceRef::exact(self.name.clone(), id);
            // Somebody else's by now: not its to stop.
            let _ = world.runtime.clone().stop(&which, StopOptions::default()).await;
        }
    }

    /// Replaces whatever instance is there.
    async fn deploys(&self) -> Option<InstanceId> {
        let runtime = self.machine.world.runtime.clone();
        if let Some(instance) = self.machine.world.instance(&self.name).await {
            let which = InstanceRef::exact(self.name.clone(), instance.id);
            runtime.remove(&which).await.ok()?;
        }
        let spec = DeploySpec {
            expect: Expect::Absent,
            ..DeploySpec::new(self.name.clone(), IMAGE)
        };
        Some(runtime.deploy(&spec).await.ok()?.instance.id)
    }

    async fn is_gone(&self, id: Option<&InstanceId>) -> bool {
        let Some(id) = id else { return false };
        let there = self.machine.world.instance(&self.name).await;
        there.is_none_or(|there| there.id != *id || there.state != InstanceState::Running)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.life.end();
        self.machine.processes.exit(self.pid);
    }
}
