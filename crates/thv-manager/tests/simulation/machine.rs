//! A machine on which a history happens, and what must hold at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thv_core::WorkloadStatus;
use thv_manager::{Manager, Ports, ReconcileAction, StartOptions, StopOptions, UpdateOptions, WaitFor};
use thv_runtime::{InstanceRef, MemoryRuntime, Runtime};
use thv_status::{Desired, OwnerState};

use crate::history::{History, NAMES, Step, Verb};
use crate::mortal::Life;
use crate::support::{World, mcp_server, name, replacing, request, start_until_ready, until_ready};

/// Ports of an address that nobody else on the machine has, so that histories side by side do not meet.
#[derive(Debug, Clone)]
struct OwnPorts(Ipv4Addr);

impl OwnPorts {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let [_, _, c, d] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let [_, _, _, b] = std::process::id().to_be_bytes();
        Self(Ipv4Addr::new(127, b | 1, c, d))
    }
}

impl Ports for OwnPorts {
    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind((self.0, address.port()))
    }

    fn candidates(&self) -> Box<dyn Iterator<Item = u16> + '_> {
        Box::new(11_000..11_100)
    }

    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![self.0.into()])
    }
}

/// What the servers saw: how many of a workload run now, and of which there were two at a time.
#[derive(Debug, Clone, Default)]
struct Servers(Arc<Mutex<(BTreeMap<String, usize>, BTreeSet<String>)>>);

impl Servers {
    fn begins(&self, workload: &str) {
        let mut seen = self.0.lock().unwrap();
        let now = seen.0.entry(workload.to_owned()).or_default();
        *now += 1;
        if *now > 1 {
            seen.1.insert(workload.to_owned());
        }
    }

    fn ends(&self, workload: &str) {
        if let Some(now) = self.0.lock().unwrap().0.get_mut(workload) {
            *now -= 1;
        }
    }

    fn twice(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().1.clone()
    }
}

struct Machine {
    world: World,
    ports: OwnPorts,
    servers: Servers,
    /// Configurations that a `run` reported as saved.
    saved: Mutex<BTreeSet<&'static str>>,
}

/// Lets `history` happen; what is wrong then.
pub(crate) fn happens(history: &History) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let told = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { Machine::new().happens(history).await })
    }));
    runtime.shutdown_background();
    told.unwrap_or_else(|_| Err("something panicked".into()))
}

impl Machine {
    fn new() -> Self {
        let servers = Servers::default();
        let counted = servers.clone();
        let runtime = MemoryRuntime::new().with_server(move |server| {
            let servers = counted.clone();
            async move {
                let workload = server.name.to_string();
                servers.begins(&workload);
                let code = mcp_server(server).await;
                servers.ends(&workload);
                code
            }
        });
        Self {
            world: World::on(runtime),
            ports: OwnPorts::new(),
            servers,
            saved: Mutex::default(),
        }
    }

    async fn happens(self, history: &History) -> Result<(), String> {
        let programs = history.programs.iter().map(|steps| self.program(steps));
        let all = futures_util::future::join_all(programs);
        let Ok(mut alive) = tokio::time::timeout(Duration::from_secs(3_600), all).await else {
            return Err("a verb has no end".into());
        };
        for life in alive.iter().flatten() {
            life.0.arm(None);
        }
        if history.reboot {
            alive.clear();
        }
        // Back-offs end, and what was asked for is noticed.
        tokio::time::sleep(Duration::from_secs(300)).await;
        self.is_sound(history).await
    }

    /// Steps of one program; what lives of it at their end.
    async fn program(&self, steps: &[Step]) -> Option<(Life, Manager)> {
        let mut process = None;
        for step in steps {
            tokio::time::sleep(step.after).await;
            let (life, manager) = process.take().unwrap_or_else(|| {
                let life = Life::with(None);
                let manager = life.builder(&self.world).ports(Arc::new(self.ports.clone()));
                (life, manager.build().unwrap())
            });
            life.arm(step.fault);
            life.until_killed(self.verb(&manager, step)).await;
            if !life.is_over() {
                process = Some((life, manager));
            }
        }
        process.filter(|(life, _)| !life.is_over())
    }

