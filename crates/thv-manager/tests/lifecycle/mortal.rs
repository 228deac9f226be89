//! A process with a fault right before, or right after, its n-th effect. One that dies does nothing from then on.

use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use thv_core::WorkloadName;
use thv_manager::{Manager, ManagerBuilder};
use thv_runtime::{
    Capabilities, DeploySpec, Deployment, EventFilter, Images, Instance, InstanceRef, LogLine, LogOptions,
    Runtime, RuntimeEvent, RuntimeKind, Runtimes, Stdio, StopOptions,
};
use thv_state::{DocumentKind, DocumentName, Keep, StateStore, Visit};
use thv_status::{
    Authority, Change, Changes, ClaimId, Companion, OpGuard, Operation, OwnerGuard, Snapshot, StatusManager,
};
use tokio_util::sync::CancellationToken;

use crate::support::{APP, World};
use crate::witness::{Fence, Order, Trace};

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is killed.
    Crash,
    /// What was to be done fails; or it was done, and its answer is lost.
    Fail,
    /// It takes its time.
    Delay(Duration),
}

/// The life of a process, in points before and after its effects.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    next: Arc<Mutex<Option<(usize, Fault)>>>,
    /// Which of its reads takes long, and how long.
    slow: Arc<Mutex<Option<(usize, Duration)>>>,
    died: CancellationToken,
    /// The process's number, and where it is told what it does.
    told: (u32, Trace),
    fence: Fence,
    order: Option<Order>,
}

impl Life {
    /// A process that is killed after so many points.
    pub(crate) fn of(points: usize) -> Self {
        Self::with(Some((points, Fault::Crash)))
    }

    /// A process with this fault after so many points.
    pub(crate) fn with(fault: Option<(usize, Fault)>) -> Self {
        Self {
            next: Arc::new(Mutex::new(fault)),
            slow: Arc::default(),
            died: CancellationToken::new(),
            told: (0, Trace::default()),
            fence: Fence::default(),
            order: None,
        }
    }

    /// The same, of a process with a number whose effects are told.
    pub(crate) fn telling(mut self, process: u32, trace: Trace) -> Self {
        self.told = (process, trace);
        self
    }

    /// The process is killed by somebody else.
    pub(crate) fn end(&self) {
        self.died.cancel();
    }

    /// From here on, this fault after so many points, in place of what was to come.
    pub(crate) fn arm(&self, fault: Option<(usize, Fault)>) {
        *self.next.lock().unwrap() = fault;
    }

    /// From here on, the read after so many takes so long.
    pub(crate) fn slow_down(&self, read: Option<(usize, Duration)>) {
        *self.slow.lock().unwrap() = read;
    }

    /// Works until it is done or the process dies.
    pub(crate) async fn until_killed(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.died.cancelled() => {}
            () = work => {}
        }
    }

    /// Whether the process came to its end before its verb did.
    pub(crate) fn is_over(&self) -> bool {
        self.died.is_cancelled()
    }

    /// Runs `verb` of a manager of this process until it ends, or the process dies; then the process is dead.
    pub(crate) async fn live<F, Fut>(&self, world: &World, verb: F)
    where
        F: FnOnce(Manager) -> Fut,
        Fut: Future<Output = ()>,
    {
        let manager = self.manager(world);
        self.until_killed(verb(manager.clone())).await;
        drop(manager);
        // The tasks of a process that died are dropped at their next turn.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn manager(&self, world: &World) -> Manager {
        self.builder(world).build().unwrap()
    }

    pub(crate) fn builder(&self, world: &World) -> ManagerBuilder {
        let runtime: Arc<dyn Runtime> = Arc::new(world.runtime.clone());
        let mut life = self.clone();
        life.fence.records = Some(world.status.clone());
        life.order = Some(Order {
            records: world.status.clone(),
            runtime: world.runtime.clone(),
            state: world.state.clone(),
        });
        world
            .builder(APP)
            .runtimes(Runtimes::new().with(Arc::new(Mortal {
                inner: runtime,
                life: life.clone(),
            })))
            .state(Arc::new(Mortal {
                inner: world.state.clone() as Arc<dyn StateStore>,
                life: life.clone(),
            }))
            .status(Arc::new(Mortal {
                inner: Arc::new(world.status.clone()) as Arc<dyn StatusManager>,
                life: life.clone(),
            }))
    }

    async fn alive(&self) {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }

    /// The fault that is due at this point.
    fn due(&self) -> Option<Fault> {
        let mut next = self.next.lock().unwrap();
        match next.as_mut() {
            Some((left, _)) if *left > 0 => {
                *left -= 1;
                None
            }
            _ => next.take().map(|(_, fault)| fault),
        }
    }

    /// A point of what does not wait: whether it fails. It cannot be late: the next effect that can is. In a process that
    /// is killed here it fails, and nothing that the process does later has an effect.
    pub(crate) fn point_at_once(&self) -> bool {
        match self.due() {
            Some(Fault::Crash) => self.died.cancel(),
            Some(Fault::Fail) => return true,
            Some(delay) => self.arm(Some((0, delay))),
            None => {}
        }
        self.is_over()
    }

    /// Whether what is done here fails.
    pub(crate) async fn point(&self) -> bool {
        let due = self.due();
        match due {
            Some(Fault::Crash) => self.died.cancel(),
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Fail) | None => {}
        }
        self.alive().await;
        due == Some(Fault::Fail)
    }

    async fn effect<T, E: Refusal>(
        &self,
        what: &'static str,
        of: &(dyn Display + Sync),
        effect: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.tell(|| format!("{what} {of}"));
        if self.point().await {
            return Err(E::refusal());
        }
        let done = effect.await;
        self.tell(|| format!("{what} {of}: {}", if done.is_ok() { "done" } else { "refused" }));
        if self.point().await {
            return Err(E::refusal());
        }
        done
    }

    /// Something happened that must not.
    fn wrong(&self, what: String) {
        let (process, trace) = &self.told;
        trace.wrong(format!("process {process}: {what}"));
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        let (process, trace) = &self.told;
        trace.tell(|| format!("process {process}: {}", what()));
    }

    async fn read<T>(&self, read: impl Future<Output = T>) -> T {
        let slow = {
            let mut slow = self.slow.lock().unwrap();
            match slow.as_mut() {
                Some((left, _)) if *left > 0 => {
                    *left -= 1;
                    None
                }
                _ => slow.take(),
            }
        };
        if let Some((_, time)) = slow {
            tokio::time::sleep(time).await;
        }
        self.alive().await;
        read.await
    }
}

