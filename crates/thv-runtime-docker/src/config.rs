//! How an engine is found and spoken to.

use std::path::PathBuf;
use std::time::Duration;

use thv_core::{Dirs, Env, InvalidVariable};
use thv_runtime::RuntimeKind;

const PULL_SILENCE: Duration = Duration::from_mins(10);

/// How a [`DockerRuntime`](crate::DockerRuntime) finds its engine and speaks to it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DockerConfig {
    /// The kind under which records name this runtime; `docker` by default.
    pub kind: RuntimeKind,
    /// The engine's socket. If given, nothing else is looked at.
    pub socket: Option<PathBuf>,
    /// The environment: `TOOLHIVE_{PODMAN,DOCKER,COLIMA}_SOCKET`, `DOCKER_HOST`, `DOCKER_TLS`,
    /// `DOCKER_TLS_VERIFY`, `DOCKER_CERT_PATH`, `DOCKER_CONTEXT`, `DOCKER_CONFIG`.
    pub env: Env,
    /// The directories below which engines keep their sockets, and Docker its contexts.
    pub dirs: Option<Dirs>,
    /// The static program that stands beside isolated workloads (`thv-egress`). Without it nothing can be isolated.
    pub egress_helper: Option<PathBuf>,
    /// How long a socket may take to accept, and the engine to say that it is there. 5 s by default.
    pub connect_timeout: Duration,
    /// How long the engine may take to answer a call, to the end of its answer; for a stop, beyond its grace. 60 s by
    /// default. Streams (logs that are followed, events, pulls) have no end.
    pub call_timeout: Duration,
    /// How long a pull may tell nothing: a far registry, or one large layer being unpacked. 10 minutes by default, or as many
    /// seconds as `THV_PULL_TIMEOUT` says.
    pub pull_silence: Duration,
}

impl DockerConfig {
    /// Looks for the engine as the environment says, then in the usual places.
    ///
    /// # Errors
    /// When `THV_PULL_TIMEOUT` is no number of seconds.
    pub fn discover(env: Env, dirs: Dirs) -> Result<Self, InvalidVariable> {
        Ok(Self {
            kind: RuntimeKind::new("docker"),
            socket: None,
            pull_silence: env.seconds("THV_PULL_TIMEOUT")?.unwrap_or(PULL_SILENCE),
            env,
            dirs: Some(dirs),
            egress_helper: None,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_mins(1),
        })
    }

    /// Exactly the engine at this socket.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self {
            kind: RuntimeKind::new("docker"),
            socket: Some(socket.into()),
            env: Env::default(),
            dirs: None,
            egress_helper: None,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_mins(1),
            pull_silence: PULL_SILENCE,
        }
    }

    /// Isolates networks with this program.
    #[must_use]
    pub fn with_egress_helper(mut self, program: impl Into<PathBuf>) -> Self {
        self.egress_helper = Some(program.into());
        self
    }

    /// Names the runtime otherwise than `docker`.
    #[must_use]
    pub fn with_kind(mut self, kind: RuntimeKind) -> Self {
        self.kind = kind;
        self
    }
}
