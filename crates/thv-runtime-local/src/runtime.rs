//! The runtime itself: one method for each verb.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use rustix::pipe::{PipeFlags, pipe_with};
use thv_core::{TransportType, WorkloadName};
use thv_process::{DetachedSpec, ProcessError, ProcessHandle};
use thv_runtime::{
    Capabilities, DeployOutcome, DeploySpec, Deployment, Endpoint, Error, EventFilter, EventKind, Expect,
    Images, Instance, InstanceId, InstanceRef, InstanceState, LogLine, LogOptions, LogSource, NetworkMode,
    PortBinding, Result, Runtime, RuntimeEvent, RuntimeKind, Stdio, StopOptions, log_file,
};
use tokio::net::unix::pipe;
use tokio::sync::broadcast::error::RecvError;

use crate::error::{self, KIND, conflict, failed, invalid, not_found, unsupported};
use crate::events::Events;
use crate::owned::{Child, Fate, Owned, collect};
use crate::program::{Program, TOKEN, missing};
use crate::record::{Locked, Record, Records, gone, private_dir};
use crate::{LocalConfig, tree};

/// What an orphan, or an instance that is replaced, may take to end.
const REPLACE_GRACE: Duration = Duration::from_secs(5);

/// Runs instances as processes of this user; see the [crate's page](crate).
///
/// A clone shares the children: it can attach to what the other deployed. Another value over the same folders, in
/// this process or another, can do everything else.
#[derive(Debug, Clone)]
pub struct LocalRuntime {
    kind: RuntimeKind,
    config: Arc<LocalConfig>,
    records: Records,
    owned: Arc<Owned>,
    events: Arc<Events>,
}

impl LocalRuntime {
    /// A runtime over the folders of `config`. Nothing is created before something is deployed.
    pub fn new(config: LocalConfig) -> Self {
        Self {
            kind: RuntimeKind::new(KIND),
            records: Records::new(config.instances()),
            config: Arc::new(config),
            owned: Arc::default(),
            events: Arc::new(Events::new()),
        }
    }

    /// The record that is meant, or the conflict.
    fn meant(which: &InstanceRef, record: Option<Record>) -> Result<Option<Record>> {
        match (record, &which.id) {
            (Some(record), Some(id)) if record.id != *id => Err(conflict(&which.name, Some(record.id))),
            (record, _) => Ok(record),
        }
    }

    fn there(&self, which: &InstanceRef) -> Result<Record> {
        Self::meant(which, self.records.read(&which.name)?)?.ok_or_else(|| not_found(&which.name))
    }

    /// Closes what we hold of its standard input, then ends its whole tree.
    async fn end(&self, record: &Record, grace: Duration) -> Result<()> {
        self.owned.close_streams(&record.id);
        tree::end(&*self.config.processes, record, grace).await?;
        // The event of its end comes before anything that its caller does next.
        self.owned.collected(&record.id).await;
        Ok(())
    }

    /// Forgets an instance that has ended: record last, so that what a crash leaves can be removed again.
    fn forget(&self, locked: &Locked, record: &Record) -> Result<()> {
        let name = record.workload.as_str();
        for (path, result) in [
            (self.config.home(name), fs::remove_dir_all(self.config.home(name))),
            (self.config.log(name), fs::remove_file(self.config.log(name))),
        ] {
            gone(result).map_err(|e| error::file("remove", &path, e))?;
        }
        locked.delete()?;
        self.owned.lock().remove(&record.id);
        self.events.send(&record.workload, &record.id, EventKind::Removed);
        Ok(())
    }

    fn check(&self, spec: &DeploySpec) -> Result<()> {
        self.capabilities().check(&self.kind, spec)?;
        match &spec.network {
            NetworkMode::Bridge | NetworkMode::Host => {}
            _ => return Err(unsupported("a network mode other than the host's")),
        }
        match (spec.transport, &spec.target) {
            (TransportType::Stdio, _) => Ok(()),
            (_, Some(target)) if target.container_port != 0 => Ok(()),
            (transport, _) => Err(invalid(
                "target",
                format!("a {} server needs a port to listen on", transport.as_str()),
            )),
        }
    }

    /// Whether it runs, speaks HTTP and was started with all of `spec`.
    fn identical(&self, record: &Record, spec: &DeploySpec, program: &Program) -> bool {
        let Some(process) = &record.process else {
            return false;
        };
        spec.transport != TransportType::Stdio
            && self.state(record).0 == InstanceState::Running
            && record.transport == spec.transport
            && record.image == spec.image
            && record.command == spec.command
            && record.labels == spec.labels
            && record.instance_name == spec.instance_name
            && record.port == port(spec)
            && record.env_names.iter().eq(program.env.keys())
            && has_environment(process.pid, program)
    }

