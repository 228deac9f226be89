//! The flags of `secret`, and the one that gives the password.

use clap::{Args, Subcommand};

use super::Format;

/// Where the password of encrypted secrets comes from.
#[derive(Debug, Default, Args)]
#[group(skip)]
pub(crate) struct PasswordArgs {
    /// Read the password of encrypted secrets from this file descriptor, not from the keyring
    #[arg(long, value_name = "FD")]
    pub(crate) secrets_password_fd: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Set up where secrets are kept: asks, or takes what is named
    Setup(SecretSetupArgs),
    /// Say where secrets are kept: encrypted, environment or none
    Provider(SecretProviderArgs),
    /// Set a secret: its value is asked for, or read from standard input
    Set(SecretNameArgs),
    /// Write the value of a secret to standard output
    Get(SecretNameArgs),
    /// Delete a secret
    Delete(SecretNameArgs),
    /// List secrets, without their values
    #[command(visible_alias = "ls")]
    List(SecretListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SecretSetupArgs {
    /// encrypted, environment or none
    pub(crate) provider: Option<String>,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SecretProviderArgs {
    /// encrypted, environment or none
    pub(crate) provider: String,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SecretNameArgs {
    /// The secret
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SecretListArgs {
    /// How to write
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
}
