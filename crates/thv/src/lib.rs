//! Everything that manages the life of MCP workloads, under one roof, and the usual wiring.
//!
//! The modules are the crates of the project; [`manager_from_env`] puts a [`manager::Manager`] together as the command
//! line has it: files where ToolHive keeps them, a container engine found on first use, programs of this host, and
//! secrets where the configuration file says. Each part can be replaced before `build`.
//!
//! ```
//! use thv::core::{Dirs, Env};
//! use thv::manager::ListOptions;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let home = folder.path();
//! let manager = thv::manager_in(Dirs::under(home), Env::default())?.launcher_id("com.example.app").build()?;
//! let all = ListOptions { all: true, ..ListOptions::default() };
//! for workload in manager.list(all).await?.workloads {
//!     println!("{} {}", workload.name, workload.status);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A server is run with the proxy that its clients talk to:
//!
//! ```no_run
//! use thv::core::Env;
//! use thv::manager::{RunOptions, RunRequest, StopOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let manager = thv::manager_from_env(Env::from_vars(std::env::vars_os()))?.launcher_id("com.example.app").build()?;
//! let fetch = RunRequest::new("ghcr.io/stackloklabs/gofetch/server:1.0.6");
//! let up = manager.run(fetch, RunOptions::default()).await?;
//! println!("{} serves at {}", up.name, up.url);
//! manager.stop(&up.name, StopOptions::default()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! - `docker` (default): containers of Docker, Podman and compatible engines.
//! - `image` (default): images are resolved and verified before they run. Without it they run as the engine gives them.
//! - `local` (default): processes of this host, without an engine.
//! - `registry` (default): servers by their names in a registry, and the configuration file that says which one.
//! - `keyring` (default): the password of encrypted secrets in the keyring of the desktop session.
//! - `catalog` (default): a registry that is part of the program.
//! - `crash-points`: for drills only: processes kill themselves between two effects when they are told to.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "registry")]
mod registry_wiring;
mod secrets_wiring;
mod wiring;

#[cfg(feature = "registry")]
pub use registry_wiring::{registry_from_env, registry_in};
pub use secrets_wiring::{secrets_in, system_keyring};
pub use thv_config as config;
pub use thv_core as core;
pub use thv_files as files;
pub use thv_image as image;
pub use thv_labels as labels;
pub use thv_manager as manager;
pub use thv_process as process;
pub use thv_proxy as proxy;
#[cfg(feature = "registry")]
pub use thv_registry as registry;
pub use thv_runtime as runtime;
#[cfg(feature = "docker")]
pub use thv_runtime_docker as runtime_docker;
#[cfg(feature = "local")]
pub use thv_runtime_local as runtime_local;
pub use thv_secrets as secrets;
pub use thv_state as state;
pub use thv_status as status;
#[cfg(feature = "registry")]
pub use thv_upgrade as upgrade;
#[cfg(feature = "image")]
pub use wiring::image_gate;
pub use wiring::{config_in, manager_from_env, manager_in, manager_with};
