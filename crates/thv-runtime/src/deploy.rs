//! What a deployment asks for, and what it answers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use thv_core::{TransportType, WorkloadName};

use crate::{Instance, InstanceId};

/// Everything an instance is made of. The environment carries secrets: `Debug` shows its names only.
#[derive(Clone, PartialEq, Eq)]
pub struct DeploySpec {
    /// The workload.
    pub name: WorkloadName,
    /// The name of the instance in the engine, where it differs from the workload's (`container_name`).
    pub instance_name: String,
    /// What to run: an image reference (by digest where one was resolved), or `exec:///abs/program`,
    /// `uvx://package`, `npx://package` for the local runtime.
    pub image: String,
    /// Arguments after the image's entry point or the program.
    pub command: Vec<String>,
    /// Environment variables, secrets included.
    pub env: BTreeMap<String, String>,
    /// Labels; the standard ones included.
    pub labels: BTreeMap<String, String>,
    /// How the server speaks.
    pub transport: TransportType,
    /// For HTTP servers: where the server listens inside, and where that is reached.
    pub target: Option<PortBinding>,
    /// Further ports to publish.
    pub publish: Vec<PortBinding>,
    /// Folders and files of the host.
    pub mounts: Vec<MountBind>,
    /// Named volumes of the engine, which outlive the instance.
    pub volumes: Vec<NamedVolume>,
    /// What of the mounts the server must not see.
    pub hidden: Vec<HiddenPath>,
    /// The network mode of the permission profile.
    pub network: NetworkMode,
    /// Traffic must be limited to the profile's allow-lists; a runtime that cannot refuses with `Unsupported`.
    pub isolate_network: bool,
    /// What an isolated instance may reach; of no meaning where it is not isolated.
    pub egress: Egress,
    /// Full access to the host's devices.
    pub privileged: bool,
    /// Limits that must be enforced; a runtime that cannot enforce one refuses with `Unsupported`.
    pub limits: Limits,
    /// The instance's file system cannot be written, but for mounts and a `/tmp` that goes with it.
    pub read_only: bool,
    /// Only who attaches reads what the stdio server writes; the engine keeps no log of it, and its standard error comes with
    /// the attachment ([`Stdio::stderr`](crate::Stdio::stderr)), from its first byte on where that is the deploying value's. Until somebody attaches, or when
    /// nobody reads, the server waits once it has written more than a pipe holds. A runtime that cannot refuses with `Unsupported`.
    pub private_output: bool,
    /// What must be there under this name before the call.
    pub expect: Expect,
}

impl DeploySpec {
    /// A stdio instance of `image` with nothing else set, expecting that none is there.
    pub fn new(name: WorkloadName, image: impl Into<String>) -> Self {
        Self {
            instance_name: name.as_str().to_owned(),
            name,
            image: image.into(),
            command: Vec::new(),
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            transport: TransportType::Stdio,
            target: None,
            publish: Vec::new(),
            mounts: Vec::new(),
            volumes: Vec::new(),
            hidden: Vec::new(),
            network: NetworkMode::Bridge,
            isolate_network: false,
            egress: Egress::default(),
            privileged: false,
            limits: Limits::default(),
            read_only: false,
            private_output: false,
            expect: Expect::Absent,
        }
    }
}

impl fmt::Debug for DeploySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeploySpec")
            .field("name", &self.name)
            .field("image", &self.image)
            .field("transport", &self.transport)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("expect", &self.expect)
            .finish_non_exhaustive()
    }
}

/// What must be there under a name before a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// Exactly this instance: it is reused when identical, replaced when not.
    Instance(InstanceId),
}

/// A port of the instance and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortBinding {
    /// The port inside; in the local runtime, the port that the process listens on.
    pub container_port: u16,
    /// The address of the host that it is bound to; `None` means every address, as the engine does.
    pub host_ip: Option<std::net::IpAddr>,
    /// The port of the host; 0 lets the engine choose.
    pub host_port: u16,
}

/// What an isolated instance may reach; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// Everything but the engine's host.
    pub everything: bool,
    /// Host names, as DNS has them, and IPv4 addresses; one that begins with a dot or `*.` is a domain and its subdomains.
    /// None with ports given is any.
    pub hosts: Vec<String>,
    /// TCP ports; none with hosts given is any.
    pub ports: Vec<u16>,
    /// The engine's host too.
    pub engine_host: bool,
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountBind {
    /// The absolute path on the host.
    pub source: PathBuf,
    /// The absolute path inside.
    pub target: String,
    /// Whether the server may only read it.
    pub read_only: bool,
}

/// A volume that the engine keeps; made when it is not there yet, and left when the instance is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedVolume {
    /// Its name in the engine.
    pub name: String,
    /// The absolute path inside.
    pub target: String,
    /// Whether the server may only read it.
    pub read_only: bool,
}

/// A path inside a mount that is covered: the server finds an empty folder, or a file without content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HiddenPath {
    /// The absolute path inside.
    pub target: String,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// The network that an instance joins.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkMode {
    /// The shared bridge of workloads.
    Bridge,
    /// The host's own network.
    Host,
    /// No network.
    None,
    /// A network by its name.
    Named(String),
}

/// Limits of an instance; `None` is unlimited.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// CPUs; 0.5 is half of one.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

impl Eq for Limits {}

/// What `deploy` did, and what runs now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Deployment {
    /// The instance, running.
    pub instance: Instance,
    /// What was done to get there.
    pub outcome: DeployOutcome,
    /// Where the server is reached.
    pub endpoint: Endpoint,
}

impl Deployment {
    /// For implementors: what a [`deploy`](crate::Runtime::deploy) came to.
    pub fn new(instance: Instance, outcome: DeployOutcome, endpoint: Endpoint) -> Self {
        Self {
            instance,
            outcome,
            endpoint,
        }
    }
}

/// What a deployment did; undoing it depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeployOutcome {
    /// There was none; it was made.
    Created,
    /// A different one was replaced.
    Replaced,
    /// An identical one was started.
    Started,
    /// An identical one was running.
    AlreadyRunning,
}

/// Where a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// Through [`Runtime::attach`](crate::Runtime::attach).
    Stdio,
    /// Over HTTP at this address.
    Http(SocketAddr),
}