    fn new_record(&self, spec: &DeploySpec, program: &Program) -> Result<Record> {
        Ok(Record {
            version: Record::VERSION,
            workload: spec.name.clone(),
            instance_name: spec.instance_name.clone(),
            id: InstanceId::new(random()?),
            token: random()?,
            image: spec.image.clone(),
            command: spec.command.clone(),
            env_names: program.env.keys().cloned().collect(),
            labels: spec.labels.clone(),
            transport: spec.transport,
            port: port(spec),
            log: self.config.log(spec.name.as_str()),
            created: Timestamp::now(),
            boot_id: self.config.processes.boot_id(),
            process: None,
            exit_code: None,
        })
    }

    /// Starts the program of a record that is written, and completes the record. Nothing here waits, so a dropped
    /// deployment is never cut in between.
    fn start(&self, locked: &Locked, record: &mut Record, program: Program) -> Result<()> {
        let home = self.config.home(record.workload.as_str());
        private_dir(&home.join("tmp"))?;
        private_dir(&self.config.dirs.server_logs())?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&record.log);
        let log = log.map_err(|e| error::file("open", &record.log, e))?;
        let mut child = DetachedSpec::new(&program.path).args(&program.args).cwd(home);
        child = child.env(&program.env).env([(TOKEN, &record.token)]);
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed("make a pipe", e));
        let mut streams = None;
        if record.transport == TransportType::Stdio {
            let ((stdin, ours_in), (ours_out, stdout)) = (pipe()?, pipe()?);
            let register = |e| failed("watch a pipe", e);
            streams = Some((
                pipe::Sender::from_owned_fd(ours_in).map_err(register)?,
                pipe::Receiver::from_owned_fd(ours_out).map_err(register)?,
            ));
            child = child.stdin(stdin).stdout(stdout);
        } else {
            child = child.stdout(log.try_clone().map_err(|e| error::file("open", &record.log, e))?);
        }
        let handle = self.config.processes.spawn_detached(child.stderr(log));
        let handle = handle.map_err(|e| not_started(record, &program, e))?;
        record.process = Some(handle.identity().clone());
        self.own(handle, record, streams);
        // Not confirmed, it would still be found by its token.
        locked.write(record)
    }

    fn own(
        &self,
        handle: Box<dyn ProcessHandle>,
        record: &Record,
        streams: Option<(pipe::Sender, pipe::Receiver)>,
    ) {
        self.events.send(&record.workload, &record.id, EventKind::Created);
        self.events.send(&record.workload, &record.id, EventKind::Started);
        let exit = collect(handle, record.clone(), self.records.clone(), self.events.clone());
        self.owned
            .lock()
            .insert(record.id.clone(), Child { streams, exit });
    }

    /// What it is doing, in our words and the runtime's, and its exit code.
    fn state(&self, record: &Record) -> (InstanceState, String, Option<i64>) {
        let exited = |code: Option<i64>| {
            let text = code.map_or_else(|| "ended".to_owned(), |code| format!("exited with code {code}"));
            (InstanceState::Stopped, text, code)
        };
        match self.owned.fate(&record.id) {
            Fate::Runs => return (InstanceState::Running, "running".to_owned(), None),
            Fate::Ended(exit) => return exited(crate::owned::code(exit)),
            Fate::NotOurs => {}
        }
        if record.boot_id != self.config.processes.boot_id() {
            return (
                InstanceState::Stopped,
                "machine restarted".to_owned(),
                record.exit_code,
            );
        }
        let alive = match &record.process {
            Some(process) => self
                .config
                .processes
                .facts(process.pid)
                .map(|facts| facts.is_some_and(|facts| facts.identity == *process && facts.is_alive())),
            None => tree::members(&*self.config.processes, record)
                .map(|members| !members.is_empty())
                .map_err(|_| ProcessError::Unsupported {
                    os: std::env::consts::OS,
                }),
        };
        match alive {
            Ok(true) if record.process.is_none() => {
                (InstanceState::Starting, "started, not confirmed".to_owned(), None)
            }
            Ok(true) => (InstanceState::Running, "running".to_owned(), None),
            Ok(false) => exited(record.exit_code),
            Err(error) => (InstanceState::Unknown, error.to_string(), None),
        }
    }

    fn view(&self, record: Record) -> Instance {
        let (state, status_text, exit_code) = self.state(&record);
        Instance {
            workload: record.workload.to_string(),
            id: record.id,
            instance_name: record.instance_name,
            runtime: self.kind.clone(),
            image: record.image,
            image_id: None,
            state,
            status_text,
            exit_code,
            created: Some(record.created),
            started: record.process.map(|_| record.created),
            labels: record.labels,
            ports: record
                .port
                .map(|port| PortBinding {
                    container_port: port,
                    host_ip: Some(Ipv4Addr::LOCALHOST.into()),
                    host_port: port,
                })
                .into_iter()
                .collect(),
            network_isolated: false,
        }
    }

    fn deployment(&self, record: Record, outcome: DeployOutcome) -> Deployment {
        let endpoint = record.port.map_or(Endpoint::Stdio, |port| {
            Endpoint::Http(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
        });
        Deployment {
            instance: self.view(record),
            outcome,
            endpoint,
        }
    }

    fn port_is_free(&self, port: u16) -> Result<()> {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let holder = self.config.processes.port_holder(port).ok().flatten();
                let detail = holder.map_or_else(|| error.to_string(), |holder| format!("{holder} has it"));
                Err(Error::PortTaken { port, detail })
            }
            Err(error) => Err(Error::PortTaken {
                port,
                detail: error.to_string(),
            }),
        }
    }
}

