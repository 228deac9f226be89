//! Runs MCP workloads as supervised local processes, without a container engine.
//!
//! [`LocalRuntime`] is a [`Runtime`](thv_runtime::Runtime) whose instances are processes of this user. Each has a
//! record on disk (`lifecycle/instances/<name>.json`, mode 0600), written before the program is started and completed
//! after, so any process can inspect, list, log, stop and remove it. A random token in the record and in the
//! environment of its processes (`TOOLHIVE_INSTANCE`) finds what was started and not yet recorded. No value of the
//! environment is ever on disk.
//!
//! # What ends with a server
//! Everything that it started. Each server is [contained](thv_process::DetachedSpec::contained): where this process may
//! make one (`CAP_SYS_ADMIN`), in a pid namespace with a `/proc` of its own and private mounts, elsewhere below a
//! subreaper. In a namespace a server sees its own processes only;
//! [`LinuxProcesses::without_pid_namespaces`](thv_process::LinuxProcesses::without_pid_namespaces) is for those that
//! must see the machine's. User namespaces are not used: they would change what a server sees as its user and as the
//! owners of files. `stop` asks all processes (SIGTERM); when the server itself has ended, or the grace is over, the
//! rest is killed. A server that outlived the value that deployed it is stopped before the next deployment, never reused.
//!
//! # What is run
//! `exec:///absolute/program`, `uvx://package[@version]` and `npx://package[@version]`. The last two need `uvx` and
//! `npx` on the `PATH` of [`LocalConfig::env`].
//!
//! # What a server gets
//! A session of its own; its working directory and `HOME` are a private folder, `TMPDIR` one below it. Its
//! environment is `PATH`, `HOME`, `TMPDIR`, `LANG`, the caches of uvx and npx (`UV_CACHE_DIR`, `UV_TOOL_DIR`,
//! `UV_PYTHON_INSTALL_DIR`, `npm_config_cache`), the deployment's own variables, and nothing else. Standard error,
//! and an HTTP server's standard output, go to `lifecycle/logs/<name>.log`, which survives the proxy. Folder and log
//! are the workload's: they stay when an instance is replaced, and go with `remove`. The log is rotated while it is written
//! ([`LocalConfig::log_rotation`]), by the process that deployed the server; what is said after the end of that is lost.
//!
//! # What it does not do
//! There is no sandbox: limits, mounts, published ports and network isolation are refused when asked for. Standard
//! input and output of a stdio server belong to the process that deployed it; nobody else can attach.
//!
//! ```
//! # #[cfg(target_os = "linux")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use thv_core::{Dirs, Env};
//! use thv_runtime::{DeploySpec, InstanceRef, Runtime};
//! use thv_runtime_local::{LocalConfig, LocalRuntime};
//! use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
//!
//! let root = tempfile::tempdir()?;
//! let env = Env::from_vars(std::env::vars_os());
//! let runtime = LocalRuntime::new(LocalConfig::new(Dirs::under(root.path()), env, thv_process::system()?)?);
//! let spec = DeploySpec::new("echo".parse()?, "exec:///bin/cat");
//! runtime.deploy(&spec).await?;
//! let which = InstanceRef::named(spec.name);
//! let mut stdio = runtime.attach(&which).await?;
//! stdio.stdin.write_all(b"hello\n").await?;
//! assert_eq!(BufReader::new(stdio.stdout).lines().next_line().await?.as_deref(), Some("hello"));
//! runtime.remove(&which).await?;
//! # Ok(())
//! # }
//! # #[cfg(not(target_os = "linux"))]
//! # fn main() {}
//! ```

mod config;
mod error;
mod events;
mod files;
mod log_writer;
mod owned;
mod program;
mod record;
mod runtime;
mod tree;

pub use config::LocalConfig;
pub use runtime::LocalRuntime;