    /// A verb may fail; what it leaves is looked at in the end.
    async fn verb(&self, manager: &Manager, step: &Step) {
        let workload = name(step.name);
        let stop = StopOptions::default();
        match step.verb {
            Verb::Run => {
                if manager.run(request(step.name), until_ready()).await.is_ok() {
                    self.saved.lock().unwrap().insert(step.name);
                }
            }
            Verb::Replace => drop(manager.run(request(step.name), replacing()).await),
            Verb::Update => {
                if let Some(mut config) = self.world.config(&workload).await {
                    config.cmd_args.push("--new".into());
                    drop(manager.update(config, UpdateOptions::default()).await);
                }
            }
            Verb::Start => drop(manager.start(&workload, start_until_ready()).await),
            Verb::Restart => drop(manager.restart(&workload, stop, start_until_ready()).await),
            Verb::Stop => drop(manager.stop(&workload, stop).await),
            Verb::Remove => drop(manager.delete(&workload, stop).await),
            Verb::Reconcile => drop(manager.reconcile(start_until_ready()).await),
            Verb::ToolHiveStops => {
                if self.world.snapshot(&workload).await.status.is_some() {
                    self.world.toolhive_writes(&workload, WorkloadStatus::Stopped, 0);
                }
            }
            Verb::ToolHiveRemoves => {
                if let Some(instance) = self.world.instance(&workload).await {
                    let which = InstanceRef::exact(workload.clone(), instance.id);
                    drop(self.world.runtime.remove(&which).await);
                }
                self.world.state_forgets(step.name).await;
                self.world.status.write_status_file(&workload, None);
            }
            Verb::ServerEnds => {
                self.world.runtime.exit(&workload, 1);
            }
        }
    }

    async fn is_sound(&self, history: &History) -> Result<(), String> {
        let twice = self.servers.twice();
        if !twice.is_empty() {
            return Err(format!("two servers at a time: {twice:?}"));
        }
        let builder = self.world.builder(crate::support::APP);
        let manager = builder.ports(Arc::new(self.ports.clone())).build().unwrap();
        self.reconciles(&manager).await?;
        for workload in NAMES {
            self.is_as_recorded(workload, history).await?;
        }
        let again = manager.reconcile(start_until_ready()).await.unwrap();
        if !again.is_empty() {
            return Err(format!("reconcile again has something to do: {again:?}"));
        }
        for workload in NAMES {
            self.can_be_used(&manager, workload).await?;
        }
        Ok(())
    }

    async fn reconciles(&self, manager: &Manager) -> Result<(), String> {
        let options = StartOptions {
            wait: WaitFor::Ready(Duration::from_secs(60)),
            take_over: true,
        };
        for done in manager.reconcile(options).await.unwrap() {
            if let ReconcileAction::Failed(error) = done.action {
                return Err(format!("reconcile of {}: {error:?}", done.name));
            }
        }
        Ok(())
    }

    async fn is_as_recorded(&self, workload: &'static str, history: &History) -> Result<(), String> {
        let snapshot = self.world.snapshot(&name(workload)).await;
        let wrong = |what: &str| Err(format!("{workload}: {what}: {snapshot:?}"));
        if snapshot.damage.is_some() {
            return wrong("its record is damaged");
        }
        let config = self.world.config(&name(workload)).await;
        let runs = self.world.runs(&name(workload)).await;
        let removed =
            history.programs.iter().flatten().any(|step| {
                step.name == workload && matches!(step.verb, Verb::Remove | Verb::ToolHiveRemoves)
            });
        if config.is_none() && !removed && self.saved.lock().unwrap().contains(workload) {
            return wrong("its configuration is lost");
        }
        let Some(companion) = &snapshot.companion else {
            if self.world.instance(&name(workload)).await.is_some() {
                return wrong("an instance without a record");
            }
            if snapshot.owner == OwnerState::Alive {
                return wrong("an owner without a record");
            }
            return Ok(());
        };
        if companion.pending.is_some() {
            return wrong("a verb is not finished");
        }
        if config.is_none() {
            return wrong("a record without a configuration");
        }
        let alive = snapshot.owner == OwnerState::Alive;
        let status = snapshot.status.as_ref().map(|file| file.status);
        match snapshot.desired() {
            Desired::Running if !runs || !alive || status != Some(WorkloadStatus::Running) => {
                wrong("it should run")
            }
            Desired::Stopped if runs || alive => wrong("it should not run"),
            _ => Ok(()),
        }
    }

    /// The verbs work as if nothing had been.
    async fn can_be_used(&self, manager: &Manager, workload: &'static str) -> Result<(), String> {
        let failed = |verb: &str, error: &dyn std::fmt::Debug| format!("then {verb} {workload}: {error:?}");
        if let Err(error) = manager.run(request(workload), replacing()).await {
            return Err(failed("run", &error));
        }
        if !self.world.runs(&name(workload)).await {
            return Err(failed("run", &"nothing runs"));
        }
        if let Err(error) = manager.delete(&name(workload), StopOptions::default()).await {
            return Err(failed("rm", &error));
        }
        let snapshot = self.world.snapshot(&name(workload)).await;
        let left = snapshot.companion.is_some()
            || snapshot.status.is_some()
            || self.world.config(&name(workload)).await.is_some()
            || self.world.instance(&name(workload)).await.is_some();
        if left {
            return Err(failed("rm", &snapshot));
        }
        Ok(())
    }
}
