//! The flags of `run` that have an effect.

use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use thv::core::{ProxyMode, TransportType};
use thv::image::Policy;
use thv::manager::RunRequest;

use super::{Format, PasswordArgs, WaitArgs, values};

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct RunArgs {
    /// A name in the registry, an image, an http(s) URL, exec:///path/of/a/program, uvx://package or npx://package
    #[arg(required_unless_present = "from_config")]
    pub(crate) server: Option<String>,
    /// Arguments of the server
    #[arg(last = true)]
    pub(crate) args: Vec<String>,

    /// The name; derived from the server when not given
    #[arg(long, help_heading = "Workload")]
    pub(crate) name: Option<String>,
    /// The group
    #[arg(long, default_value = "default", help_heading = "Workload")]
    pub(crate) group: String,
    /// The runtime: local runs programs on this host without a container
    #[arg(long, help_heading = "Workload")]
    pub(crate) runtime: Option<String>,
    /// A label of the instance (key=value)
    #[arg(short, long, value_name = "KEY=VALUE", help_heading = "Workload")]
    pub(crate) label: Vec<String>,
    /// Run from a configuration that export wrote
    #[arg(long, value_name = "FILE", value_parser = values::path(), help_heading = "Workload")]
    pub(crate) from_config: Option<PathBuf>,
    /// Replace a workload of that name even if it was ready once
    #[arg(long, help_heading = "Workload")]
    pub(crate) replace: bool,

    /// Stay in the foreground; Ctrl-C removes it
    #[arg(short, long, help_heading = "Launch")]
    pub(crate) foreground: bool,
    /// With --foreground: Ctrl-C stops it and keeps it
    #[arg(long, requires = "foreground", help_heading = "Launch")]
    pub(crate) keep: bool,
    #[command(flatten, next_help_heading = "Launch")]
    pub(crate) password: PasswordArgs,
    #[command(flatten, next_help_heading = "Launch")]
    pub(crate) wait: WaitArgs,
    /// How to write
    #[arg(long, value_enum, default_value_t, help_heading = "Launch")]
    pub(crate) format: Format,

    /// How the server speaks [default: streamable-http]
    #[arg(long, value_parser = values::transport(), ignore_case = true, help_heading = "Proxy")]
    pub(crate) transport: Option<TransportType>,
    /// How the proxy of a stdio server speaks [default: streamable-http]
    #[arg(long, value_parser = values::proxy_mode(), ignore_case = true, help_heading = "Proxy")]
    pub(crate) proxy_mode: Option<ProxyMode>,
    /// The address that the proxy binds
    #[arg(long, default_value = "127.0.0.1", help_heading = "Proxy")]
    pub(crate) host: String,
    /// The port of the proxy; 0 is a free one
    #[arg(long, default_value_t = 0, help_heading = "Proxy")]
    pub(crate) proxy_port: u16,
    /// An Origin that browsers may come from
    #[arg(long, value_name = "ORIGIN", value_parser = values::origin, help_heading = "Proxy")]
    pub(crate) allowed_origins: Vec<String>,
    /// How long an unused session lives; 0 is two hours
    #[arg(long, value_name = "DURATION", default_value = "0s", help_heading = "Proxy")]
    pub(crate) session_ttl: String,
    /// A path before the endpoint that an SSE proxy names, for one behind another proxy
    #[arg(long, value_name = "PATH", help_heading = "Proxy")]
    pub(crate) endpoint_prefix: Option<String>,
    /// Believe what a proxy before this one says of the client (X-Forwarded-…)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = false, action = clap::ArgAction::Set,
        hide_possible_values = true, help_heading = "Proxy")]
    pub(crate) trust_proxy_headers: bool,
    /// Refuse clients that name an unknown revision of the protocol
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = false, action = clap::ArgAction::Set,
        hide_possible_values = true, help_heading = "Proxy")]
    pub(crate) strict_protocol_validation: bool,
    /// The server keeps no sessions: pass on POST alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = false, action = clap::ArgAction::Set,
        hide_possible_values = true, help_heading = "Proxy")]
    pub(crate) stateless: bool,
    /// A tool that clients see, by the name that they know; all when not given
    #[arg(long, value_name = "TOOL", help_heading = "Proxy")]
    pub(crate) tools: Vec<String>,
    /// A file with other names and descriptions of tools ({"toolsOverride": {"tool": {"name": …, "description": …}}})
    #[arg(long, value_name = "FILE", value_parser = values::path(), help_heading = "Proxy")]
    pub(crate) tools_override: Option<PathBuf>,
    /// A header that the proxy adds towards a remote server
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Proxy")]
    pub(crate) remote_forward_headers: Vec<String>,
    /// A file of CA certificates (PEM) to believe beside the system's when a remote server is asked
    #[arg(long, value_name = "FILE", value_parser = values::path(), help_heading = "Proxy")]
    pub(crate) thv_ca_bundle: Option<PathBuf>,

    /// The port of the server; 0 is a free one
    #[arg(long, default_value_t = 0, help_heading = "Server")]
    pub(crate) target_port: u16,
    /// The host of the server [default: 127.0.0.1]
    #[arg(long, help_heading = "Server")]
    pub(crate) target_host: Option<String>,
    /// A further port to publish ([host:]container)
    #[arg(short, long, value_name = "PORT", help_heading = "Server")]
    pub(crate) publish: Vec<String>,
    /// A variable of the server's environment
    #[arg(short, long, value_name = "KEY=VALUE", help_heading = "Server")]
    pub(crate) env: Vec<String>,
    /// A file of such variables
    #[arg(long, value_name = "FILE", value_parser = values::path(), help_heading = "Server")]
    pub(crate) env_file: Option<PathBuf>,
    /// A folder of such files
    #[arg(long, value_name = "FOLDER", value_parser = values::path(), help_heading = "Server")]
    pub(crate) env_file_dir: Option<PathBuf>,
    /// A secret for the server's environment (name,target=VARIABLE)
    #[arg(long, value_name = "SECRET", help_heading = "Server")]
    pub(crate) secret: Vec<String>,
    /// A folder or file of this host (host:container[:ro])
    #[arg(short, long, value_name = "VOLUME", help_heading = "Server")]
    pub(crate) volume: Vec<String>,

    /// What an image means whose provenance is not verified: warn, enabled (an error) or disabled (not looked at). A signature
    /// that is there and wrong is an error under warn too
    #[arg(long, value_name = "POLICY", default_value = "warn", value_parser = values::image_policy,
        help_heading = "Image")]
    pub(crate) image_verification: Policy,
    /// Certificates (PEM) that are trusted of registries, besides the system's
    #[arg(long, value_name = "FILE", value_parser = values::path(), help_heading = "Image")]
    pub(crate) ca_cert: Option<PathBuf>,

    /// What the server may do: none, network, or the path of a profile
    #[arg(long, value_name = "PROFILE", help_heading = "Permissions")]
    pub(crate) permission_profile: Option<String>,
    /// Grant what a registry entry asks for beyond the built-in profiles
    #[arg(long, help_heading = "Permissions")]
    pub(crate) accept_permissions: bool,
    /// The network mode
    #[arg(long, value_name = "MODE", help_heading = "Permissions")]
    pub(crate) network: Option<String>,
    /// Limit the network to what the profile allows. Said explicitly: do not run where that cannot be done
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_possible_values = true, help_heading = "Permissions")]
    pub(crate) isolate_network: Option<bool>,
    /// The most memory that the server may use (64m, 1g; a number is bytes)
    #[arg(long, value_name = "SIZE", value_parser = values::size, help_heading = "Limits")]
    pub(crate) memory: Option<u64>,
    /// How many CPUs the server may use (0.5 is half of one)
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    pub(crate) cpus: Option<String>,
    /// How many processes and threads the server may have
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    pub(crate) pids_limit: Option<u32>,
    /// The server can write to its volumes and to /tmp only
    #[arg(long, help_heading = "Limits")]
    pub(crate) read_only: bool,
    /// An isolated server may reach the engine's host
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = false, action = clap::ArgAction::Set,
        hide_possible_values = true, help_heading = "Permissions")]
    pub(crate) allow_docker_gateway: bool,
    /// Say what ignore files hide
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = false, action = clap::ArgAction::Set,
        hide_possible_values = true, help_heading = "Permissions")]
    pub(crate) print_resolved_overlays: bool,
    /// Whether the user's ignore file hides paths inside volumes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = true, action = clap::ArgAction::Set,
        hide_possible_values = true, help_heading = "Permissions")]
    pub(crate) ignore_globally: bool,
}

