//! Manages the whole life of MCP workloads: run, supervise, stop, start, delete, list, log.
//!
//! A [`Manager`] is made of parts behind traits: runtimes, a state store, a status manager, processes, secrets
//! and a [`Launcher`] that decides where supervisors live. The umbrella crate `thv` wires them with defaults; here
//! they are all in memory:
//!
//! ```
//! use std::sync::Arc;
//! use thv_core::{Dirs, SystemClock};
//! use thv_manager::{ListOptions, Manager};
//! use thv_process::MemoryProcesses;
//! use thv_runtime::{MemoryRuntime, Runtimes};
//! use thv_state::MemoryStateStore;
//! use thv_status::MemoryStatusManager;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let processes = Arc::new(MemoryProcesses::new());
//! let manager = Manager::builder()
//!     .launcher_id("com.example.app")
//!     .dirs(Dirs::under("/nowhere"))
//!     .runtimes(Runtimes::new().with(Arc::new(MemoryRuntime::new())))
//!     .state(Arc::new(MemoryStateStore::new()))
//!     .status(Arc::new(MemoryStatusManager::new()))
//!     .processes(processes)
//!     .build()?;
//! assert!(manager.list(ListOptions::default()).await?.workloads.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! A test of an application needs neither processes nor time: its servers are scripts, what is waited for has passed at
//! once, and nothing of the machine is used but a port of loopback for each proxy.
//!
//! ```
//! # use std::sync::Arc;
//! # use futures_util::StreamExt;
//! # use serde_json::{Value, json};
//! # use thv_core::{Dirs, TransportType, WorkloadStatus};
//! # use thv_manager::{Manager, RunOptions, RunRequest, ShutdownMode, WaitFor, WatchEvent, WatchFrom};
//! # use thv_process::MemoryProcesses;
//! # use thv_runtime::{MemoryRuntime, Runtimes};
//! # use thv_state::MemoryStateStore;
//! # use thv_status::MemoryStatusManager;
//! # use tokio::time::{Duration, Instant};
//! #[tokio::main(flavor = "current_thread", start_paused = true)] // or `tokio::test`
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let runtime = MemoryRuntime::new().with_server(|mut server| async move {
//!         while let Some(line) = server.next_line().await {
//!             let asked: Value = serde_json::from_str(&line).unwrap_or_default();
//!             if asked["method"] == "initialize" {
//!                 let version = &asked["params"]["protocolVersion"];
//!                 let info = json!({"name": "mine", "version": "1"});
//!                 let result = json!({"protocolVersion": version, "capabilities": {}, "serverInfo": info});
//!                 let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result});
//!                 server.write_line(&answer.to_string()).await;
//!             }
//!         }
//!         0
//!     });
//!     let manager = Manager::builder()
//!         // … as above
//! #       .launcher_id("com.example.app")
//! #       .dirs(Dirs::under("/nowhere"))
//! #       .state(Arc::new(MemoryStateStore::new()))
//! #       .status(Arc::new(MemoryStatusManager::new()))
//! #       .processes(Arc::new(MemoryProcesses::new()))
//!         .runtimes(Runtimes::new().with(Arc::new(runtime.clone())))
//!         .build()?;
//!     let request = RunRequest { transport: Some(TransportType::Stdio), ..RunRequest::new("example.test/mine:1") };
//!     let options = RunOptions { wait: WaitFor::Ready(Duration::from_secs(60)), ..RunOptions::default() };
//!     let up = manager.run(request, options).await?;
//!
//!     // Its server dies, and is started again after five seconds.
//!     let mut changes = manager.watch(WatchFrom::Now).await?;
//!     let died = Instant::now();
//!     runtime.exit(&up.name, 1);
//!     while let Some(changed) = changes.next().await {
//!         if matches!(&changed.event, WatchEvent::Changed(now) if now.status == WorkloadStatus::Running) {
//!             break;
//!         }
//!     }
//!     assert!(died.elapsed() >= Duration::from_secs(5));
//!     manager.shutdown(ShutdownMode::Stop).await?;
//!     Ok(())
//! }
//! ```
//!
//! Every verb may be dropped: it releases what it holds, and the next verb on the same workload goes on from there
//! ([what is left](Manager#dropping-a-verb)).
//!
//! # Features
//! - `registry`: servers by their names in a registry (`thv-registry`).

#![cfg_attr(docsrs, feature(doc_cfg))]

mod manager;

mod delete;
mod engine;
mod foreground;
mod groups;
mod list;
mod logs;
#[cfg(feature = "registry")]
mod look_up;
mod pulls;
mod reconcile;
mod run;
mod secrets;
mod seen;
mod start;
mod status;
mod stop;
mod update;

mod batch;
mod events;
mod feed;
mod listener;
mod options;
mod request;

mod launch;
mod launcher;
mod supervisor;

mod deploy_spec;
mod error;
#[cfg(feature = "registry")]
mod identity;
mod image;
mod journal;
mod kept_image;
mod middleware;
mod owner;
mod parts;
mod ports;
mod proxy;
mod remotes;
mod toolhive;
mod tuning;
mod view;
mod wait_runtime;

#[doc(no_inline)]
pub use async_trait::async_trait;
pub use batch::{Batch, BatchFuture, BatchResult};
pub use error::{Error, Override, Result};
pub use events::{Cursor, Watch, WatchEvent, WatchFrom, Watched, WorkloadState};
pub use foreground::{ForegroundEnd, ForegroundOptions};
pub use groups::{DeletedGroup, Group, GroupList, GroupMembers};
#[cfg(feature = "registry")]
pub use identity::expected_identity;
pub use launcher::{Detached, InProcess, LaunchOrder, LaunchState, Launcher, SupervisorHost};
pub use logs::Lines;
#[cfg(feature = "registry")]
pub use look_up::{LookUp, may_be_entry};
pub use manager::{Manager, ManagerBuilder};
pub use options::{
    ImageTerms, ListOptions, ListOutcome, LogRequest, RollbackPolicy, RunOptions, RunOutcome, ShutdownMode,
    StartOptions, StopOptions, StopOutcome, UpdateOptions, WaitFor, WorkloadReport,
};
pub use ports::{MemoryPorts, Ports, SystemPorts};
pub use pulls::{PullState, PullWatcher};
pub use reconcile::{ReconcileAction, Reconciled};
pub use remotes::{MemoryRemotes, NetworkRemotes, Remotes};
#[cfg(feature = "registry")]
pub use request::{EntryOrigin, EntryPlan, MissingValue};
pub use request::{FileEntry, Files, MemoryFiles, RequestField, RunRequest, SystemFiles};
#[doc(no_inline)]
pub use tokio_util::sync::CancellationToken;
pub use update::PreparedUpdate;
