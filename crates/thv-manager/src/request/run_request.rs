//! What a user asks for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use thv_core::{MiddlewareConfig, ProxyMode, ToolOverride, TransportType};
use thv_runtime::RuntimeKind;

/// What a user asks `run` for. Everything that is not said has the default of the command line.
///
/// Arguments, values of the environment and of headers, and credentials in URLs are hidden from `Debug`.
#[derive(Clone, Default)]
pub struct RunRequest {
    /// An image reference, an `http(s)://` URL, `exec:///abs/program`, `uvx://package` or `npx://package`.
    pub server: String,
    /// Arguments of the server.
    pub args: Vec<String>,
    /// The workload's name; derived from `server` when not given.
    pub name: Option<String>,
    /// The group; `default` when not given.
    pub group: Option<String>,
    /// The runtime; the default engine (or the local runtime for `exec://`) when not given.
    pub runtime: Option<RuntimeKind>,
    /// How the server speaks; `streamable-http` when not given.
    pub transport: Option<TransportType>,
    /// How the proxy of a stdio server speaks.
    pub proxy_mode: Option<ProxyMode>,
    /// The IPv4 address that the proxy binds; loopback when not given.
    pub host: Option<String>,
    /// Origins that browsers may come from, besides the proxy's own.
    pub allowed_origins: Vec<String>,
    /// The proxy's port; a free one when not given.
    pub proxy_port: Option<u16>,
    /// The server's port; a free one when not given.
    pub target_port: Option<u16>,
    /// The server's host.
    pub target_host: Option<String>,
    /// Further ports: `host:container` or `container`.
    pub publish: Vec<String>,
    /// `none`, `network`, or the path of a profile.
    pub permission_profile: Option<String>,
    /// The network mode, written into the profile.
    pub network: Option<String>,
    /// The most memory that the server may use, in bytes.
    pub memory: Option<u64>,
    /// How many CPUs the server may use, as a decimal number: `0.5` is half of one.
    pub cpus: Option<String>,
    /// How many processes and threads the server may have.
    pub pids_limit: Option<u32>,
    /// The server's file system cannot be written, but for its mounts and `/tmp`.
    pub read_only: bool,
    /// `None`: the default (isolated where the runtime can). `Some(true)`: refuse to run otherwise.
    pub isolate_network: Option<bool>,
    /// An isolated server may reach the engine's host.
    pub allow_docker_gateway: bool,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// A file of `KEY=VALUE` lines.
    pub env_file: Option<PathBuf>,
    /// A folder of such files.
    pub env_file_dir: Option<PathBuf>,
    /// `host:container[:ro]`.
    pub volumes: Vec<String>,
    /// `name,target=ENV`.
    pub secrets: Vec<String>,
    /// `key=value`.
    pub labels: Vec<String>,
    /// `Name=Value`, sent to a remote server with each request.
    pub forward_headers: Vec<String>,
    /// A file of certificates in PEM: authorities that are believed beside the system's when a remote server is asked.
    pub ca_bundle: Option<PathBuf>,
    /// A Go duration such as `30m`.
    pub session_ttl: Option<String>,
    /// Put before the path in the endpoint event of an SSE proxy; begins with `/`.
    pub endpoint_prefix: Option<String>,
    /// What a proxy before this one says of the client (`X-Forwarded-…`) is believed.
    pub trust_proxy_headers: bool,
    /// Clients that name an unknown revision of the protocol are refused.
    pub strict_protocol_validation: bool,
    /// The server keeps no sessions: only POST is passed on.
    pub stateless: bool,
    /// Only these tools are there for clients, by the names that clients see; none is all.
    pub tools: Vec<String>,
    /// Other names and descriptions of tools, by the server's names.
    pub tools_override: BTreeMap<String, ToolOverride>,
    /// A file with more of them: `{"toolsOverride": {"tool": {"name": …, "description": …}}}`.
    pub tools_override_file: Option<PathBuf>,
    /// Layers of the application's own, of types that it has given its manager, outermost first. They stand before the
    /// filter of tools.
    pub middleware: Vec<MiddlewareConfig>,
    /// Whether the global ignore file applies to mounts.
    pub ignore_globally: Option<bool>,
    /// Say what ignore files hide.
    pub print_overlays: bool,
    /// Log more.
    pub debug: bool,
    /// The registry entry that all this comes from; made by an [`EntryPlan`](crate::EntryPlan) only.
    #[cfg(feature = "registry")]
    pub origin: Option<super::EntryOrigin>,
}

impl RunRequest {
    /// A request for `server` with nothing else said.
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            ..Self::default()
        }
    }
}

impl fmt::Debug for RunRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |pairs: &[String]| -> Vec<String> {
            pairs
                .iter()
                .map(|pair| pair.split('=').next().unwrap_or_default().to_owned())
                .collect()
        };
        f.debug_struct("RunRequest")
            .field("server", &thv_core::WithoutCredentials(&self.server))
            .field("name", &self.name)
            .field("runtime", &self.runtime)
            .field("transport", &self.transport)
            .field("proxy_port", &self.proxy_port)
            .field("env", &keys(&self.env))
            .field("forward_headers", &keys(&self.forward_headers))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_values() {
        let request = RunRequest {
            env: vec!["TOKEN=s3cret".into()],
            forward_headers: vec!["X-Key=s3cret".into()],
            args: vec!["--password=s3cret".into()],
            ..RunRequest::new("mcp/time")
        };
        let remote = RunRequest::new("https://s3cret@a.example/mcp?key=s3cret");
        let text = format!("{request:?} {remote:?}");
        assert!(!text.contains("s3cret") && text.contains("TOKEN"), "{text}");
    }
}