/// A configuration file says everything about the workload; what may stand beside it is how it is launched.
pub(super) fn beside_from_config(matches: &ArgMatches) -> Option<String> {
    const LAUNCH: [&str; 13] = [
        "image_verification",
        "ca_cert",
        "from_config",
        "foreground",
        "keep",
        "debug",
        "runtime",
        "replace",
        "secrets_password_fd",
        "wait",
        "no_wait",
        "launch_timeout",
        "format",
    ];
    let Some(("run", matches)) = matches.subcommand() else {
        return None;
    };
    given_path(matches.get_one::<PathBuf>("from_config"))?;
    let beside =
        |id: &&str| !LAUNCH.contains(id) && matches.value_source(id) == Some(ValueSource::CommandLine);
    let id = matches.ids().map(clap::Id::as_str).find(beside)?;
    let shown = match id {
        "server" | "args" => id.to_uppercase(),
        _ => format!("--{}", id.replace('_', "-")),
    };
    Some(format!(
        "{shown} has no effect beside --from-config: leave one of them out"
    ))
}

/// The path, unless it is empty, which asks for nothing.
fn given_path(path: Option<&PathBuf>) -> Option<&Path> {
    path.map(PathBuf::as_path)
        .filter(|path| !path.as_os_str().is_empty())
}

