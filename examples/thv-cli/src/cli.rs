//! What the command line accepts: names, flags and defaults are ToolHive's where it has them.

mod arguments;
mod durations;
mod group_args;
mod not_built;
mod registry_args;
mod run_args;
mod secret_args;
#[cfg(test)]
mod tests;
mod upgrade_args;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub(crate) use group_args::{GroupCommand, GroupDeleteArgs, GroupMoveArgs};
pub(crate) use registry_args::{
    ConfigCommand, RegistryCommand, RegistryInfoArgs, RegistryListArgs, SearchArgs, SetRegistryArgs,
};
pub(crate) use run_args::RunArgs;
pub(crate) use secret_args::{PasswordArgs, SecretCommand, SecretListArgs};
pub(crate) use upgrade_args::{UpgradeApplyArgs, UpgradeCheckArgs, UpgradeCommand};

/// Run and manage MCP servers.
#[derive(Debug, Parser)]
#[command(name = "thv", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Log more, to standard error
    #[arg(long, global = true, env = "TOOLHIVE_DEBUG", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) debug: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an MCP server: one of the registry, an image, a URL, a program of this host, or a package
    Run(Box<RunArgs>),
    /// List MCP servers
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show everything that is known of one MCP server
    Status(StatusArgs),
    /// Stop MCP servers
    Stop(StopArgs),
    /// Start an MCP server that is stopped; one that runs is left alone
    #[command(
        override_usage = "thv start [OPTIONS] NAME\n       thv start [OPTIONS] --all\n       thv start [OPTIONS] --group <GROUP>"
    )]
    Start(StartArgs),
    /// Stop an MCP server if it runs, and start it
    #[command(
        override_usage = "thv restart [OPTIONS] NAME\n       thv restart [OPTIONS] --all\n       thv restart [OPTIONS] --group <GROUP>"
    )]
    Restart(StartArgs),
    /// Stop and remove MCP servers
    Rm(RmArgs),
    /// Create, list and delete groups, and move MCP servers between them
    #[command(subcommand)]
    Group(GroupCommand),
    /// Show the log of an MCP server or of its proxy
    #[command(
        override_usage = "thv logs [OPTIONS] NAME\n       thv logs prune [--format <FORMAT>]",
        after_help = "\"thv logs prune\" removes the logs of MCP servers that do not exist any more."
    )]
    Logs(LogsArgs),
    /// Show what becomes of MCP servers, as it happens, until Ctrl-C
    Events(EventsArgs),
    /// Write the configuration of an MCP server to a file
    Export(ExportArgs),
    /// Bring back what should run and does not: after a reboot, or when a proxy was killed
    Reconcile(ReconcileArgs),
    /// Find newer versions in the registry, and change to them
    #[command(subcommand)]
    Upgrade(UpgradeCommand),
    /// Ask the registry
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Find MCP servers in the registry
    Search(SearchArgs),
    /// Read and change the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Keep secrets, which servers get as variables
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Ask about container runtimes
    #[command(subcommand)]
    Runtime(RuntimeCommand),
    /// Show the version
    Version(VersionArgs),
    /// Write a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Also those that do not run
    #[arg(short, long)]
    pub(crate) all: bool,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ListFormat,
    /// Only those with this label (key=value); all that are given must match
    #[arg(short, long, value_name = "SELECTOR")]
    pub(crate) label: Vec<String>,
    /// Only those of this group
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// Say of each whether the registry has a newer version
    #[arg(long)]
    pub(crate) check_upgrades: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The MCP server
    pub(crate) name: String,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// Some names, all, or those of a group.