/// How a seam fails.
trait Refusal {
    fn refusal() -> Self;
}

impl Refusal for thv_status::Error {
    fn refusal() -> Self {
        Self::Io {
            action: "write",
            path: "status".into(),
            source: std::io::Error::other("injected"),
        }
    }
}

impl Refusal for thv_state::Error {
    fn refusal() -> Self {
        Self::Io {
            action: "write",
            path: "state".into(),
            source: std::io::Error::other("injected"),
        }
    }
}

impl Refusal for thv_runtime::Error {
    fn refusal() -> Self {
        Self::Unavailable {
            runtime: RuntimeKind::new("memory"),
            detail: "injected".into(),
            source: None,
        }
    }
}

#[derive(Debug)]
struct Mortal<T: ?Sized> {
    inner: Arc<T>,
    life: Life,
}

#[async_trait]
impl StatusManager for Mortal<dyn StatusManager> {
    async fn read(&self, name: &WorkloadName) -> thv_status::Result<Snapshot> {
        self.life.read(self.inner.read(name)).await
    }

    async fn list(&self) -> thv_status::Result<Vec<Snapshot>> {
        self.life.read(self.inner.list()).await
    }

    async fn lock_op(
        &self,
        name: &WorkloadName,
        operation: Operation,
        timeout: Duration,
    ) -> thv_status::Result<OpGuard> {
        self.life
            .effect("lock_op", name, self.inner.lock_op(name, operation, timeout))
            .await
    }

    async fn acquire_owner(&self, name: &WorkloadName) -> thv_status::Result<OwnerGuard> {
        self.life
            .effect("acquire_owner", name, self.inner.acquire_owner(name))
            .await
    }

    async fn owner_free(&self, name: &WorkloadName, timeout: Duration) -> thv_status::Result<bool> {
        self.life.read(self.inner.owner_free(name, timeout)).await
    }

    async fn update(
        &self,
        name: &WorkloadName,
        authority: Authority<'_>,
        change: Change,
    ) -> thv_status::Result<Companion> {
        let holder = match &authority {
            Authority::Supervisor(claim) => Some((*claim).clone()),
            _ => None,
        };
        let update = self.inner.update(name, authority, change);
        let done = self.life.effect("update", name, update).await;
        if let (Some(claim), Ok(companion)) = (holder, &done)
            && !self.life.fence.wrote(name, &claim, companion)
        {
            self.life.wrong(format!("a late holder of {name} wrote"));
        }
        done
    }

    async fn create(
        &self,
        name: &WorkloadName,
        op: &OpGuard,
        companion: Companion,
    ) -> thv_status::Result<()> {
        self.life
            .effect("create", name, self.inner.create(name, op, companion))
            .await
    }

    async fn remove(&self, name: &WorkloadName, op: OpGuard) -> thv_status::Result<()> {
        if let Some(order) = self.life.order.as_ref().filter(|_| !self.life.is_over())
            && let Some(wrong) = order.of_record(name).await
        {
            self.life.wrong(wrong);
        }
        self.life
            .effect("remove", name, self.inner.remove(name, op))
            .await
    }

