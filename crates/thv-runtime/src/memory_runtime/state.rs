//! The instances, shared by all values of one memory runtime.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use futures_util::{FutureExt, StreamExt};
use thv_core::{Clock, TransportType, WorkloadName};
use tokio::io::{BufReader, DuplexStream};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::faults::Faults;
use super::server::{MemoryServer, Script};
use crate::{
    DeployOutcome, DeploySpec, Error, EventKind, Expect, Instance, InstanceId, InstanceRef, InstanceState,
    LogLine, LogOptions, LogSource, Result, RuntimeEvent, RuntimeKind,
};

const PIPE: usize = 64 << 10;
const MAX_LOG_LINES: usize = 10_000;

pub(super) struct Shared {
    pub(super) faults: Faults,
    slots: Mutex<BTreeMap<WorkloadName, Slot>>,
    events: broadcast::Sender<RuntimeEvent>,
    next_id: AtomicU64,
}

struct Slot {
    instance: Instance,
    spec: DeploySpec,
    logs: Arc<LogBuffer>,
    running: Option<Running>,
}

/// A server that runs. Dropping it kills it.
struct Running {
    term: CancellationToken,
    kill: CancellationToken,
    _kill_on_drop: DropGuard,
    /// The code of [`Shared::crash`], which ends the server with it.
    crash: watch::Sender<Option<i64>>,
    paused: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
    /// `None` for an HTTP server, and while attached.
    streams: Option<(DuplexStream, DuplexStream)>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            faults: Faults::default(),
            slots: Mutex::default(),
            events: broadcast::channel(1024).0,
            next_id: AtomicU64::new(1),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkloadName, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(&self, event: RuntimeEvent) {
        // Nobody listening is fine.
        let _listeners = self.events.send(event);
    }

    fn tell(&self, name: &WorkloadName, id: &InstanceId, kind: EventKind) {
        self.send(RuntimeEvent::new(name.as_str(), Some(id.clone()), kind));
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }

    pub(super) fn deploy(
        shared: &Arc<Self>,
        kind: &RuntimeKind,
        spec: &DeploySpec,
        script: &Script,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Instance, DeployOutcome)> {
        let mut slots = shared.lock();
        let found = slots.get(&spec.name).map(|slot| slot.instance.id.clone());
        let expected = match &spec.expect {
            Expect::Absent => None,
            Expect::Instance(id) => Some(id),
        };
        if found.as_ref() != expected {
            return Err(Error::Conflict {
                name: spec.name.clone(),
                runtime: kind.clone(),
                found,
            });
        }
        let outcome = match slots.get(&spec.name) {
            None => DeployOutcome::Created,
            Some(slot) if !identical(&slot.spec, spec) => DeployOutcome::Replaced,
            Some(slot) if slot.running.is_some() => {
                return Ok((slot.instance.clone(), DeployOutcome::AlreadyRunning));
            }
            Some(_) => DeployOutcome::Started,
        };
        if outcome == DeployOutcome::Replaced
            && let Some(old) = slots.remove(&spec.name)
        {
            shared.forget(&spec.name, old);
        }
        let slot = slots.entry(spec.name.clone()).or_insert_with(|| {
            let id = InstanceId::new(format!(
                "memory-{}",
                shared.next_id.fetch_add(1, Ordering::Relaxed)
            ));
            shared.tell(&spec.name, &id, EventKind::Created);
            Slot {
                instance: new_instance(kind, spec, id, &**clock),
                spec: spec.clone(),
                logs: Arc::new(LogBuffer::new(clock.clone())),
                running: None,
            }
        });
        slot.instance.state = InstanceState::Running;
        "running".clone_into(&mut slot.instance.status_text);
        slot.instance.exit_code = None;
        slot.instance.started = Some(clock.now().timestamp());
        slot.running = Some(start(Arc::downgrade(shared), slot, script));
        shared.tell(&spec.name, &slot.instance.id, EventKind::Started);
        Ok((slot.instance.clone(), outcome))
    }

    /// Whether something is there; another instance than the meant one is a conflict.
    pub(super) fn check(&self, kind: &RuntimeKind, which: &InstanceRef) -> Result<bool> {
        check(self.lock().get(&which.name), kind, which)
    }

    /// Asks the server to end.
    pub(super) fn terminate(&self, kind: &RuntimeKind, which: &InstanceRef) -> Result<Option<Ending>> {
        let mut slots = self.lock();
        let slot = slots.get_mut(&which.name);
        check(slot.as_deref(), kind, which)?;
        Ok(slot.and_then(|slot| slot.running.as_mut()).map(|running| {
            running.streams = None;
            running.term.cancel();
            Ending {
                kill: running.kill.clone(),
                ended: running.ended.clone(),
            }
        }))
    }