#[derive(Debug, Args)]
#[group(skip)]
#[command(
    override_usage = "thv stop [OPTIONS] NAMES...\n       thv stop [OPTIONS] --all\n       thv stop [OPTIONS] --group <GROUP>"
)]
pub(crate) struct StopArgs {
    /// The MCP servers
    #[arg(required_unless_present_any = ["all", "group"], conflicts_with_all = ["all", "group"])]
    pub(crate) names: Vec<String>,
    /// All
    #[arg(short, long, conflicts_with = "group")]
    pub(crate) all: bool,
    /// All of this group
    #[arg(short, long)]
    pub(crate) group: Option<String>,
    /// Seconds that a server may take after it was asked to end, before it is killed
    #[arg(long, default_value_t = 30)]
    pub(crate) timeout: u64,
    /// Also a container that another installation made
    #[arg(long)]
    pub(crate) force: bool,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(
    override_usage = "thv rm [OPTIONS] NAMES...\n       thv rm [OPTIONS] --all\n       thv rm [OPTIONS] --group <GROUP>"
)]
pub(crate) struct RmArgs {
    /// The MCP servers
    #[arg(required_unless_present_any = ["all", "group"], conflicts_with_all = ["all", "group"])]
    pub(crate) names: Vec<String>,
    /// All
    #[arg(long, conflicts_with = "group")]
    pub(crate) all: bool,
    /// All of this group
    #[arg(short, long)]
    pub(crate) group: Option<String>,
    /// Also a container that another installation made
    #[arg(long)]
    pub(crate) force: bool,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct StartArgs {
    /// The MCP server
    #[arg(required_unless_present_any = ["all", "group"], conflicts_with_all = ["all", "group"])]
    pub(crate) name: Option<String>,
    /// All
    #[arg(short, long, conflicts_with = "group")]
    pub(crate) all: bool,
    /// All of this group
    #[arg(short, long)]
    pub(crate) group: Option<String>,
    /// Stay in the foreground; Ctrl-C stops it
    #[arg(short, long, conflicts_with_all = ["all", "group"])]
    pub(crate) foreground: bool,
    /// Also one that another application launched: it is ours from now on
    #[arg(long)]
    pub(crate) take_over: bool,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// When `run` and `start` return.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct WaitArgs {
    /// Wait until it is ready; not in time is a failure
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "5m",
        value_parser = durations::parse, conflicts_with_all = ["no_wait", "launch_timeout", "foreground"])]
    pub(crate) wait: Option<Duration>,
    /// Do not wait at all
    #[arg(long, conflicts_with_all = ["launch_timeout", "foreground"])]
    pub(crate) no_wait: bool,
    /// How long to look whether it comes up; still starting after that is no failure
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = durations::parse,
        conflicts_with = "foreground")]
    pub(crate) launch_timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The MCP server
    pub(crate) name: String,
    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The log of the proxy
    #[arg(short, long)]
    pub(crate) proxy: bool,
    /// Only the last lines
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<usize>,
    /// How "prune" writes what it removed
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// The MCP servers; all if none is named
    pub(crate) names: Vec<String>,
    /// First what they are now
    #[arg(short, long)]
    pub(crate) initial: bool,
    /// How to write; json is one object on each line
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The MCP server
    pub(crate) name: String,
    /// The file to write; - is standard output
    pub(crate) path: PathBuf,
    /// The format
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ExportFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ReconcileArgs {
    /// Also those that another application launched: they are ours from now on
    #[arg(long)]
    pub(crate) take_over: bool,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
    /// How long to wait for container engines that are needed and do not answer, as at boot
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = durations::parse)]
    pub(crate) wait_runtime: Duration,
    /// Write a systemd user unit that does this at boot, with the commands that enable it, and do nothing else
    #[arg(long, conflicts_with_all = ["take_over", "wait_runtime", "format"])]
    pub(crate) print_unit: bool,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// List the runtimes, where they are, and which one is used
    #[command(visible_alias = "ls")]
    List {
        /// Seconds to wait for the answer of each
        #[arg(long, default_value_t = 10)]
        timeout: u64,
        /// How to write
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Ask whether a runtime answers
    Check {
        /// Seconds to wait for an answer
        #[arg(long, default_value_t = 30)]
        timeout: u64,
        /// The runtime; by default the one that images run on
        #[arg(long)]
        runtime: Option<String>,
        /// How to write
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// The same as --format json
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    #[default]
    Text,
    Json,
    Mcpservers,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    #[default]
    Json,
    K8s,
}

/// Why a command line is not carried out.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The usage is wrong, or help was asked for.
    Usage(clap::Error),
    /// Something is asked for that would have no effect.
    NoEffect(String),
}

impl Cli {
    /// The whole command, with all that is known and not built.
    fn full_command() -> clap::Command {
        not_built::add(Self::command())
    }

    /// Reads a command line.
    pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, Refused> {
        let mut command = Self::full_command();
        let args = arguments::plain(args, &command);
        let matches = command.try_get_matches_from_mut(&args).map_err(|mut error| {
            let meant = arguments::with_equals(&args, &command);
            if let Some(meant) = meant.filter(|_| error.kind() == ErrorKind::UnknownArgument) {
                let tip = format!("its value stands behind an equals sign: '{meant}'").into();
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
            }
            // What is not built is not recommended either.
            let said = match error.kind() {
                ErrorKind::InvalidSubcommand => Self::command().try_get_matches_from(&args).err(),
                _ => None,
            };
            Refused::Usage(said.unwrap_or(error))
        })?;
        if let Some(text) =
            not_built::first_asked(&matches).or_else(|| run_args::beside_from_config(&matches))
        {
            return Err(Refused::NoEffect(text));
        }
        Self::from_arg_matches(&matches).map_err(|error| Refused::Usage(error.format(&mut command)))
    }
}