#[async_trait]
impl Runtime for LocalRuntime {
    fn kind(&self) -> &RuntimeKind {
        &self.kind
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = Capabilities::default();
        can.attach = true;
        can.http = true;
        can.events = true;
        can.logs = true;
        can
    }

    fn check_name(&self, _name: &WorkloadName) -> Result<()> {
        // A workload's name is safe as a file name, and that is all it is used for.
        Ok(())
    }

    fn images(&self) -> Option<Arc<dyn Images>> {
        None
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn deploy(&self, spec: &DeploySpec) -> Result<Deployment> {
        self.check(spec)?;
        let locked = self.records.lock(&spec.name).await?;
        let old = locked.read()?;
        let found = old.as_ref().map(|record| record.id.clone());
        let expected = match &spec.expect {
            Expect::Absent => None,
            Expect::Instance(id) => Some(id.clone()),
        };
        if found != expected {
            return Err(conflict(&spec.name, found));
        }
        // From here on an error leaves nothing of this call, the lock's file included.
        let program = match Program::of(&self.config, spec) {
            Ok(program) => program,
            Err(error) if old.is_none() => return locked.discard().and(Err(error)),
            Err(error) => return Err(error),
        };
        let outcome = match old {
            None => DeployOutcome::Created,
            Some(old) if self.identical(&old, spec, &program) => {
                return Ok(self.deployment(old, DeployOutcome::AlreadyRunning));
            }
            Some(old) => {
                self.end(&old, REPLACE_GRACE).await?;
                self.forget(&locked, &old)?;
                DeployOutcome::Replaced
            }
        };
        let mut record = self.new_record(spec, &program)?;
        let started = record.port.map_or(Ok(()), |port| self.port_is_free(port));
        let started = started.and_then(|()| locked.write(&record));
        let started = started.and_then(|()| self.start(&locked, &mut record, program));
        if let Err(error) = started {
            self.end(&record, Duration::ZERO).await?;
            self.forget(&locked, &record)?;
            return locked.discard().and(Err(error));
        }
        Ok(self.deployment(record, outcome))
    }

    async fn stop(&self, which: &InstanceRef, opts: StopOptions) -> Result<()> {
        if Self::meant(which, self.records.read(&which.name)?)?.is_none() {
            return Ok(());
        }
        let locked = self.records.lock(&which.name).await?;
        match Self::meant(which, locked.read()?)? {
            Some(record) => self.end(&record, opts.grace).await,
            None => locked.discard(),
        }
    }

    async fn remove(&self, which: &InstanceRef) -> Result<()> {
        // A deployment that was dropped may still be before its record: its lock is asked, not only the record.
        let locked = self.records.lock(&which.name).await?;
        let read = locked.read();
        if read.is_err() && which.id.is_none() {
            // Nobody can tell what it was any more; a removal is how to be rid of it.
            locked.delete()?;
        } else if let Some(record) = Self::meant(which, read?)? {
            self.end(&record, Duration::ZERO).await?;
            self.forget(&locked, &record)?;
        }
        locked.discard()
    }

    async fn attach(&self, which: &InstanceRef) -> Result<Stdio> {
        let record = self.there(which)?;
        if record.transport != TransportType::Stdio {
            return Err(unsupported("attaching to a server that does not speak stdio"));
        }
        let (state, detail, _) = self.state(&record);
        if state != InstanceState::Running {
            return Err(Error::NotRunning {
                name: which.name.clone(),
                detail,
            });
        }
        let mut owned = self.owned.lock();
        let child = owned.get_mut(&record.id).ok_or_else(|| {
            unsupported("attaching to a server that another process started: stop it and start it again")
        })?;
        let (stdin, stdout) = child.streams.take().ok_or_else(|| Error::AlreadyAttached {
            name: which.name.clone(),
            runtime: self.kind.clone(),
        })?;
        Ok(Stdio {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: None,
        })
    }

    async fn inspect(&self, name: &WorkloadName) -> Result<Option<Instance>> {
        Ok(self.records.read(name)?.map(|record| self.view(record)))
    }

    async fn list(&self) -> Result<Vec<Instance>> {
        Ok(self
            .records
            .all()?
            .into_iter()
            .map(|record| self.view(record))
            .collect())
    }

    async fn logs(
        &self,
        which: &InstanceRef,
        opts: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        let record = self.there(which)?;
        let lines = log_file(&record.log, opts.tail, opts.follow).await;
        let lines = match lines {
            Ok(lines) => lines,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => stream::empty().boxed(),
            Err(error) => return Err(error::file("read", &record.log, error)),
        };
        let path = record.log;
        let line = move |line: std::io::Result<_>| match line {
            Ok(line) => Ok(LogLine {
                source: LogSource::Stderr,
                time: None,
                line,
            }),
            Err(error) => Err(error::file("read", &path, error)),
        };
        Ok(lines.map(line).boxed())
    }

    /// Tells everything about the instances of this value and its clones, and the end of those that other processes
    /// deployed before the subscription.
    async fn events(&self, filter: EventFilter) -> Result<BoxStream<'static, Result<RuntimeEvent>>> {
        let receiver = self.events.subscribe();
        let mut others = Vec::new();
        for record in self.records.all()? {
            let ours = self.owned.fate(&record.id) != Fate::NotOurs;
            if let Some(process) = record
                .process
                .as_ref()
                .filter(|_| !ours && filter.accepts(record.workload.as_str()))
                && let Some(handle) = self
                    .config
                    .processes
                    .open(process)
                    .map_err(|e| failed("look at a process", e))?
            {
                others.push(
                    stream::once(async move {
                        let code = handle.exited().await.ok().and_then(crate::owned::code);
                        let kind = EventKind::Exited { code };
                        let workload = record.workload.to_string();
                        Ok(RuntimeEvent {
                            workload,
                            instance: Some(record.id),
                            kind,
                        })
                    })
                    .boxed(),
                );
            }
        }
        let ours = stream::unfold((receiver, filter), |(mut receiver, filter)| async move {
            loop {
                let event = match receiver.recv().await {
                    Ok(event) if filter.accepts(&event.workload) => event,
                    Ok(_) => continue,
                    Err(RecvError::Lagged(_)) => RuntimeEvent::of_stream(EventKind::Gap),
                    Err(RecvError::Closed) => return None,
                };
                return Some((Ok(event), (receiver, filter)));
            }
        });
        let synced = stream::iter([Ok(RuntimeEvent::of_stream(EventKind::Synced))]);
        others.push(ours.boxed());
        Ok(synced.chain(stream::select_all(others)).boxed())
    }
}

