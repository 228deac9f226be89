//! The processes of a machine as one of them sees and signals them, with the faults of its life.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use thv_process::{
    DetachedSpec, Exit, MemoryProcess, MemoryProcesses, PortHolder, ProcessError, ProcessFacts,
    ProcessHandle, ProcessIdentity, Processes, Result, Signal, Snapshot,
};
use tokio_util::sync::CancellationToken;

use crate::mortal::Life;

/// All processes, and how they hear of signals.
#[derive(Debug, Clone)]
pub(crate) struct AllProcesses {
    table: MemoryProcesses,
    lives: Arc<Mutex<Lives>>,
}

#[derive(Debug, Default)]
struct Lives {
    hear: BTreeMap<u32, (Life, Option<CancellationToken>)>,
    wronged: Vec<ProcessIdentity>,
}

impl AllProcesses {
    pub(crate) fn new(table: MemoryProcesses) -> Self {
        Self {
            table,
            lives: Arc::default(),
        }
    }

    /// An application, which nobody may signal.
    pub(crate) fn application(&self, life: &Life) -> ProcessIdentity {
        let identity = self.table.add(MemoryProcess::new("/usr/bin/app").stubborn());
        let hears = (life.clone(), None);
        self.lives.lock().unwrap().hear.insert(identity.pid, hears);
        identity
    }

    /// A spawned process begins: `term` is its SIGTERM.
    pub(crate) fn spawned(&self, pid: u32, life: &Life, term: &CancellationToken) {
        self.table.make_stubborn(pid);
        let hears = (life.clone(), Some(term.clone()));
        self.lives.lock().unwrap().hear.insert(pid, hears);
    }

    pub(crate) fn exit(&self, pid: u32) {
        self.lives.lock().unwrap().hear.remove(&pid);
        self.table.exit(pid, Exit::Code(0));
    }

    /// All processes are killed at once.
    pub(crate) fn end_all(&self) {
        let all = std::mem::take(&mut self.lives.lock().unwrap().hear);
        for (pid, (life, _)) in all {
            life.end();
            self.table.exit(pid, Exit::Signal(9));
        }
    }

    /// From here on nothing goes wrong.
    pub(crate) fn disarm_all(&self) {
        for (life, _) in self.lives.lock().unwrap().hear.values() {
            life.arm(None);
            life.slow_down(None);
        }
    }

    /// Applications that were signalled.
    pub(crate) fn wronged(&self) -> Vec<ProcessIdentity> {
        self.lives.lock().unwrap().wronged.clone()
    }

    pub(crate) fn seen_by(&self, own: ProcessIdentity, life: &Life) -> Seen {
        Seen {
            all: self.clone(),
            own,
            life: life.clone(),
        }
    }

    fn signalled(&self, identity: &ProcessIdentity, signal: Signal) {
        let mut lives = self.lives.lock().unwrap();
        match lives.hear.get(&identity.pid) {
            Some((_, None)) => lives.wronged.push(identity.clone()),
            Some((life, Some(_))) if signal == Signal::Kill => life.end(),
            Some((_, Some(term))) => term.cancel(),
            None => {}
        }
    }
}

/// The processes as one of them sees them.
#[derive(Debug)]
pub(crate) struct Seen {
    all: AllProcesses,
    own: ProcessIdentity,
    life: Life,
}

fn refusal() -> ProcessError {
    ProcessError::Unavailable {
        what: "do it".into(),
        source: std::io::Error::other("injected"),
    }
}

impl Processes for Seen {
    fn boot_id(&self) -> String {
        self.all.table.boot_id()
    }

    fn uid(&self) -> u32 {
        self.all.table.uid()
    }

    fn current(&self) -> ProcessIdentity {
        self.own.clone()
    }

    fn facts(&self, pid: u32) -> Result<Option<ProcessFacts>> {
        self.all.table.facts(pid)
    }

    fn open(&self, identity: &ProcessIdentity) -> Result<Option<Box<dyn ProcessHandle>>> {
        let handle = self.all.table.open(identity)?;
        Ok(handle.map(|inner| self.handle(inner)))
    }

    fn port_holder(&self, port: u16) -> Result<Option<PortHolder>> {
        self.all.table.port_holder(port)
    }

    fn spawn_detached(&self, spec: DetachedSpec) -> Result<Box<dyn ProcessHandle>> {
        self.life.tell(|| "spawn".into());
        if self.life.point_at_once() {
            return Err(refusal());
        }
        let handle = self.all.table.spawn_detached(spec)?;
        if self.life.point_at_once() {
            // Its parent is gone, or knows nothing of it: it ends before it does anything.
            self.all.exit(handle.identity().pid);
            return Err(refusal());
        }
        Ok(self.handle(handle))
    }

    fn find_by_env(&self, name: &str, value: &str) -> Result<Vec<ProcessIdentity>> {
        self.all.table.find_by_env(name, value)
    }

    fn snapshot(&self) -> Result<Snapshot> {
        self.all.table.snapshot()
    }
}

impl Seen {
    fn handle(&self, inner: Box<dyn ProcessHandle>) -> Box<dyn ProcessHandle> {
        Box::new(Handle {
            inner,
            all: self.all.clone(),
            life: self.life.clone(),
        })
    }
}

#[derive(Debug)]
struct Handle {
    inner: Box<dyn ProcessHandle>,
    all: AllProcesses,
    life: Life,
}

#[async_trait]
impl ProcessHandle for Handle {
    fn identity(&self) -> &ProcessIdentity {
        self.inner.identity()
    }

    fn signal(&self, signal: Signal) -> Result<bool> {
        let pid = self.inner.identity().pid;
        self.life.tell(|| format!("signal {pid} {signal:?}"));
        if self.life.point_at_once() {
            return Err(refusal());
        }
        let reached = self.inner.signal(signal)?;
        if reached {
            self.all.signalled(self.inner.identity(), signal);
        }
        if self.life.point_at_once() {
            return Err(refusal());
        }
        Ok(reached)
    }

    async fn exited(&self) -> Result<Exit> {
        self.inner.exited().await
    }
}
