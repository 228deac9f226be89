//! Processes that exist in memory only, for tests and simulations.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::processes::{PortHolder, ProcessHandle, Processes};
use crate::{
    Contained, Containment, DetachedSpec, Exit, ProcessFacts, ProcessIdentity, Result, Signal, Snapshot,
    SnapshotEntry,
};

/// The user that all processes belong to unless said otherwise.
const UID: u32 = 1000;

/// SIGKILL's number.
const SIGKILL: i32 = 9;

/// A simulated machine: processes are entries of a table, time is a counter, and a test can end them, give their
/// pids to others, occupy ports and restart the machine. Clones share one machine.
///
/// A spawned process runs nothing: it stays until it is signalled or [`exit`](Self::exit) ends it. A contained one is
/// its own keeper: its descendants end with it. What its program
/// would do is up to [`on_spawn`](Self::on_spawn), which also receives the descriptors it was given.
///
/// ```
/// use thv_process::{DetachedSpec, Exit, MemoryProcesses, Processes, Signal};
///
/// let machine = MemoryProcesses::new();
/// let child = machine.spawn_detached(DetachedSpec::new("/usr/bin/thv").args(["start", "fetch"]))?;
/// let recorded = child.identity().clone();
/// machine.exit(recorded.pid, Exit::Code(1));
/// assert!(machine.open(&recorded)?.is_none());
/// # Ok::<(), thv_process::ProcessError>(())
/// ```
#[derive(Clone)]
pub struct MemoryProcesses(Arc<Mutex<Machine>>);

/// A process of [`MemoryProcesses`], to be added with [`MemoryProcesses::add`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemoryProcess {
    /// The pid; `None` gives the next free one. The pid of a dead process may be given again.
    pub pid: Option<u32>,
    /// Its parent.
    pub parent: u32,
    /// Its session; `None` makes it a leader.
    pub session: Option<u32>,
    /// Its user; another user's environment and executable cannot be read.
    pub uid: u32,
    /// Its executable.
    pub exe: PathBuf,
    /// Its command line, the program first.
    pub argv: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Whether nothing but SIGKILL ends it.
    pub stubborn: bool,
}

impl MemoryProcess {
    /// A process of the machine's user, child of pid 1, that ends at the first signal.
    pub fn new(exe: impl Into<PathBuf>) -> Self {
        let exe = exe.into();
        Self {
            pid: None,
            parent: 1,
            session: None,
            uid: UID,
            argv: vec![exe.to_string_lossy().into_owned()],
            exe,
            env: Vec::new(),
            stubborn: false,
        }
    }

    /// Appends arguments.
    pub fn args<T: Into<String>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// Appends a variable to the environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Asks for a certain pid.
    pub fn pid(mut self, pid: u32) -> Self {
        self.pid = Some(pid);
        self
    }

    /// Sets the user.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }

    /// Sets the parent, whose session it shares.
    pub fn child_of(mut self, parent: u32) -> Self {
        self.parent = parent;
        self.session = Some(parent);
        self
    }

    /// Makes it ignore every signal but SIGKILL.
    pub fn stubborn(mut self) -> Self {
        self.stubborn = true;
        self
    }
}

type SpawnHook = Arc<dyn Fn(&ProcessIdentity, DetachedSpec) + Send + Sync>;

struct Machine {
    boot_id: String,
    own: u32,
    next_pid: u32,
    /// Advances with each process, so that no two start at once.
    ticks: u64,
    table: BTreeMap<u32, Entry>,
    /// Port to (user, holder); a holder that is not known is another user's.
    ports: BTreeMap<u16, (u32, Option<u32>)>,
    signals: Vec<(ProcessIdentity, Signal)>,
    on_spawn: Option<SpawnHook>,
}

struct Entry {
    identity: ProcessIdentity,
    process: MemoryProcess,
    session: u32,
    started_at: Timestamp,
    zombie: bool,
    /// Whether its descendants end with it.
    contained: bool,
    exit: watch::Sender<Option<Exit>>,
}

