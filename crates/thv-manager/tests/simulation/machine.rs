//! A machine on which a history happens, and what must hold at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thv_core::WorkloadStatus;
use thv_manager::{
    Manager, MemoryFiles, Ports, ReconcileAction, StartOptions, StopOptions, UpdateOptions, WaitFor,
};
use thv_runtime::MemoryRuntime;
use thv_status::{Desired, OwnerState};

use crate::asked::{Asked, Is};
use crate::history::{History, NAMES, Step, Verb};
use crate::mortal::Life;
use crate::support::{World, mcp_server, name, replacing, request, start_until_ready, until_ready};

/// Ports of an address that nobody else on the machine has, so that histories side by side do not meet. None is offered
/// twice: as ports are chosen by chance, nobody gets the one of a workload that is down for a moment.
#[derive(Debug, Clone)]
struct OwnPorts(Ipv4Addr, Arc<AtomicU16>);

impl OwnPorts {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let [_, _, c, d] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let [_, _, _, b] = std::process::id().to_be_bytes();
        Self(Ipv4Addr::new(127, b | 1, c, d), Arc::new(AtomicU16::new(11_000)))
    }
}

impl Ports for OwnPorts {
    fn never_waits(&self) -> bool {
        true
    }

    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind((self.0, address.port()))
    }

    fn candidates(&self) -> Box<dyn Iterator<Item = u16> + '_> {
        Box::new((0..100).map(|_| self.1.fetch_add(1, Ordering::Relaxed)))
    }

    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![self.0.into()])
    }
}

/// What the servers saw: how many of a workload run now, and of which there were two at a time.
#[derive(Debug, Clone, Default)]
struct Servers(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    now: BTreeMap<String, usize>,
    twice: BTreeSet<String>,
}

impl Servers {
    fn begin(&self, workload: String) -> Runs {
        let mut seen = self.0.lock().unwrap();
        let now = seen.now.entry(workload.clone()).or_default();
        *now += 1;
        if *now > 1 {
            seen.twice.insert(workload.clone());
        }
        Runs(self.clone(), workload)
    }

    fn twice(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().twice.clone()
    }
}

/// A server, until it ends or is killed.
struct Runs(Servers, String);

impl Drop for Runs {
    fn drop(&mut self) {
        if let Some(now) = self.0.0.lock().unwrap().now.get_mut(&self.1) {
            *now -= 1;
        }
    }
}

struct Machine {
    world: World,
    ports: OwnPorts,
    servers: Servers,
    asked: Asked,
}

/// A process of a program: whenever it is killed, all that is in it ends.
struct Process {
    life: Life,
    manager: Arc<Mutex<Option<Manager>>>,
}

impl Process {
    fn begin(machine: &Machine) -> Self {
        let life = Life::with(None);
        let builder = life.builder(&machine.world);
        let files = Arc::new(MemoryFiles::default());
        let builder = builder.ports(Arc::new(machine.ports.clone())).files(files);
        let manager = builder.build().unwrap();
        let manager = Arc::new(Mutex::new(Some(manager)));
        let (dying, kept) = (life.clone(), Arc::downgrade(&manager));
        tokio::spawn(async move {
            dying.until_killed(std::future::pending()).await;
            if let Some(kept) = kept.upgrade() {
                drop(kept.lock().unwrap().take());
            }
        });
        Self { life, manager }
    }