impl RunArgs {
    /// What is asked of the manager.
    pub(crate) fn request(&self, debug: bool) -> RunRequest {
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        let given_option = |text: &Option<String>| text.as_ref().and_then(given);
        let given_path = |path: &Option<PathBuf>| given_path(path.as_ref()).map(Path::to_owned);
        let port = |port: u16| (port != 0).then_some(port);
        let mut request = RunRequest::new(self.server.clone().unwrap_or_default());
        request.args.clone_from(&self.args);
        request.name.clone_from(&self.name);
        request.group = given(&self.group);
        request.runtime = self.explicit_runtime();
        request.transport = self.transport;
        request.proxy_mode = self.proxy_mode;
        request.host = given(&self.host);
        request.allowed_origins.clone_from(&self.allowed_origins);
        request.proxy_port = port(self.proxy_port);
        request.target_port = port(self.target_port);
        request.target_host = given_option(&self.target_host);
        request.publish.clone_from(&self.publish);
        request.permission_profile = given_option(&self.permission_profile);
        request.network = given_option(&self.network);
        request.isolate_network = self.isolate_network;
        request.env.clone_from(&self.env);
        request.env_file = given_path(&self.env_file);
        request.env_file_dir = given_path(&self.env_file_dir);
        request.volumes.clone_from(&self.volume);
        request.secrets.clone_from(&self.secret);
        request.labels.clone_from(&self.label);
        request.forward_headers.clone_from(&self.remote_forward_headers);
        request.ca_bundle = given_path(&self.thv_ca_bundle);
        request.session_ttl = given(&self.session_ttl);
        request.allow_docker_gateway = self.allow_docker_gateway;
        request.memory = self.memory;
        request.cpus.clone_from(&self.cpus);
        request.pids_limit = self.pids_limit;
        request.read_only = self.read_only;
        request.print_overlays = self.print_resolved_overlays;
        request.endpoint_prefix = given_option(&self.endpoint_prefix);
        request.trust_proxy_headers = self.trust_proxy_headers;
        request.strict_protocol_validation = self.strict_protocol_validation;
        request.stateless = self.stateless;
        request.tools.clone_from(&self.tools);
        request.tools_override_file = given_path(&self.tools_override);
        request.ignore_globally = Some(self.ignore_globally);
        request.debug = debug;
        request
    }

    /// The configuration file, if one is named.
    pub(crate) fn config_file(&self) -> Option<&Path> {
        given_path(self.from_config.as_ref())
    }

    /// The runtime that the flag names.
    pub(crate) fn explicit_runtime(&self) -> Option<thv::runtime::RuntimeKind> {
        self.runtime
            .as_deref()
            .filter(|kind| !kind.is_empty())
            .map(thv::runtime::RuntimeKind::from)
    }
}
