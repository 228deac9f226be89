//! The facade: its parts, and how it is built. Each verb is in a file of its own.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use thv_core::{Clock, Dirs, Env, SystemClock, WorkloadName};
use thv_image::ImageGate;
use thv_process::Processes;
use thv_proxy::MiddlewareFactory;
use thv_runtime::Runtimes;
use thv_secrets::{SecretProvider, UserSecrets};
use thv_state::StateStore;
use thv_status::{ClaimId, OwnerKind, StatusManager};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::feed::Readers;
use crate::launcher::{InProcess, LaunchOrder, LaunchState, Launcher, SupervisorHost};
use crate::listener::Listener;
use crate::parts::Parts;
use crate::supervisor::{StopSignal, Supervisor};
use crate::tuning::Tuning;
use crate::{
    Error, Files, NetworkRemotes, Ports, PullWatcher, Remotes, Result, ShutdownMode, SystemFiles, SystemPorts,
};

/// Manages the whole life of workloads. Cheap to clone; clones are the same manager.
///
/// A manager that is dropped behaves as one that was killed: the supervisors in it end at once, and the workloads can
/// be started again by anybody. [`shutdown`](Self::shutdown) ends them in order.
///
/// # Dropping a verb
///
/// Every verb may be dropped at any of its awaits, by a timeout for example. It lets go of what it holds; a write that is
/// under way comes to its end, and a supervisor that it launched lives on.
///
/// | dropped | what is left |
/// |---|---|
/// | [`list`](Self::list), [`get`](Self::get), [`status`](Self::status), [`logs`](Self::logs), [`watch`](Self::watch) and others that read | nothing |
/// | [`run`](Self::run) | before its configuration is saved a record at most, which is removed; from then on a start that was cut off |
/// | [`start`](Self::start), [`restart`](Self::restart) | once begun, a workload that should run |
/// | [`stop`](Self::stop) | once asked, a workload that should not run |
/// | [`delete`](Self::delete) | at first it asks as `stop` does; once begun, the deletion is finished |
/// | [`update`](Self::update) | one of the two configurations |
/// | [`shutdown`](Self::shutdown), a [`Batch`](crate::Batch) | it goes on |
///
/// The next verb on the same workload goes on from there. [`reconcile`](Self::reconcile) does so for all of them, and makes
/// true what each should be.
#[derive(Debug, Clone)]
pub struct Manager {
    pub(crate) parts: Arc<Parts>,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) tasks: Arc<Tasks>,
}

/// The parts of a manager to be.
#[derive(Debug, Default)]
#[must_use]
pub struct ManagerBuilder {
    runtimes: Runtimes,
    state: Option<Arc<dyn StateStore>>,
    status: Option<Arc<dyn StatusManager>>,
    processes: Option<Arc<dyn Processes>>,
    secrets: Option<Arc<dyn SecretProvider>>,
    images: Option<Arc<dyn ImageGate>>,
    pulls: Option<Arc<dyn PullWatcher>>,
    files: Option<Arc<dyn Files>>,
    ports: Option<Arc<dyn Ports>>,
    remotes: Option<Arc<dyn Remotes>>,
    launcher: Option<Arc<dyn Launcher>>,
    clock: Option<Arc<dyn Clock>>,
    dirs: Option<Dirs>,
    env: Env,
    launcher_id: Option<String>,
    middleware: MiddlewareFactory,
    proxy_threads: Option<NonZeroUsize>,
}

impl ManagerBuilder {
    /// The runtimes. Without any, only remote workloads can run.
    pub fn runtimes(mut self, runtimes: Runtimes) -> Self {
        self.runtimes = runtimes;
        self
    }

    /// Where run configurations and groups are kept. Required.
    pub fn state(mut self, state: Arc<dyn StateStore>) -> Self {
        self.state = Some(state);
        self
    }

    /// Where statuses, records and locks are kept. Required.
    pub fn status(mut self, status: Arc<dyn StatusManager>) -> Self {
        self.status = Some(status);
        self
    }

    /// The operating system's processes. Required.
    pub fn processes(mut self, processes: Arc<dyn Processes>) -> Self {
        self.processes = Some(processes);
        self
    }

    /// Where secrets come from; by default `TOOLHIVE_SECRET_<name>` of [`env`](Self::env). Servers get those of the
    /// user only ([`UserSecrets`]).
    pub fn secrets(mut self, secrets: Arc<dyn SecretProvider>) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// Who resolves and verifies images. Without it they run as the engine gives them, and a verification that is asked for is
    /// an error.
    pub fn image_gate(mut self, gate: Arc<dyn ImageGate>) -> Self {
        self.images = Some(gate);
        self
    }

    /// Who is told how far the pull of an image has come; by default nobody.
    pub fn pull_watcher(mut self, watcher: Arc<dyn PullWatcher>) -> Self {
        self.pulls = Some(watcher);
        self
    }

    /// The files that requests name; by default the machine's.
    pub fn files(mut self, files: Arc<dyn Files>) -> Self {
        self.files = Some(files);
        self
    }

