//! A machine on which a history happens, and what must hold at its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thv_core::{Clock, RunConfig, WorkloadStatus};
use thv_manager::{
    Launcher, Manager, MemoryFiles, MemoryRemotes, Ports as _, ReconcileAction, RunRequest, StartOptions,
    StopOptions, UpdateOptions, WaitFor,
};
use thv_process::{MemoryProcesses, ProcessIdentity, Processes};
use thv_runtime::MemoryRuntime;
use thv_status::{Desired, ForeignMeaning, OwnerState, Reading};

use crate::asked::{Asked, Is};
use crate::history::{FAR, History, NAMES, Program, Step, Verb};
use crate::launcher::Apart;
use crate::mortal::{Fault, Life};
use crate::processes::AllProcesses;
use crate::support::{World, mcp_server, name, replacing, request, start_until_ready, until_ready};
use crate::surroundings::{OwnPorts, Servers, VirtualClock};
use crate::witness::Trace;

pub(crate) struct Machine {
    pub(crate) world: World,
    clock: Arc<dyn Clock>,
    ports: OwnPorts,
    pub(crate) processes: AllProcesses,
    table: MemoryProcesses,
    begun: AtomicU32,
    servers: Servers,
    pub(crate) asked: Asked,
    remotes: MemoryRemotes,
    far_is_away: AtomicBool,
    trace: Trace,
}

/// A process of a program: whenever it is killed, all that is in it ends.
struct Process {
    life: Life,
    manager: Arc<Mutex<Option<Manager>>>,
}

impl Process {
    fn begin(machine: &Arc<Machine>, apart: Option<&Step>) -> Self {
        let life = machine.life(None);
        let identity = machine.processes.application(&life);
        let pid = identity.pid;
        let launcher = apart.map(|step| -> Arc<dyn Launcher> { Arc::new(Apart::new(machine, &life, step)) });
        let manager = machine.manager(&life, identity, launcher);
        let manager = Arc::new(Mutex::new(Some(manager)));
        let (dying, kept, processes) = (life.clone(), manager.clone(), machine.processes.clone());
        tokio::spawn(async move {
            dying.until_killed(std::future::pending()).await;
            drop(kept.lock().unwrap().take());
            processes.exit(pid);
        });
        Self { life, manager }
    }

    fn manager(&self) -> Option<Manager> {
        self.manager.lock().unwrap().clone()
    }
}

/// What is to be run under a name.
fn wanted(workload: &str) -> RunRequest {
    if workload != NAMES[2] {
        return request(workload);
    }
    RunRequest {
        name: Some(workload.into()),
        ..RunRequest::new(FAR)
    }
}

/// Lets `history` happen; what is wrong then.
pub(crate) fn happens(history: &History) -> Result<(), String> {
    happens_told(history, Trace::default())
}

/// The same, with what the processes do told to `trace`.
pub(crate) fn happens_told(history: &History, trace: Trace) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let told = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { Arc::new(Machine::new(trace)).happens(history).await })
    }));
    runtime.shutdown_background();
    told.unwrap_or_else(|_| Err("something panicked".into()))
}

