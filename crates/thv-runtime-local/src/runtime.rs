//! The runtime itself: one method for each verb.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use rustix::pipe::{PipeFlags, pipe_with};
use thv_core::{TransportType, WorkloadName};
use thv_process::{DetachedSpec, ProcessHandle};
use thv_runtime::{
    Capabilities, DeployOutcome, DeploySpec, Deployment, Endpoint, Error, EventFilter, EventKind, Expect,
    Images, Instance, InstanceId, InstanceRef, InstanceState, LogLine, LogOptions, LogSource, NetworkMode,
    PortBinding, Result, Runtime, RuntimeEvent, RuntimeKind, Stdio, StopOptions, log_file,
};
use tokio::net::unix::pipe;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use crate::LocalConfig;
use crate::error::{self, KIND, conflict, failed, invalid, not_found, unsupported};
use crate::events::Events;
use crate::files::Files;
use crate::log_writer::LogWriter;
use crate::owned::{Child, Fate, Owned, collect};
use crate::program::{Program, TOKEN, has_environment, not_started, port};
use crate::record::{Found, Locked, Record, Records, private_dir};
use crate::tree::{self, Roots};

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

    /// What is meant, or the conflict.
    fn meant(which: &InstanceRef, found: Found) -> Result<Found> {
        match (found.id(), &which.id) {
            (Some(there), Some(id)) if !found.is(id) => Err(conflict(&which.name, Some(there))),
            _ => Ok(found),
        }
    }

    fn there(&self, which: &InstanceRef) -> Result<Record> {
        match Self::meant(which, self.records.read(&which.name)?)? {
            Found::Record(record) => Ok(Arc::unwrap_or_clone(record)),
            Found::Nothing => Err(not_found(&which.name)),
            Found::Damaged(detail) => Err(failed("understand an instance record", detail)),
        }
    }

    /// Closes what we hold of its standard input, then ends its whole tree.
    async fn end(&self, record: &Record, grace: Duration) -> Result<()> {
        self.owned.close_streams(&record.id);
        if record.boot_id == self.config.processes.boot_id() {
            tree::end(&*self.config.processes, &record.roots(), grace).await?;
        }
        // The event of its end comes before anything that its caller does next.
        self.owned.collected(&record.id).await;
        Ok(())
    }

    /// As [`end`](Self::end), of whatever is there. Nobody but its processes has a workload's folder as home.
    async fn end_found(&self, name: &WorkloadName, found: &Found, grace: Duration) -> Result<()> {
        match found {
            Found::Nothing => Ok(()),
            Found::Record(record) => self.end(record, grace).await,
            Found::Damaged(_) => {
                let home = self.config.home(name.as_str());
                let roots = Roots {
                    workload: name.to_string(),
                    mark: ("HOME", home.to_string_lossy().into_owned()),
                    leaders: Vec::new(),
                };
                tree::end(&*self.config.processes, &roots, grace).await
            }
        }
    }

    /// Forgets an instance that has ended. The workload's home and log stay.
    fn forget(&self, locked: &Locked, found: &Found) -> Result<()> {
        locked.delete()?;
        if let Found::Record(record) = found {
            self.owned.lock().remove(&record.id);
            self.events.send(&record.workload, &record.id, EventKind::Removed);
        }
        Ok(())
    }

    /// Ends and forgets what a deployment that failed had made.
    async fn take_back(&self, locked: Locked, record: Record, files: Files) -> Result<()> {
        self.end(&record, Duration::ZERO).await?;
        files.remove()?;
        self.forget(&locked, &Found::Record(Arc::new(record)))?;
        locked.discard()
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

    /// Whether it runs, is ours, speaks HTTP and was started with all of `spec`.
    fn identical(&self, record: &Record, spec: &DeploySpec, program: &Program) -> bool {
        let Some(server) = &record.server else {
            return false;
        };
        spec.transport != TransportType::Stdio
            // Of one that outlived its owner nobody would learn the end.
            && self.owned.fate(&record.id) == Fate::Runs
            && record.transport == spec.transport
            && record.image == spec.image
            && record.command == spec.command
            && record.labels == spec.labels
            && record.instance_name == spec.instance_name
            && record.port == port(spec)
            && record.env_names.iter().eq(program.env.keys())
            && has_environment(server.pid, program)
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
            server: None,
            containment: None,
            exit_code: None,
        })
    }

    /// Starts the program of a record that is written, and completes the record. Nothing here waits, so a dropped
    /// deployment is never cut in between.
    fn start(&self, locked: &Locked, record: &mut Record, program: Program) -> Result<()> {
        let home = self.config.home(record.workload.as_str());
        private_dir(&home.join("tmp"))?;
        private_dir(&self.config.dirs.server_logs())?;
        let log = LogWriter::open(&record.log, self.config.log_rotation)?;
        let (output, errors) = log.ends()?;
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
            child = child.stdout(output);
        }
        let handle = self
            .config
            .processes
            .spawn_detached(child.stderr(errors).contained());
        let handle = handle.map_err(|e| not_started(record, &program, e))?;
        thv_process::crash_point!(LocalSpawned);
        record.process = Some(handle.identity().clone());
        if let Some(contained) = handle.contained() {
            record.server.clone_from(&contained.program);
            record.containment = Some(contained.containment);
        }
        self.own(handle, record, streams, log.start(record.workload.clone()));
        // Not confirmed, it would still be found by its token.
        locked.write(record)
    }

    fn own(
        &self,
        handle: Box<dyn ProcessHandle>,
        record: &Record,
        streams: Option<(pipe::Sender, pipe::Receiver)>,
        log: JoinHandle<()>,
    ) {
        self.events.send(&record.workload, &record.id, EventKind::Created);
        self.events.send(&record.workload, &record.id, EventKind::Started);
        let exit = collect(
            handle,
            log,
            record.clone(),
            self.records.clone(),
            self.events.clone(),
        );
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
                .is_alive(process)
                .map_err(|e| failed("look at a process", e)),
            None => tree::lives(&*self.config.processes, &record.roots()),
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

    fn seen(&self, name: WorkloadName, found: Found) -> Option<Instance> {
        let id = found.id()?;
        match found {
            Found::Nothing => None,
            Found::Record(record) => Some(self.view(&record)),
            Found::Damaged(detail) => {
                let (kind, state) = (self.kind.clone(), InstanceState::Unknown);
                let mut instance = Instance::new(name.as_str(), id, kind, "", state);
                instance.status_text =
                    format!("{detail}: remove the workload, or start it again, to be rid of it");
                Some(instance)
            }
        }
    }

    fn view(&self, record: &Record) -> Instance {
        let (state, status_text, exit_code) = self.state(record);
        let (workload, image) = (record.workload.as_str(), record.image.as_str());
        let mut instance = Instance::new(workload, record.id.clone(), self.kind.clone(), image, state);
        instance.instance_name.clone_from(&record.instance_name);
        instance.status_text = status_text;
        instance.exit_code = exit_code;
        instance.created = Some(record.created);
        instance.started = record.process.as_ref().map(|_| record.created);
        instance.labels.clone_from(&record.labels);
        instance.ports.extend(record.port.map(|port| PortBinding {
            container_port: port,
            host_ip: Some(Ipv4Addr::LOCALHOST.into()),
            host_port: port,
        }));
        instance
    }

    fn deployment(&self, record: Record, outcome: DeployOutcome) -> Deployment {
        let endpoint = record.port.map_or(Endpoint::Stdio, |port| {
            Endpoint::Http(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
        });
        Deployment::new(self.view(&record), outcome, endpoint)
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
        let expected = match &spec.expect {
            Expect::Absent => old.id().is_none(),
            Expect::Instance(id) => old.is(id),
        };
        // Where nothing is, an error leaves nothing, the lock's file included.
        let program = if expected {
            Program::of(&self.config, spec)
        } else {
            Err(conflict(&spec.name, old.id()))
        };
        let program = match program {
            Ok(program) => program,
            Err(error) if old.id().is_none() => return locked.discard().and(Err(error)),
            Err(error) => return Err(error),
        };
        let outcome = match old {
            Found::Nothing => DeployOutcome::Created,
            Found::Record(old) if self.identical(&old, spec, &program) => {
                return Ok(self.deployment(Arc::unwrap_or_clone(old), DeployOutcome::AlreadyRunning));
            }
            old => {
                self.end_found(&spec.name, &old, REPLACE_GRACE).await?;
                self.forget(&locked, &old)?;
                DeployOutcome::Replaced
            }
        };
        let files = Files::new_of(&self.config, &spec.name);
        let mut record = self.new_record(spec, &program)?;
        let started = record.port.map_or(Ok(()), |port| self.port_is_free(port));
        let started = started.and_then(|()| locked.write(&record));
        thv_process::crash_point!(LocalRecorded);
        let started = started.and_then(|()| self.start(&locked, &mut record, program));
        if let Err(error) = started {
            self.take_back(locked, record, files).await?;
            return Err(error);
        }
        Ok(self.deployment(record, outcome))
    }

    async fn stop(&self, which: &InstanceRef, opts: StopOptions) -> Result<()> {
        if Self::meant(which, self.records.read(&which.name)?)?
            .id()
            .is_none()
        {
            return Ok(());
        }
        let locked = self.records.lock(&which.name).await?;
        match Self::meant(which, locked.read()?)? {
            Found::Nothing => locked.discard(),
            found => self.end_found(&which.name, &found, opts.grace).await,
        }
    }

    /// The workload's home and log go too, also those of an instance that is not there any more.
    async fn remove(&self, which: &InstanceRef) -> Result<()> {
        // A deployment that was dropped may still be before its record: its lock is asked, not only the record.
        let locked = self.records.lock(&which.name).await?;
        let found = Self::meant(which, locked.read()?)?;
        self.end_found(&which.name, &found, Duration::ZERO).await?;
        thv_process::crash_point!(LocalEnded);
        // The record last, so that what a crash leaves can be removed again.
        Files::all_of(&self.config, &which.name).remove()?;
        thv_process::crash_point!(LocalFilesRemoved);
        if found.id().is_some() {
            self.forget(&locked, &found)?;
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
        Ok(self.seen(name.clone(), self.records.read(name)?))
    }

    async fn list(&self) -> Result<Vec<Instance>> {
        let this = self.clone();
        let list = move || this.records.each(|name, found| this.seen(name, found));
        let listed = tokio::task::spawn_blocking(list).await;
        listed.map_err(|e| failed("list instances", e))?
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
        for (_, found) in self.records.all()? {
            let Found::Record(record) = found else { continue };
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
                        let (workload, id) = (record.workload.as_str(), record.id.clone());
                        Ok(RuntimeEvent::new(workload, Some(id), kind))
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

/// 128 random bits.
fn random() -> Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|e| failed("get random numbers", e))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
