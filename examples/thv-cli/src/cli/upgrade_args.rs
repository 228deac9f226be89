//! The flags of `upgrade`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use thv::image::Policy;

use super::{Format, PasswordArgs, durations, values};

#[derive(Debug, Subcommand)]
pub(crate) enum UpgradeCommand {
    /// Compare MCP servers with the registry; nothing is pulled or changed
    Check(UpgradeCheckArgs),
    /// Replace an MCP server by the newer version that the registry has
    #[command(override_usage = "thv upgrade apply [OPTIONS] NAME\n       thv upgrade apply [OPTIONS] --all")]
    Apply(UpgradeApplyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct UpgradeCheckArgs {
    /// The MCP server; all if none is named
    pub(crate) name: Option<String>,
    /// Exit with 2 when there is a newer version
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct UpgradeApplyArgs {
    /// The MCP server
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) name: Option<String>,
    /// All that have a newer version, one after the other
    #[arg(long, conflicts_with_all = ["env", "secret"])]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// A variable of the server's environment, besides those that it has
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// A secret for the server's environment (name,target=VARIABLE), besides those that it has
    #[arg(long, value_name = "SECRET")]
    pub(crate) secret: Vec<String>,
    /// What an image means whose provenance is not verified: warn, enabled (an error) or disabled (not looked at). A signature
    /// that is there and wrong is an error under warn too
    #[arg(long, value_name = "POLICY", default_value = "warn", value_parser = values::image_policy)]
    pub(crate) image_verification: Policy,
    /// Certificates (PEM) that are trusted of registries, besides the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Bring the old version back when the new one does not answer in this time
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "5m",
        value_parser = durations::parse)]
    pub(crate) rollback: Option<Duration>,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}
