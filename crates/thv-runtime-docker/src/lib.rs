//! Runs MCP workloads as containers of Docker, Podman and compatible engines.
//!
//! ```no_run
//! use thv_core::{Dirs, Env};
//! use thv_runtime::{DeploySpec, InstanceRef, Runtime};
//! use thv_runtime_docker::{DockerConfig, DockerRuntime};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let env = Env::from_vars(std::env::vars_os());
//! let dirs = Dirs::from_env(&env)?;
//! let docker = DockerRuntime::connect(DockerConfig::discover(env, dirs)?).await?;
//! let spec = DeploySpec::new("fetch".parse()?, "example.test/fetch:1");
//! let deployment = docker.deploy(&spec).await?;
//! let stdio = docker.attach(&InstanceRef::exact(spec.name, deployment.instance.id)).await?;
//! # drop(stdio);
//! # Ok(())
//! # }
//! ```
//!
//! # Where the engine is
//!
//! The first of these that is set is the only place that is tried: the configured socket, `TOOLHIVE_PODMAN_SOCKET`,
//! `TOOLHIVE_DOCKER_SOCKET`, `TOOLHIVE_COLIMA_SOCKET`, `DOCKER_HOST`, the active context of Docker (`DOCKER_CONTEXT`, or what
//! `docker context use` wrote). Otherwise the usual sockets of Podman, Docker, Docker Desktop, Rancher Desktop, OrbStack
//! and Colima, in this order; the first that answers is kept.
//!
//! `unix://` is spoken, and `tcp://` with TLS: with the certificates in `DOCKER_CERT_PATH`, or those of the context, and never
//! with whoever answers. Without TLS a TCP port must be one of loopback. An engine on another machine runs servers that speak
//! stdio; its ports and folders are not those here, so servers that speak HTTP, and mounts, are refused. SSH is not spoken:
//! forward the socket.
//!
//! # What a container looks like
//!
//! As ToolHive makes it (labels, the network `toolhive-external`, all capabilities dropped), except that the restart policy
//! is `no`, that standard input ends with its attachment, that no program gets new privileges, and that there is an init
//! process and an end to the log where the engine has them. Deploying never pulls. The API is spoken directly, with
//! hyper: bodies carry secrets, and a general client logs them.
//!
//! # Isolated networks
//!
//! A container with [`isolate_network`](thv_runtime::DeploySpec::isolate_network) has nothing but loopback. What its
//! [`Egress`](thv_runtime::Egress) allows goes through two containers beside it, with the program
//! [`egress_helper`](DockerConfig::egress_helper); which addresses are the host's is read anew for each connection. Where that cannot be had,
//! [`Capabilities::isolation_lacks`](thv_runtime::Capabilities::isolation_lacks) says why, and the deployment is refused.

mod address;
mod config;
mod connection;
mod context;
mod discovery;
mod docker_runtime;
mod helper_program;

mod deploy;
mod helpers;
mod host_addresses;
mod isolation;
mod last_words;
mod stop;

mod remove;

mod attach;
mod events;
mod first_process;
mod logs;

mod images;
mod lookup;
mod network;
mod turns;

mod container;
mod engine;
mod entries;
mod error;
mod files;
mod http;
mod lines;
mod quirks;
mod tls;
mod wire;

pub use config::DockerConfig;
pub use discovery::Flavour;
pub use docker_runtime::{DockerRuntime, EngineInfo};