    pub(super) fn crash(&self, name: &WorkloadName, code: i64) -> bool {
        let slots = self.lock();
        let running = slots.get(name).and_then(|slot| slot.running.as_ref());
        running.is_some_and(|running| running.crash.send(Some(code)).is_ok())
    }

    pub(super) fn remove(&self, name: &WorkloadName) {
        let mut slots = self.lock();
        if let Some(slot) = slots.remove(name) {
            self.forget(name, slot);
        }
    }

    fn forget(&self, name: &WorkloadName, slot: Slot) {
        if slot.running.is_some() {
            self.tell(name, &slot.instance.id, EventKind::Exited { code: Some(137) });
        }
        slot.logs.close();
        self.tell(name, &slot.instance.id, EventKind::Removed);
    }

    pub(super) fn take_streams(
        &self,
        kind: &RuntimeKind,
        which: &InstanceRef,
    ) -> Result<(DuplexStream, DuplexStream)> {
        let mut slots = self.lock();
        let slot = slots.get_mut(&which.name);
        check(slot.as_deref(), kind, which)?;
        let name = which.name.clone();
        let Some(slot) = slot else {
            return Err(Error::NotFound {
                name,
                runtime: kind.clone(),
            });
        };
        if slot.spec.transport != TransportType::Stdio {
            let what = "attaching to a server that does not speak stdio".to_owned();
            return Err(Error::Unsupported {
                runtime: kind.clone(),
                what,
            });
        }
        let Some(running) = &mut slot.running else {
            return Err(Error::NotRunning {
                name,
                detail: slot.instance.status_text.clone(),
            });
        };
        running.streams.take().ok_or(Error::AlreadyAttached {
            name,
            runtime: kind.clone(),
        })
    }

    pub(super) fn instance(&self, name: &WorkloadName) -> Option<Instance> {
        self.lock().get(name).map(|slot| slot.instance.clone())
    }

    pub(super) fn instances(&self) -> Vec<Instance> {
        self.lock().values().map(|slot| slot.instance.clone()).collect()
    }

    pub(super) fn logs(&self, kind: &RuntimeKind, which: &InstanceRef) -> Result<Arc<LogBuffer>> {
        let slots = self.lock();
        let slot = slots.get(&which.name);
        check(slot, kind, which)?;
        slot.map(|slot| slot.logs.clone()).ok_or_else(|| Error::NotFound {
            name: which.name.clone(),
            runtime: kind.clone(),
        })
    }

    pub(super) fn tell_ending(&self, name: &WorkloadName) -> bool {
        let slots = self.lock();
        let running = slots.get(name).filter(|slot| slot.running.is_some());
        if let Some(slot) = running {
            self.tell(name, &slot.instance.id, EventKind::Ending);
        }
        running.is_some()
    }

    pub(super) fn pause(&self, name: &WorkloadName, paused: bool) -> bool {
        let mut slots = self.lock();
        let Some(Slot {
            instance,
            running: Some(running),
            ..
        }) = slots.get_mut(name)
        else {
            return false;
        };
        if running.paused.send_replace(paused) == paused {
            return false;
        }
        let (state, words, kind) = if paused {
            (InstanceState::Paused, "paused by the test", EventKind::Paused)
        } else {
            (InstanceState::Running, "running", EventKind::Resumed)
        };
        instance.state = state;
        words.clone_into(&mut instance.status_text);
        self.tell(name, &instance.id, kind);
        true
    }

    fn exited(&self, name: &WorkloadName, id: &InstanceId, code: i64) {
        let mut slots = self.lock();
        if let Some(slot) = slots.get_mut(name).filter(|slot| slot.instance.id == *id) {
            slot.running = None;
            slot.instance.state = InstanceState::Stopped;
            slot.instance.status_text = format!("exited with code {code}");
            slot.instance.exit_code = Some(code);
            self.tell(name, id, EventKind::Exited { code: Some(code) });
        }
    }
}

/// A server that was asked to end.
pub(super) struct Ending {
    kill: CancellationToken,
    ended: watch::Receiver<bool>,
}

