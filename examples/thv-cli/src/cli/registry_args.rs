//! The flags of `registry`, `search` and `config`.

use clap::{Args, Subcommand};

use super::Format;

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// List the MCP servers of the registry
    List(RegistryListArgs),
    /// Show everything that the registry says of one MCP server
    Info(RegistryInfoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RegistryListArgs {
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Ask the registry again, whatever is in the cache
    #[arg(long)]
    pub(crate) refresh: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryInfoArgs {
    /// The MCP server, by its full name or its last part
    pub(crate) server: String,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Ask the registry again, whatever is in the cache
    #[arg(long)]
    pub(crate) refresh: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// What name, description or tags have in them
    pub(crate) query: String,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say which registry is asked: a URL of a document, the base URL of an API, or a file
    #[command(name = "set-registry")]
    Set(SetRegistryArgs),
    /// Show which registry is asked
    #[command(name = "get-registry")]
    Get(ConfigFormat),
    /// Ask the built-in catalogue again
    #[command(name = "unset-registry")]
    Unset(ConfigFormat),
}

#[derive(Debug, Args)]
pub(crate) struct SetRegistryArgs {
    /// https://host/registry.json, https://host of an API, or the path of a document
    pub(crate) registry: String,
    /// Allow private addresses and plain HTTP
    #[arg(short = 'p', long)]
    pub(crate) allow_private_ip: bool,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFormat {
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}