impl Machine {
    fn new(trace: Trace) -> Self {
        let servers = Servers::default();
        let counted = servers.clone();
        let runtime = MemoryRuntime::new().with_server(move |server| {
            let servers = counted.clone();
            async move {
                let _runs = servers.begin(server.name.to_string());
                mcp_server(server).await
            }
        });
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::new());
        let world = World::at(runtime, clock.clone());
        Self {
            processes: AllProcesses::new(world.processes.clone()),
            table: world.processes.clone(),
            world,
            clock,
            ports: OwnPorts::new(),
            begun: AtomicU32::new(0),
            servers,
            asked: Asked::default(),
            remotes: MemoryRemotes::default(),
            far_is_away: AtomicBool::default(),
            trace,
        }
    }

    /// The life of a process that begins now.
    pub(crate) fn life(&self, fault: Option<(usize, Fault)>) -> Life {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        Life::with(fault).telling(number, self.trace.clone())
    }

    /// A process listens at the port of a workload.
    pub(crate) fn binds(&self, port: u16, pid: u32) -> std::io::Result<std::net::TcpListener> {
        let listener = self.ports.bind((std::net::Ipv4Addr::LOCALHOST, port).into())?;
        self.table.listen(port, pid);
        Ok(listener)
    }

    pub(crate) fn identity_of(&self, pid: u32) -> ProcessIdentity {
        self.table.facts(pid).unwrap().unwrap().identity
    }

    /// The manager of a process; without a launcher it is an application.
    pub(crate) fn manager(
        &self,
        life: &Life,
        identity: ProcessIdentity,
        launcher: Option<Arc<dyn Launcher>>,
    ) -> Manager {
        let mut builder = life
            .builder(&self.world)
            .processes(Arc::new(self.processes.seen_by(identity, life)))
            .ports(Arc::new(self.ports.clone()))
            .remotes(Arc::new(self.remotes.clone()))
            .files(Arc::new(MemoryFiles::default()))
            .clock(self.clock.clone());
        if let Some(launcher) = launcher {
            builder = builder.launcher(launcher);
        }
        builder.build().unwrap()
    }

    async fn happens(self: Arc<Self>, history: &History) -> Result<(), String> {
        let programs = history.programs.iter().map(|program| self.program(program));
        let all = futures_util::future::join_all(programs);
        let Ok(alive) = tokio::time::timeout(Duration::from_secs(3_600), all).await else {
            return Err("a verb has no end".into());
        };
        self.processes.disarm_all();
        self.remotes.set_away(FAR, false);
        if history.reboot {
            self.processes.end_all();
            for workload in NAMES {
                self.world.runtime.exit(&name(workload), 137);
            }
        }
        // Back-offs end, and what was asked for is noticed.
        tokio::time::sleep(Duration::from_secs(300)).await;
        let sound = self.is_sound(history).await;
        drop(alive);
        sound
    }

    /// Steps of one program; its last process.
    async fn program(self: &Arc<Self>, program: &Program) -> Option<Process> {
        let mut process: Option<Process> = None;
        for step in &program.steps {
            tokio::time::sleep(step.after).await;
            let going_on = process.take().filter(|process| !process.life.is_over());
            let current = going_on.unwrap_or_else(|| Process::begin(self, program.apart.then_some(step)));
            current.life.arm(step.fault);
            if !program.apart {
                current.life.slow_down(step.slow_read);
            }
            if let Some(manager) = current.manager() {
                current
                    .life
                    .until_killed(Box::pin(self.verb(&manager, step)))
                    .await;
            }
            if program.apart {
                // A command ends with its verb; its proxies live on.
                current.life.end();
            }
            process = Some(current);
        }
        process
    }

    /// A verb may fail; what it leaves is looked at in the end.
    async fn verb(self: &Arc<Self>, manager: &Manager, step: &Step) {
        let workload = name(step.name);
        let stop = StopOptions::default();
        let asked = |to| self.asked.begin(step.name, Some(to));
        match step.verb {
            Verb::Run => asked(Is::Running).came_to(&manager.run(wanted(step.name), until_ready()).await),
            Verb::Replace => asked(Is::Running).came_to(&manager.run(wanted(step.name), replacing()).await),
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
            Verb::ToolHiveStops => self.toolhive_stops(step.name, &workload).await,
            Verb::ToolHiveRemoves => self.toolhive_removes(step.name, &workload).await,
            Verb::ToolHiveStarts => self.toolhive_starts(step.name, &workload).await,
            Verb::ServerEnds if step.name == NAMES[2] => {
                let away = !self.far_is_away.fetch_xor(true, Ordering::Relaxed);
                self.remotes.set_away(FAR, away);
            }
            Verb::ServerEnds => {
                self.world.runtime.exit(&workload, 1);
            }
            Verb::LockLost => self.world.status.lose_owner(&workload),
        }
    }

    async fn is_sound(self: &Arc<Self>, history: &History) -> Result<(), String> {
        let twice = self.servers.twice();
        if !twice.is_empty() {
            return Err(format!("two servers at a time: {twice:?}"));
        }
        let wrongs = self.trace.wrongs();
        if !wrongs.is_empty() {
            return Err(format!("{wrongs:?}"));
        }
        let wronged = self.processes.wronged();
        if !wronged.is_empty() {
            return Err(format!("processes were wronged: {wronged:?}"));
        }
        let checker = Process::begin(self, None);
        let manager = checker.manager().unwrap();
        self.reconciles(&manager).await?;
        for workload in NAMES {
            self.is_as_recorded(workload).await?;
            self.is_as_asked(workload).await?;
        }
        let again = manager.reconcile(start_until_ready()).await.unwrap();
        if !again.is_empty() {
            return Err(format!("reconcile again has something to do: {again:?}"));
        }
        for workload in NAMES.into_iter().filter(|name| history.is_about(name)) {
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
        let alive = snapshot.owner == OwnerState::Alive;
        let by_toolhive = self.processes.toolhive_runs(&name(workload));
        let remote = config.as_ref().is_some_and(RunConfig::is_remote);
        let runs = if remote {
            alive || by_toolhive
        } else {
            self.world.runs(&name(workload)).await
        };
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
        // What another program says went wrong is shown until somebody of ours writes.
        let told = snapshot.reading == Reading::Foreign(ForeignMeaning::Other)
            || snapshot.status.as_ref().map(|file| file.status) == Some(WorkloadStatus::Running);
        match snapshot.desired() {
            _ if by_toolhive && (!runs || alive) => wrong("ToolHive should run it alone"),
            _ if by_toolhive => Ok(()),
            Desired::Running if !runs || !alive || !told => wrong("it should run"),
            Desired::Stopped if runs || alive => wrong("it should not run"),
            _ => Ok(()),
        }
    }

    /// Of what is recorded, nothing may be lost that somebody was told.
    async fn is_as_asked(&self, workload: &'static str) -> Result<(), String> {
        let snapshot = self.world.snapshot(&name(workload)).await;
        let is = match (self.world.config(&name(workload)).await, snapshot.desired()) {
            (None, _) => Is::Absent,
            (Some(_), _) if self.processes.toolhive_runs(&name(workload)) => Is::Running,
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
        if let Err(error) = manager.run(wanted(workload), replacing()).await {
            return Err(failed("run", &error));
        }
        if workload != NAMES[2] && !self.world.runs(&name(workload)).await {
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
