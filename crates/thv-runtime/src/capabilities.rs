//! What a runtime can do.

use thv_core::TransportType;

use crate::{DeploySpec, Error, NetworkMode, Result, RuntimeKind};

/// What a runtime can do. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Stdio servers: their streams can be attached.
    pub attach: bool,
    /// HTTP servers: their port can be reached.
    pub http: bool,
    /// Outbound and inbound traffic can be limited to an allow-list.
    pub network_isolation: bool,
    /// What a runtime lacks that could isolate networks, and what to do about it.
    pub isolation_lacks: Option<String>,
    /// A memory limit is enforced.
    pub memory_limit: bool,
    /// A CPU limit is enforced.
    pub cpu_limit: bool,
    /// A limit of processes is enforced.
    pub pids_limit: bool,
    /// Host folders can be mounted into the instance.
    pub mounts: bool,
    /// Named volumes can be mounted.
    pub volumes: bool,
    /// Paths inside mounts can be hidden.
    pub hidden_paths: bool,
    /// The instance's own file system can be read-only.
    pub read_only: bool,
    /// Networks can be chosen: none at all, or one by its name.
    pub networks: bool,
    /// Further ports can be published.
    pub publish: bool,
    /// The server has privileges that can be granted (`privileged` in a profile).
    pub privileged: bool,
    /// `events` delivers; otherwise it is `Unsupported`.
    pub events: bool,
    /// `logs` delivers the server's standard error.
    pub logs: bool,
    /// What a stdio server writes can be kept out of every log of the engine ([`DeploySpec::private_output`]).
    pub private_output: bool,
    /// Instances are made of images.
    pub images: bool,
}

impl Capabilities {
    /// Whether everything that `spec` asks for can be done.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the first thing that cannot.
    pub fn check(&self, runtime: &RuntimeKind, spec: &DeploySpec) -> Result<()> {
        let stdio = spec.transport == TransportType::Stdio;
        let own_network = matches!(spec.network, NetworkMode::None | NetworkMode::Named(_));
        let asked = [
            (stdio && !self.attach, "servers that speak stdio"),
            (!stdio && !self.http, "servers that speak HTTP"),
            (
                spec.isolate_network && !self.network_isolation,
                "network isolation",
            ),
            (
                spec.limits.memory.is_some() && !self.memory_limit,
                "a memory limit",
            ),
            (spec.limits.cpus.is_some() && !self.cpu_limit, "a CPU limit"),
            (
                spec.limits.pids.is_some() && !self.pids_limit,
                "a limit of processes",
            ),
            (
                !spec.mounts.is_empty() && !self.mounts,
                "mounting folders of the host",
            ),
            (!spec.volumes.is_empty() && !self.volumes, "named volumes"),
            (
                !spec.hidden.is_empty() && !self.hidden_paths,
                "hiding paths of mounts (ignore files)",
            ),
            (spec.read_only && !self.read_only, "a read-only file system"),
            (
                !spec.publish.is_empty() && !self.publish,
                "publishing further ports",
            ),
            (
                own_network && !self.networks,
                "network modes other than bridge and host",
            ),
            (spec.privileged && !self.privileged, "privileged servers"),
            (
                spec.private_output && !(stdio && self.private_output),
                "keeping what a server writes out of its log",
            ),
        ];
        match asked
            .into_iter()
            .find_map(|(refused, what)| refused.then_some(what))
        {
            Some(what) => Err(Error::Unsupported {
                runtime: runtime.clone(),
                what: what.to_owned(),
            }),
            None => Ok(()),
        }
    }
}
