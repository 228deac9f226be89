//! The processes of a machine as one of them sees and signals them, with the faults of its life.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use thv_core::WorkloadName;
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
    /// The proxies of the program that shares the files.
    toolhive: BTreeMap<u32, WorkloadName>,
    /// Who was asked to end, also where that did not reach it.
    asked: BTreeSet<u32>,
    wronged: Vec<String>,
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

    /// A proxy of the program that shares the files begins.
    pub(crate) fn toolhive(&self, name: &WorkloadName, life: &Life, term: &CancellationToken) -> u32 {
        let proxy = MemoryProcess::new("/usr/local/bin/thv")
            .args(["start", name.as_str()])
            .env("TOOLHIVE_DETACHED", "1");
        let pid = self.table.add(proxy).pid;
        self.spawned(pid, life, term);
        self.lives.lock().unwrap().toolhive.insert(pid, name.clone());
        pid
    }

    pub(crate) fn toolhive_runs(&self, name: &WorkloadName) -> bool {
        self.lives.lock().unwrap().toolhive.values().any(|of| of == name)
    }

    /// That program asks a proxy to end.
    pub(crate) fn ask_to_end(&self, pid: u32) {
        if let Some((_, Some(term))) = self.lives.lock().unwrap().hear.get(&pid) {
            term.cancel();
        }
    }

    pub(crate) fn exit(&self, pid: u32) {
        let mut lives = self.lives.lock().unwrap();
        lives.hear.remove(&pid);
        lives.toolhive.remove(&pid);
        lives.asked.remove(&pid);
        drop(lives);
        self.table.exit(pid, Exit::Code(0));
    }

    /// All processes are killed at once.
    pub(crate) fn end_all(&self) {
        let mut lives = self.lives.lock().unwrap();
        lives.toolhive.clear();
        let all = std::mem::take(&mut lives.hear);
        drop(lives);
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

    /// Applications that were signalled, and proxies that were killed before anybody asked them to end.
    pub(crate) fn wronged(&self) -> Vec<String> {
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
            Some((_, None)) => lives
                .wronged
                .push(format!("application {identity:?} was signalled")),
            Some((life, Some(_))) if signal == Signal::Kill => {
                life.end();
                if !lives.asked.contains(&identity.pid) {
                    lives.wronged.push(format!("{identity:?} was killed unasked"));
                }
            }
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
        if signal == Signal::Term {
            self.all.lives.lock().unwrap().asked.insert(pid);
        }
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