impl Default for MemoryProcesses {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryProcesses {
    /// A machine on which only the asking process runs.
    pub fn new() -> Self {
        let mut machine = Machine {
            boot_id: "boot-1".into(),
            own: 0,
            next_pid: 100,
            ticks: 1,
            table: BTreeMap::new(),
            ports: BTreeMap::new(),
            signals: Vec::new(),
            on_spawn: None,
        };
        machine.own = machine.add(MemoryProcess::new("/usr/bin/embedder")).identity.pid;
        Self(Arc::new(Mutex::new(machine)))
    }

    /// Adds a process that runs. Whoever had its pid has ended.
    pub fn add(&self, process: MemoryProcess) -> ProcessIdentity {
        self.machine().add(process).identity.clone()
    }

    /// Calls `hook` for each spawned process, after it is in the table, with all that it was given.
    ///
    /// The hook runs within [`Processes::spawn_detached`]; let it start a task for what takes time.
    pub fn on_spawn(&self, hook: impl Fn(&ProcessIdentity, DetachedSpec) + Send + Sync + 'static) {
        self.machine().on_spawn = Some(Arc::new(hook));
    }

    /// Ends the process with this pid, if there is one, and frees its ports.
    pub fn exit(&self, pid: u32, exit: Exit) {
        self.machine().exit(pid, exit);
    }

    /// Ends the process with this pid, and leaves it as a zombie that nobody collects.
    pub fn exit_uncollected(&self, pid: u32, exit: Exit) {
        let mut machine = self.machine();
        machine.ports.retain(|_, (_, holder)| *holder != Some(pid));
        if let Some(entry) = machine.table.get_mut(&pid) {
            entry.zombie = true;
            entry.exit.send_replace(Some(exit));
        }
    }

    /// Lets nothing but SIGKILL end `pid` from now on.
    pub fn make_stubborn(&self, pid: u32) {
        if let Some(entry) = self.machine().table.get_mut(&pid) {
            entry.process.stubborn = true;
        }
    }

    /// Lets `pid` listen on `port`, until it ends.
    pub fn listen(&self, port: u16, pid: u32) {
        let mut machine = self.machine();
        let uid = machine.table.get(&pid).map_or(UID, |entry| entry.process.uid);
        machine.ports.insert(port, (uid, Some(pid)));
    }

    /// Lets somebody who cannot be seen listen on `port`.
    pub fn listen_hidden(&self, port: u16, uid: u32) {
        self.machine().ports.insert(port, (uid, None));
    }

    /// Frees `port`.
    pub fn release(&self, port: u16) {
        self.machine().ports.remove(&port);
    }

    /// Restarts the machine: all processes end, the boot id is another one, and the asking process starts anew.
    pub fn reboot(&self, boot_id: impl Into<String>) {
        let mut machine = self.machine();
        let pids: Vec<u32> = machine.table.keys().copied().collect();
        for pid in pids {
            machine.exit(pid, Exit::Signal(SIGKILL));
        }
        machine.ports.clear();
        machine.boot_id = boot_id.into();
        machine.next_pid = 100;
        machine.ticks = 1;
        machine.own = machine.add(MemoryProcess::new("/usr/bin/embedder")).identity.pid;
    }