fn port(spec: &DeploySpec) -> Option<u16> {
    let target = spec
        .target
        .as_ref()
        .filter(|_| spec.transport != TransportType::Stdio);
    target.map(|target| target.container_port)
}

/// 128 random bits.
fn random() -> Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|e| failed("get random numbers", e))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Whether a process of ours was started with these values: the kernel keeps them, so we need not.
fn has_environment(pid: u32, program: &Program) -> bool {
    let Ok(text) = fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    let has: std::collections::HashSet<&[u8]> = text.split(|byte| *byte == 0).collect();
    program
        .env
        .iter()
        .all(|(name, value)| has.contains(format!("{name}={value}").as_bytes()))
}

fn not_started(record: &Record, program: &Program, error: ProcessError) -> Error {
    let path = program.path.display();
    match error {
        ProcessError::NotFound { .. } => missing(
            &record.image,
            format!("{path}, or the interpreter that it names, does not exist"),
        ),
        ProcessError::Denied { .. } => Error::Denied {
            runtime: KIND.into(),
            detail: format!("{path} may not be executed by this user"),
        },
        ProcessError::Unavailable { source, .. } => Error::StartFailed {
            name: record.workload.clone(),
            detail: format!("{path} could not be executed: {source}"),
            last_lines: Vec::new(),
        },
        other => failed(&format!("start {path}"), other),
    }
}