    async fn claim_is_current(&self, name: &WorkloadName, claim: &ClaimId) -> thv_status::Result<bool> {
        self.life.read(self.inner.claim_is_current(name, claim)).await
    }

    async fn owner_id(&self) -> thv_status::Result<String> {
        self.life.read(self.inner.owner_id()).await
    }

    async fn write_pid_file(&self, name: &WorkloadName, pid: u32) -> thv_status::Result<()> {
        self.life
            .effect("write_pid_file", name, self.inner.write_pid_file(name, pid))
            .await
    }

    async fn remove_pid_files(&self, name: &WorkloadName) -> thv_status::Result<()> {
        self.life
            .effect("remove_pid_files", name, self.inner.remove_pid_files(name))
            .await
    }

    async fn watch(&self) -> thv_status::Result<Changes> {
        self.life.read(self.inner.watch()).await
    }
}

#[async_trait]
impl StateStore for Mortal<dyn StateStore> {
    async fn read(&self, kind: DocumentKind, name: &DocumentName) -> thv_state::Result<Option<Vec<u8>>> {
        self.life.read(self.inner.read(kind, name)).await
    }

    async fn visit(&self, kind: DocumentKind, visit: Visit) -> thv_state::Result<()> {
        self.life.read(self.inner.visit(kind, visit)).await
    }

    async fn replace(
        &self,
        kind: DocumentKind,
        name: &DocumentName,
        bytes: Vec<u8>,
        keep: Keep,
    ) -> thv_state::Result<()> {
        self.life
            .effect("replace", name, self.inner.replace(kind, name, bytes, keep))
            .await
    }

    async fn create(
        &self,
        kind: DocumentKind,
        name: &DocumentName,
        bytes: Vec<u8>,
        keep: Keep,
    ) -> thv_state::Result<()> {
        self.life
            .effect("create config", name, self.inner.create(kind, name, bytes, keep))
            .await
    }

    async fn delete(&self, kind: DocumentKind, name: &DocumentName, keep: Keep) -> thv_state::Result<()> {
        if let Some(order) = self.life.order.as_ref().filter(|_| !self.life.is_over())
            && let (DocumentKind::RunConfig, Ok(name)) = (kind, WorkloadName::new(name.as_str()))
            && let Some(wrong) = order.of_config(&name).await
        {
            self.life.wrong(wrong);
        }
        self.life
            .effect("delete config", name, self.inner.delete(kind, name, keep))
            .await
    }

    async fn list(&self, kind: DocumentKind) -> thv_state::Result<Vec<DocumentName>> {
        self.life.read(self.inner.list(kind)).await
    }
}

#[async_trait]
impl Runtime for Mortal<dyn Runtime> {
    fn kind(&self) -> &RuntimeKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn check_name(&self, name: &WorkloadName) -> thv_runtime::Result<()> {
        self.inner.check_name(name)
    }

    fn images(&self) -> Option<Arc<dyn Images>> {
        self.inner.images()
    }

    async fn ping(&self) -> thv_runtime::Result<()> {
        self.life.read(self.inner.ping()).await
    }

    async fn deploy(&self, spec: &DeploySpec) -> thv_runtime::Result<Deployment> {
        if !self.life.is_over() && !self.life.fence.may_deploy(&spec.name).await {
            self.life
                .wrong(format!("a late holder of {} deployed", spec.name));
        }
        self.life
            .effect("deploy", &spec.name, self.inner.deploy(spec))
            .await
    }

    async fn stop(&self, which: &InstanceRef, opts: StopOptions) -> thv_runtime::Result<()> {
        self.life
            .effect("stop instance", &which.name, self.inner.stop(which, opts))
            .await
    }

    async fn remove(&self, which: &InstanceRef) -> thv_runtime::Result<()> {
        self.life
            .effect("remove instance", &which.name, self.inner.remove(which))
            .await
    }

    async fn attach(&self, which: &InstanceRef) -> thv_runtime::Result<Stdio> {
        self.life
            .effect("attach instance", &which.name, self.inner.attach(which))
            .await
    }

    async fn inspect(&self, name: &WorkloadName) -> thv_runtime::Result<Option<Instance>> {
        self.life.read(self.inner.inspect(name)).await
    }

    async fn list(&self) -> thv_runtime::Result<Vec<Instance>> {
        self.life.read(self.inner.list()).await
    }

    async fn logs(
        &self,
        which: &InstanceRef,
        opts: LogOptions,
    ) -> thv_runtime::Result<BoxStream<'static, thv_runtime::Result<LogLine>>> {
        self.life.read(self.inner.logs(which, opts)).await
    }

    async fn events(
        &self,
        filter: EventFilter,
    ) -> thv_runtime::Result<BoxStream<'static, thv_runtime::Result<RuntimeEvent>>> {
        self.life.read(self.inner.events(filter)).await
    }
}