    /// All signals that reached a living process, in their order.
    pub fn signals(&self) -> Vec<(ProcessIdentity, Signal)> {
        self.machine().signals.clone()
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    fn add(&mut self, process: MemoryProcess) -> &Entry {
        let pid = process.pid.unwrap_or_else(|| {
            while self.table.contains_key(&self.next_pid) {
                self.next_pid += 1;
            }
            self.next_pid
        });
        self.exit(pid, Exit::Unknown);
        self.next_pid = self.next_pid.max(pid.saturating_add(1));
        self.ticks += 1;
        let entry = Entry {
            identity: ProcessIdentity {
                pid,
                start_time: self.ticks,
                boot_id: self.boot_id.clone(),
            },
            session: process.session.unwrap_or(pid),
            process,
            started_at: started_at(self.ticks),
            zombie: false,
            contained: false,
            exit: watch::Sender::new(None),
        };
        self.table.entry(pid).or_insert(entry)
    }

    fn exit(&mut self, pid: u32, exit: Exit) {
        self.ports.retain(|_, (_, holder)| *holder != Some(pid));
        if let Some(entry) = self.table.remove(&pid) {
            entry
                .exit
                .send_if_modified(|known| known.is_none() && known.replace(exit).is_none());
            if entry.contained {
                self.end_children(pid);
            }
        }
    }

    fn end_children(&mut self, parent: u32) {
        let is_child = |entry: &&Entry| entry.process.parent == parent;
        let children: Vec<u32> = self
            .table
            .values()
            .filter(is_child)
            .map(|entry| entry.identity.pid)
            .collect();
        for child in children {
            self.exit(child, Exit::Signal(SIGKILL));
            self.end_children(child);
        }
    }

    fn living(&self, identity: &ProcessIdentity) -> Option<&Entry> {
        self.table
            .get(&identity.pid)
            .filter(|entry| entry.identity == *identity && !entry.zombie)
    }

    fn select(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<ProcessIdentity> {
        let mut found: Vec<&Entry> = self
            .table
            .values()
            .filter(|entry| !entry.zombie && wanted(entry))
            .collect();
        found.sort_by_key(|entry| entry.identity.start_time);
        found.into_iter().map(|entry| entry.identity.clone()).collect()
    }
}

/// The machine was switched on at the epoch, and a tick lasts a second.
fn started_at(ticks: u64) -> Timestamp {
    let since = SignedDuration::from_secs(i64::try_from(ticks).unwrap_or(i64::MAX));
    Timestamp::UNIX_EPOCH
        .saturating_add(since)
        .unwrap_or(Timestamp::MAX)
}

impl Entry {
    fn facts(&self) -> ProcessFacts {
        let readable = self.process.uid == UID;
        let detached = |(name, value): &(String, String)| name == "TOOLHIVE_DETACHED" && value == "1";
        ProcessFacts {
            identity: self.identity.clone(),
            uid: Some(self.process.uid),
            exe: readable.then(|| self.process.exe.clone()),
            argv: if self.zombie {
                Vec::new()
            } else {
                self.process.argv.clone()
            },
            detached_env: (readable && !self.zombie).then(|| self.process.env.iter().any(detached)),
            zombie: self.zombie,
            started_at: self.started_at,
        }
    }
}

impl Processes for MemoryProcesses {
    fn boot_id(&self) -> String {
        self.machine().boot_id.clone()
    }

    fn uid(&self) -> u32 {
        UID
    }

    fn current(&self) -> ProcessIdentity {
        let machine = self.machine();
        let own = machine.own;
        let gone = ProcessIdentity {
            pid: own,
            start_time: 0,
            boot_id: machine.boot_id.clone(),
        };
        machine
            .table
            .get(&own)
            .map_or(gone, |entry| entry.identity.clone())
    }

    fn facts(&self, pid: u32) -> Result<Option<ProcessFacts>> {
        Ok(self.machine().table.get(&pid).map(Entry::facts))
    }

    fn open(&self, identity: &ProcessIdentity) -> Result<Option<Box<dyn ProcessHandle>>> {
        let exit = self
            .machine()
            .living(identity)
            .map(|entry| entry.exit.subscribe());
        Ok(exit.map(|exit| self.handle(identity, exit, false, None)))
    }

    fn port_holder(&self, port: u16) -> Result<Option<PortHolder>> {
        let machine = self.machine();
        Ok(machine.ports.get(&port).map(|(uid, pid)| {
            let entry = pid
                .and_then(|pid| machine.table.get(&pid))
                .filter(|entry| entry.process.uid == UID);
            PortHolder {
                port,
                uid: *uid,
                processes: entry.map(Entry::facts).into_iter().collect(),
            }
        }))
    }

    fn spawn_detached(&self, spec: DetachedSpec) -> Result<Box<dyn ProcessHandle>> {
        spec.check()?;
        let text = |text: &std::ffi::OsString| text.to_string_lossy().into_owned();
        let mut machine = self.machine();
        let mut process = MemoryProcess::new(&spec.program).args(spec.args.iter().map(text));
        process.env = spec
            .env
            .iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect();
        process.parent = machine.own;
        let entry = machine.add(process);
        let (identity, exit) = (entry.identity.clone(), entry.exit.subscribe());
        let contained = spec.contained.then(|| Contained {
            containment: Containment::Subreaper,
            program: Some(identity.clone()),
        });
        if let Some(entry) = machine.table.get_mut(&identity.pid) {
            entry.contained = spec.contained;
        }
        let hook = machine.on_spawn.clone();
        drop(machine);
        if let Some(hook) = hook {
            hook(&identity, spec);
        }
        Ok(self.handle(&identity, exit, true, contained))
    }

    fn find_by_env(&self, name: &str, value: &str) -> Result<Vec<ProcessIdentity>> {
        let has = |entry: &Entry| entry.process.env.iter().any(|(n, v)| n == name && v == value);
        Ok(self
            .machine()
            .select(|entry| entry.process.uid == UID && has(entry)))
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let machine = self.machine();
        let entry = |entry: &Entry| {
            SnapshotEntry::new(
                entry.identity.clone(),
                entry.process.parent,
                entry.session,
                entry.zombie,
            )
        };
        Ok(Snapshot::new(machine.table.values().map(entry).collect()))
    }
}

impl MemoryProcesses {
    fn handle(
        &self,
        identity: &ProcessIdentity,
        exit: watch::Receiver<Option<Exit>>,
        ours: bool,
        contained: Option<Contained>,
    ) -> Box<dyn ProcessHandle> {
        Box::new(MemoryHandle {
            machine: self.clone(),
            identity: identity.clone(),
            exit,
            ours,
            contained,
        })
    }
}

impl fmt::Debug for MemoryProcesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.machine();
        let processes: Vec<_> = machine
            .table
            .values()
            .map(|entry| (&entry.identity, &entry.process.argv))
            .collect();
        f.debug_struct("MemoryProcesses")
            .field("boot_id", &machine.boot_id)
            .field("processes", &processes)
            .finish()
    }
}

struct MemoryHandle {
    machine: MemoryProcesses,
    identity: ProcessIdentity,
    exit: watch::Receiver<Option<Exit>>,
    /// Whether its parent asks, who learns how it ended.
    ours: bool,
    contained: Option<Contained>,
}

#[async_trait]
impl ProcessHandle for MemoryHandle {
    fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    fn contained(&self) -> Option<&Contained> {
        self.contained.as_ref()
    }

    fn signal(&self, signal: Signal) -> Result<bool> {
        let mut machine = self.machine.machine();
        let Some(entry) = machine.living(&self.identity) else {
            return Ok(false);
        };
        let ends = signal == Signal::Kill || !entry.process.stubborn;
        machine.signals.push((self.identity.clone(), signal));
        if ends {
            machine.exit(self.identity.pid, Exit::Signal(number(signal)));
        }
        Ok(true)
    }

    async fn exited(&self) -> Result<Exit> {
        let mut exit = self.exit.clone();
        let known = exit.wait_for(Option::is_some).await.map_or(None, |exit| *exit);
        Ok(known.filter(|_| self.ours).unwrap_or(Exit::Unknown))
    }
}

fn number(signal: Signal) -> i32 {
    match signal {
        Signal::Hup => 1,
        Signal::Int => 2,
        Signal::Kill => SIGKILL,
        Signal::Usr1 => 10,
        Signal::Usr2 => 12,
        Signal::Term => 15,
    }
}

impl fmt::Debug for MemoryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryHandle").field(&self.identity).finish()
    }
}