impl Ending {
    pub(super) async fn ended(&mut self) {
        // The sender gone means the same.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }

    pub(super) fn kill(&self) {
        self.kill.cancel();
    }
}

fn check(slot: Option<&Slot>, kind: &RuntimeKind, which: &InstanceRef) -> Result<bool> {
    let found = slot.map(|slot| &slot.instance.id);
    match (found, &which.id) {
        (Some(found), Some(id)) if found != id => Err(Error::Conflict {
            name: which.name.clone(),
            runtime: kind.clone(),
            found: Some(found.clone()),
        }),
        (found, _) => Ok(found.is_some()),
    }
}

fn identical(old: &DeploySpec, new: &DeploySpec) -> bool {
    DeploySpec {
        expect: Expect::Absent,
        ..old.clone()
    } == DeploySpec {
        expect: Expect::Absent,
        ..new.clone()
    }
}

fn new_instance(kind: &RuntimeKind, spec: &DeploySpec, id: InstanceId, clock: &dyn Clock) -> Instance {
    Instance {
        instance_name: spec.instance_name.clone(),
        status_text: "created".to_owned(),
        created: Some(clock.now().timestamp()),
        labels: spec.labels.clone(),
        ports: spec.target.iter().chain(&spec.publish).cloned().collect(),
        network_isolated: spec.isolate_network,
        ..Instance::new(
            spec.name.as_str(),
            id,
            kind.clone(),
            spec.image.as_str(),
            InstanceState::Starting,
        )
    }
}

fn start(shared: Weak<Shared>, slot: &Slot, script: &Script) -> Running {
    let (stdin, server_stdin) = tokio::io::duplex(PIPE);
    let (stdout, server_stdout) = tokio::io::duplex(PIPE);
    let (term, kill) = (CancellationToken::new(), CancellationToken::new());
    let (crash, mut crashed) = watch::channel(None);
    let (ended_tx, ended) = watch::channel(false);
    let (paused, mut is_paused) = watch::channel(false);
    let server = script.start(MemoryServer {
        name: slot.spec.name.clone(),
        image: slot.spec.image.clone(),
        command: slot.spec.command.clone(),
        env: slot.spec.env.clone(),
        stdin: BufReader::new(server_stdin),
        stdout: server_stdout,
        term: term.clone(),
        logs: slot.logs.clone(),
    });
    let (name, id, killed) = (slot.spec.name.clone(), slot.instance.id.clone(), kill.clone());
    let server = async move {
        let mut server = std::pin::pin!(server);
        loop {
            // `Running` gone kills it anyhow.
            let _ = is_paused.wait_for(|paused| !paused).await;
            tokio::select! {
                biased;
                Ok(_) = is_paused.wait_for(|paused| *paused) => {}
                code = &mut server => return code,
            }
        }
    };
    // Ends with the server, which `Running` ends when it is dropped.
    tokio::spawn(async move {
        let code = tokio::select! {
            biased;
            () = killed.cancelled() => 137,
            Ok(code) = crashed.wait_for(Option::is_some) => (*code).unwrap_or(137),
            code = AssertUnwindSafe(server).catch_unwind() => code.unwrap_or(101),
        };
        if let Some(shared) = shared.upgrade() {
            shared.exited(&name, &id, code);
        }
        ended_tx.send_replace(true);
    });
    Running {
        term,
        _kill_on_drop: kill.clone().drop_guard(),
        kill,
        crash,
        paused,
        ended,
        streams: (slot.spec.transport == TransportType::Stdio).then_some((stdin, stdout)),
    }
}

/// What a server wrote to standard error.
#[derive(Debug)]
pub(super) struct LogBuffer {
    lines: Mutex<VecDeque<LogLine>>,
    /// How many lines there were ever; `None` once the instance is gone.
    written: watch::Sender<Option<usize>>,
    clock: Arc<dyn Clock>,
}

impl LogBuffer {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            lines: Mutex::default(),
            written: watch::channel(Some(0)).0,
            clock,
        }
    }

    pub(super) fn push(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == MAX_LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(LogLine {
            source: LogSource::Stderr,
            time: Some(self.clock.now().timestamp()),
            line: Bytes::from(line),
        });
        self.written
            .send_modify(|written| *written = written.map(|n| n + 1));
    }

    fn close(&self) {
        self.written.send_replace(None);
    }

    /// The lines from number `from` on, and the number after them.
    fn since(&self, from: usize) -> (VecDeque<LogLine>, usize) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let end = self.written.borrow().unwrap_or(from);
        let first = end.saturating_sub(lines.len());
        (
            lines.iter().skip(from.saturating_sub(first)).cloned().collect(),
            end,
        )
    }

    pub(super) fn read(self: Arc<Self>, opts: LogOptions) -> impl Stream<Item = LogLine> + Send + 'static {
        let (mut lines, next) = self.since(0);
        if let Some(tail) = opts.tail {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        let first = stream::iter(lines);
        let changes = self.written.subscribe();
        let rest = stream::unfold(
            (self, changes, next),
            move |(buffer, mut changes, next)| async move {
                if !opts.follow {
                    return None;
                }
                changes
                    .wait_for(|written| written.is_none_or(|n| n > next))
                    .await
                    .ok()?
                    .as_ref()?;
                let (lines, next) = buffer.since(next);
                Some((stream::iter(lines), (buffer, changes, next)))
            },
        );
        first.chain(rest.flatten())
    }
}
