//! Secret providers for MCP workloads.
//!
//! A run config names secrets, it never holds them. Their values come from a [`SecretProvider`] in the moment in
//! which a workload starts, as [`SecretString`], which no `Debug` and no log shows. [`choose`] says which
//! provider a machine is set up for and [`open`] gives it; [`UserSecrets`] is the view that people and run configs
//! get, [`ScopedSecrets`] the one for what the system itself keeps (tokens, client secrets).
//!
//! ```
//! use secrecy::ExposeSecret;
//! use thv_core::{Dirs, Env};
//! use thv_secrets::{Configured, NoKeyring, Password, SecretProvider, UserSecrets, choose, open};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> thv_secrets::Result<()> {
//! let env = Env::from_vars([("TOOLHIVE_SECRETS_PROVIDER", "environment"), ("TOOLHIVE_SECRET_github", "t0ken")]);
//! let kind = choose(&env, &Configured::default())?;
//! // What matters to the encrypted file alone: where it is, and who knows its password.
//! let password = Password::from_keyring(std::sync::Arc::new(NoKeyring));
//! let secrets = UserSecrets::new(open(kind, &env, &Dirs::under("/nowhere"), password)?);
//!
//! assert_eq!(secrets.get("github").await?.expose_secret(), "t0ken");
//! assert_eq!(secrets.get("gitlab").await.unwrap_err().code(), "secret_not_found");
//! assert!(!format!("{secrets:?}").contains("t0ken"));
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! - `keyring` (default): the password of encrypted secrets in the keyring of the desktop session.
//! - `contract`: the suite that every [`SecretProvider`] passes, for the tests of an implementation.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod error;
mod provider;
mod revisions;

mod choice;
mod encrypted;
mod environment_provider;
mod fallback_provider;
mod memory_provider;
mod none_provider;
mod scoped_provider;
mod user_provider;

#[cfg(feature = "contract")]
pub mod contract;

#[doc(no_inline)]
pub use async_trait::async_trait;
pub use choice::{Configured, PROVIDER_VARIABLE, ProviderKind, choose, open};
#[cfg(feature = "keyring")]
pub use encrypted::SystemKeyring;
pub use encrypted::{EncryptedSecrets, KEYRING_ACCOUNT, KEYRING_SERVICE, Keyring, NoKeyring, Password};
pub use environment_provider::{EnvironmentSecrets, VARIABLE_PREFIX};
pub use error::{Result, SecretError};
pub use fallback_provider::{DISABLE_FALLBACK_VARIABLE, FallbackSecrets};
pub use memory_provider::MemorySecrets;
pub use none_provider::NoSecrets;
pub use provider::{Capabilities, SecretEntry, SecretProvider};
pub use revisions::{Revisions, Stale};
pub use scoped_provider::{Scope, ScopedSecrets};
pub use secrecy::{ExposeSecret, SecretString};
pub use user_provider::{RESERVED_PREFIX, UserSecrets};