    /// Where ports are chosen and host names looked up; by default on the machine.
    pub fn ports(mut self, ports: Arc<dyn Ports>) -> Self {
        self.ports = Some(ports);
        self
    }

    /// How remote servers are asked whether they are there; by default over the network.
    pub fn remotes(mut self, remotes: Arc<dyn Remotes>) -> Self {
        self.remotes = Some(remotes);
        self
    }

    /// Where supervisors live; by default in this process.
    pub fn launcher(mut self, launcher: Arc<dyn Launcher>) -> Self {
        self.launcher = Some(launcher);
        self
    }

    /// The wall clock; by default the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The base directories; by default those that [`env`](Self::env) names.
    pub fn dirs(mut self, dirs: Dirs) -> Self {
        self.dirs = Some(dirs);
        self
    }

    /// The application's environment; empty by default.
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// Who this is in records: a reverse domain name for an application, `thv` for the command line. Required
    /// of an application, so that a reconcile of somebody else leaves its workloads alone.
    pub fn launcher_id(mut self, id: impl Into<String>) -> Self {
        self.launcher_id = Some(id.into());
        self
    }

    /// Layers of the application's own, by type: [`RunRequest::middleware`](crate::RunRequest::middleware) and lists in
    /// run configurations may name them, and one of a type that this crate makes too stands in its place. A program that
    /// does not know such a type refuses the workload.
    pub fn middleware(mut self, factory: MiddlewareFactory) -> Self {
        self.middleware = factory;
        self
    }

    /// On how many threads the proxy of a server that speaks HTTP answers, the one of the runtime counted
    /// ([`ServeOptions::threads`](thv_proxy::ServeOptions::threads)): 1. The further ones begin when several clients are connected. More than one is
    /// for a process that does little else, on a runtime of one thread.
    pub fn proxy_threads(mut self, threads: NonZeroUsize) -> Self {
        self.proxy_threads = Some(threads);
        self
    }

    /// Puts the parts together; nothing is touched yet.
    ///
    /// # Errors
    /// `Invalid` naming the part that is missing; `InvalidVariable` for one of the environment that should be a number and is
    /// none.
    pub fn build(self) -> Result<Manager> {
        let missing = |what: &str| Error::Invalid {
            what: format!("manager: {what}"),
            detail: "it is required and was not given".into(),
        };
        let dirs = match self.dirs {
            Some(dirs) => dirs,
            None => Dirs::from_env(&self.env).map_err(|e| Error::Invalid {
                what: "environment".into(),
                detail: e.to_string(),
            })?,
        };
        let parts = Parts {
            runtimes: self.runtimes,
            state: self.state.ok_or_else(|| missing("state"))?,
            known_configs: Arc::default(),
            status: self.status.ok_or_else(|| missing("status"))?,
            processes: self.processes.ok_or_else(|| missing("processes"))?,
            secrets: Arc::new(UserSecrets::new(
                self.secrets
                    .unwrap_or_else(|| Arc::new(thv_secrets::EnvironmentSecrets::new(&self.env))),
            )),
            images: self.images,
            pulls: self.pulls,
            files: self.files.unwrap_or_else(|| Arc::new(SystemFiles)),
            ports: self.ports.unwrap_or_else(|| Arc::new(SystemPorts)),
            remotes: self.remotes.unwrap_or_else(|| Arc::new(NetworkRemotes)),
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock)),
            dirs,
            tuning: Tuning::from_env(&self.env)?,
            env: self.env,
            launcher_id: self.launcher_id.ok_or_else(|| missing("launcher_id"))?,
            middleware: self.middleware,
            proxy_threads: self.proxy_threads.unwrap_or(NonZeroUsize::MIN),
        };
        Ok(Manager {
            parts: Arc::new(parts),
            launcher: self.launcher.unwrap_or_else(|| Arc::new(InProcess)),
            tasks: Arc::default(),
        })
    }
}

impl Manager {
    /// Starts putting a manager together.
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::default()
    }

    /// The runtimes.
    pub fn runtimes(&self) -> &Runtimes {
        &self.parts.runtimes
    }

    /// Ends the supervisors of this manager and waits for them. What should run is still recorded as such:
    /// [`reconcile`](Self::reconcile) of another manager brings it back; this one launches nothing any more. An update that is
    /// past the point of no return comes to an end first, wherever its task is: one of its two versions is saved then.
    ///
    /// Cancel-safe: who stops waiting does not call the end off, and may wait again, as may several at once. Only dropping
    /// the manager ends what is left at once.
    ///
    /// # Errors
    /// None so far.
    pub async fn shutdown(&self, mode: ShutdownMode) -> Result<()> {
        for signal in self.tasks.close() {
            if mode == ShutdownMode::Leave {
                signal.leave.cancel();
            }
            signal.ask();
        }
        self.tasks.supervisors.wait().await;
        // What they launch by now is refused, so that none of them waits for a server.
        // It fails only when the sender is gone, and `self` has it.
        let _ = self.tasks.updates.subscribe().wait_for(|count| *count == 0).await;
        Ok(())
    }

    pub(crate) fn host(&self) -> Host<'_> {
        Host { manager: self }
    }

    /// Who reads what the one listening task of this manager hears, which begins with the first call.
    pub(crate) fn readers(&self) -> Readers {
        let mut listener = self.tasks.listener.lock().unwrap_or_else(PoisonError::into_inner);
        // The async runtime in which another one listened may have ended.
        if let Some(listener) = listener.as_ref().filter(|listener| listener.listens()) {
            return listener.readers();
        }
        let begun = Listener::start(self.parts.clone(), Arc::downgrade(&self.tasks));
        listener.insert(begun).readers()
    }
}