    fn manager(&self) -> Option<Manager> {
        self.manager.lock().unwrap().clone()
    }
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
                let _runs = servers.begin(server.name.to_string());
                mcp_server(server).await
            }
        });
        Self {
            world: World::on(runtime),
            ports: OwnPorts::new(),
            servers,
            asked: Asked::default(),
        }
    }

    async fn happens(self, history: &History) -> Result<(), String> {
        let programs = history.programs.iter().map(|steps| self.program(steps));
        let all = futures_util::future::join_all(programs);
        let Ok(mut alive) = tokio::time::timeout(Duration::from_secs(3_600), all).await else {
            return Err("a verb has no end".into());
        };
        for process in alive.iter().flatten() {
            process.life.arm(None);
        }
        if history.reboot {
            alive.clear();
        }
        // Back-offs end, and what was asked for is noticed.
        tokio::time::sleep(Duration::from_secs(300)).await;
        self.is_sound().await
    }

    /// Steps of one program; its last process.
    async fn program(&self, steps: &[Step]) -> Option<Process> {
        let mut process: Option<Process> = None;
        for step in steps {
            tokio::time::sleep(step.after).await;
            let going_on = process.take().filter(|process| !process.life.is_over());
            let current = going_on.unwrap_or_else(|| Process::begin(self));
            current.life.arm(step.fault);
            if let Some(manager) = current.manager() {
                current
                    .life
                    .until_killed(Box::pin(self.verb(&manager, step)))
                    .await;
            }
            process = Some(current);
        }
        process
    }

    /// A verb may fail; what it leaves is looked at in the end.
    async fn verb(&self, manager: &Manager, step: &Step) {
        let workload = name(step.name);
        let stop = StopOptions::default();
        let asked = |to| self.asked.begin(step.name, Some(to));
        match step.verb {
            Verb::Run => asked(Is::Running).came_to(&manager.run(request(step.name), until_ready()).await),
            Verb::Replace => asked(Is::Running).came_to(&manager.run(request(step.name), replacing()).await),
            Verb::Update => {
                if let Some(mut config) = self.world.config(&workload).await {
                    config.cmd_args.push("--new".into());
                    let asked = asked(Is::Running);
                    asked.came_to(&manager.update(config, UpdateOptions::default()).await);
                }
            }
            Verb::Start => asked(Is::Running).came_to(&manager.start(&workload, start_until_ready()).await),
            Verb::Restart => {
                let asked = asked(Is::Running);
                asked.came_to(&manager.restart(&workload, stop, start_until_ready()).await);
            }
            Verb::Stop => asked(Is::Stopped).came_to(&manager.stop(&workload, stop).await),
            Verb::Remove => asked(Is::Absent).came_to(&manager.delete(&workload, stop).await),
            Verb::Reconcile => {
                let _asked = NAMES.map(|name| self.asked.begin(name, None));
                drop(manager.reconcile(start_until_ready()).await);
            }
            Verb::ToolHiveStops => {
                if self.world.snapshot(&workload).await.status.is_some() {
                    // Whoever works on it right now may not have seen that.
                    drop(asked(Is::Stopped));
                    self.world.toolhive_writes(&workload, WorkloadStatus::Stopped, 0);
                }
            }
            Verb::ToolHiveRemoves => {
                // As another program does, in its order: the instance, the status, the configuration.
                if self.world.config(&workload).await.is_some() {
                    let _asked = (asked(Is::Stopped), asked(Is::Absent));
                    self.world.toolhive_removes(&workload).await;
                }
            }
            Verb::ServerEnds => {
                self.world.runtime.exit(&workload, 1);
            }
        }
    }

    async fn is_sound(&self) -> Result<(), String> {
        let twice = self.servers.twice();
        if !twice.is_empty() {
            return Err(format!("two servers at a time: {twice:?}"));
        }
        let builder = self.world.builder(crate::support::APP);
        let manager = builder.ports(Arc::new(self.ports.clone())).build().unwrap();
        self.reconciles(&manager).await?;
        for workload in NAMES {
            self.is_as_recorded(workload).await?;
            self.is_as_asked(workload).await?;
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

    async fn is_as_recorded(&self, workload: &'static str) -> Result<(), String> {
        let snapshot = self.world.snapshot(&name(workload)).await;
        let wrong = |what: &str| Err(format!("{workload}: {what}: {snapshot:?}"));
        if snapshot.damage.is_some() {
            return wrong("its record is damaged");
        }
        let config = self.world.config(&name(workload)).await;
        let runs = self.world.runs(&name(workload)).await;
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

    /// Of what is recorded, nothing may be lost that somebody was told.
    async fn is_as_asked(&self, workload: &'static str) -> Result<(), String> {
        let snapshot = self.world.snapshot(&name(workload)).await;
        let is = match (self.world.config(&name(workload)).await, snapshot.desired()) {
            (None, _) => Is::Absent,
            (Some(_), Desired::Stopped) => Is::Stopped,
            (Some(_), Desired::Running) => Is::Running,
        };
        let asked = self.asked.may_be(workload);
        if asked.contains(&is) {
            return Ok(());
        }
        Err(format!(
            "{workload} was asked to be {asked:?} and is {is:?}: {snapshot:?}"
        ))
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
