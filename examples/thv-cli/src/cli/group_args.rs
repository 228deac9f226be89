//! The flags of `group`.

use clap::{Args, Subcommand};

use super::Format;

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Create a group
    Create {
        /// The group: lower-case letters, digits, '_', '-' and spaces
        name: String,
    },
    /// List groups
    #[command(visible_alias = "ls")]
    List {
        /// How to write
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Delete a group; its MCP servers go to the group "default" and run on
    #[command(visible_alias = "delete")]
    Rm(GroupDeleteArgs),
    /// Move MCP servers to another group; they run on
    Move(GroupMoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GroupDeleteArgs {
    /// The group
    pub(crate) name: String,
    /// Also delete its MCP servers
    #[arg(long)]
    pub(crate) with_workloads: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct GroupMoveArgs {
    /// The MCP servers
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    /// The group that they go to
    #[arg(long, value_name = "GROUP")]
    pub(crate) to: String,
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}
