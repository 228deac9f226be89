//! Supervisors in processes of their own, as [`Detached`](thv_manager::Detached) launches them, but in memory.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use thv_core::WorkloadName;
use thv_manager::{Error, LaunchOrder, LaunchState, Launcher, Manager, Result, SupervisorHost};
use thv_process::{DetachedSpec, ProcessHandle, terminate};
use thv_status::OwnerKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::history::Step;
use crate::machine::Machine;
use crate::mortal::{Fault, Life};

/// How long a child may take to say that it owns the workload.
const HELLO: Duration = Duration::from_secs(10);

/// Launches each supervisor as a process. The next one has this fault.
pub(crate) struct Apart {
    machine: Arc<Machine>,
    life: Life,
    fault: Mutex<Option<(usize, Fault)>>,
    slow_read: Option<(usize, Duration)>,
}

impl fmt::Debug for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Apart")
    }
}

impl Apart {
    pub(crate) fn new(machine: &Arc<Machine>, life: &Life, step: &Step) -> Self {
        Self {
            machine: machine.clone(),
            life: life.clone(),
            fault: Mutex::new(step.proxy_fault),
            slow_read: step.slow_read,
        }
    }
}

#[async_trait]
impl Launcher for Apart {
    async fn launch(
        &self,
        order: LaunchOrder,
        host: &dyn SupervisorHost,
    ) -> Result<watch::Receiver<LaunchState>> {
        let name = order.name.clone();
        self.life.tell(|| format!("launch {name}"));
        if self.life.point().await {
            return Err(failed(&name, "it could not be launched"));
        }
        let spec = DetachedSpec::new("/usr/bin/thv").args(["start", name.as_str(), "--foreground"]);
        let process = host.processes().spawn_detached(spec)?;
        let fault = self.fault.lock().unwrap().take();
        let child = Child::new(&self.machine, process.identity().pid, fault);
        child.life.slow_down(self.slow_read);
        // Between birth and hand-over: what has no order ends.
        if self.life.point().await {
            return Err(failed(&name, "its order could not be sent"));
        }
        let mut states = child.begin(order);
        let hello = states.wait_for(|state| *state != LaunchState::Launching);
        let hello = match tokio::time::timeout(HELLO, hello).await {
            Ok(Ok(state)) => state.clone(),
            _ => LaunchState::Launching,
        };
        let lost = self.life.point().await;
        match hello {
            LaunchState::Owned | LaunchState::Ready if !lost => Ok(states),
            LaunchState::Failed { reason, .. } => Err(failed(&name, &reason)),
            _ => {
                end(&*process).await;
                Err(failed(&name, "its proxy process ended or said nothing"))
            }
        }
    }
}

async fn end(process: &dyn ProcessHandle) {
    if terminate(process, Duration::from_secs(1)).await.is_err() {
        // As the real one does, whatever comes of it.
        let _ = process.signal(thv_process::Signal::Kill);
    }
}

fn failed(name: &WorkloadName, reason: &str) -> Error {
    Error::StartFailed {
        name: name.to_string(),
        reason: reason.into(),
        last_lines: Vec::new(),
    }
}

/// A process that supervises one workload; dropped before it begins, it ends without an effect.
struct Child {
    machine: Arc<Machine>,
    pid: u32,
    life: Life,
    term: CancellationToken,
    manager: Manager,
}

impl Child {
    fn new(machine: &Arc<Machine>, pid: u32, fault: Option<(usize, Fault)>) -> Self {
        let life = machine.life(fault);
        let term = CancellationToken::new();
        machine.processes.spawned(pid, &life, &term);
        let identity = machine.identity_of(pid);
        Self {
            manager: machine.manager(&life, identity, None),
            machine: machine.clone(),
            pid,
            life,
            term,
        }
    }

    fn begin(self, order: LaunchOrder) -> watch::Receiver<LaunchState> {
        let (tell, states) = watch::channel(LaunchState::Launching);
        tokio::spawn(async move {
            let supervising = async {
                let told = |state: &LaunchState| drop(tell.send_replace(state.clone()));
                let kind = OwnerKind::Detached;
                // How it ended is in its state.
                let _ = self.manager.supervise(order, kind, self.term.clone(), told).await;
            };
            self.life.until_killed(Box::pin(supervising)).await;
            drop(self);
            tell.send_if_modified(|state| {
                let open = matches!(state, LaunchState::Launching | LaunchState::Owned);
                if open {
                    *state = LaunchState::Failed {
                        reason: "its proxy process ended unexpectedly".into(),
                        last_lines: Vec::new(),
                    };
                }
                open
            });
        });
        states
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.life.end();
        self.machine.processes.exit(self.pid);
    }
}