/// The supervisors of this process. Dropping it ends them as a kill would.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: Mutex<BTreeMap<WorkloadName, Running>>,
    /// All tasks of `running`, to be waited for together.
    supervisors: TaskTracker,
    closed: AtomicBool,
    /// How many updates are past the point of no return.
    updates: watch::Sender<usize>,
    listener: Mutex<Option<Listener>>,
}

#[derive(Debug)]
pub(crate) struct Running {
    claim: ClaimId,
    signal: StopSignal,
    task: JoinHandle<()>,
}

impl Tasks {
    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<WorkloadName, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more from now on, and tells how those are told to end that there are.
    fn close(&self) -> Vec<StopSignal> {
        let running = self.running();
        self.closed.store(true, Ordering::Relaxed);
        self.supervisors.close();
        running.values().map(|running| running.signal.clone()).collect()
    }

    /// Counts an update of `name` until the answer is dropped, unless nothing is to be begun any more.
    pub(crate) fn begin_update(&self, name: &WorkloadName) -> Result<UpdateUnderWay> {
        // Under this lock the door is closed.
        let _running = self.running();
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::Conflict {
                name: name.to_string(),
                detail: "this manager is shut down".into(),
            });
        }
        self.updates.send_modify(|count| *count += 1);
        Ok(UpdateUnderWay(self.updates.clone()))
    }

    pub(crate) fn names(&self) -> Vec<WorkloadName> {
        self.running().keys().cloned().collect()
    }

    /// Tells the supervisor with `claim` to end, if it is still the one of `name`.
    pub(crate) fn stop_claimed(&self, name: &WorkloadName, claim: &ClaimId) {
        if let Some(running) = self.running().get(name).filter(|running| running.claim == *claim) {
            running.signal.ask();
        }
    }

    /// Tells the supervisor of `name` in this process to end, if there is one.
    pub(crate) fn stop(&self, name: &WorkloadName) {
        if let Some(running) = self.running().get(name) {
            running.signal.ask();
        }
    }

    pub(crate) fn claim_of(&self, name: &WorkloadName) -> Option<ClaimId> {
        self.running().get(name).map(|running| running.claim.clone())
    }

    fn forget(&self, name: &WorkloadName, claim: &ClaimId) {
        let mut running = self.running();
        if running.get(name).is_some_and(|running| running.claim == *claim) {
            running.remove(name);
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for running in self.running().values() {
            running.task.abort();
        }
    }
}

/// Counts an update until it is dropped.
pub(crate) struct UpdateUnderWay(watch::Sender<usize>);

impl Drop for UpdateUnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// What a launcher sees of a manager.
pub(crate) struct Host<'a> {
    manager: &'a Manager,
}

impl SupervisorHost for Host<'_> {
    fn spawn(&self, order: LaunchOrder, kind: OwnerKind) -> watch::Receiver<LaunchState> {
        let Manager { parts, tasks, .. } = self.manager;
        let (name, claim) = (order.name.clone(), order.claim.clone());
        let signal = StopSignal::default();
        let weak = Arc::downgrade(tasks);
        let mut running = tasks.running();
        if tasks.closed.load(Ordering::Relaxed) {
            // Dropped here, the order frees its claim's lock: the next verb finds a start that was interrupted.
            return watch::channel(LaunchState::Ended).1;
        }
        let (supervisor, states) = Supervisor::begin(parts.clone(), order, kind, signal.clone());
        let task = tasks.supervisors.spawn({
            let (name, claim) = (name.clone(), claim.clone());
            async move {
                match AssertUnwindSafe(supervisor).catch_unwind().await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => tracing::error!(workload = %name, %error, "the supervisor failed"),
                    Err(_) => tracing::error!(workload = %name, "the supervisor panicked"),
                }
                if let Some(tasks) = weak.upgrade() {
                    tasks.forget(&name, &claim);
                }
            }
        });
        running.insert(name, Running { claim, signal, task });
        drop(running);
        self.manager.readers();
        states
    }

    fn env(&self) -> &Env {
        &self.manager.parts.env
    }

    fn dirs(&self) -> &Dirs {
        &self.manager.parts.dirs
    }

    fn processes(&self) -> &dyn Processes {
        &*self.manager.parts.processes
    }
}
