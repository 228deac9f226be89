//! A machine in memory: managers over the same records, runtime and processes are processes on it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use thv_core::gojson::GoTime;
use thv_core::{Clock, Dirs, RunConfig, SystemClock, TransportType, WorkloadName, WorkloadStatus};
use thv_manager::{Manager, ManagerBuilder, RunOptions, RunOutcome, RunRequest, StartOptions, WaitFor};
use thv_process::MemoryProcesses;
use thv_runtime::{Instance, InstanceRef, InstanceState, MemoryRuntime, MemoryServer, Runtime, Runtimes};
use thv_state::{MemoryStateStore, StateStoreExt};
use thv_status::{Companion, MemoryStatusManager, OwnerState, Snapshot, StatusFile, StatusManager};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};

/// Who the managers of most tests are.
pub(crate) const APP: &str = "com.example.app";
pub(crate) const IMAGE: &str = "example.test/echo:1";

pub(crate) struct World {
    pub(crate) runtime: MemoryRuntime,
    pub(crate) state: Arc<MemoryStateStore>,
    pub(crate) status: MemoryStatusManager,
    pub(crate) processes: MemoryProcesses,
    clock: Arc<dyn Clock>,
    folder: TempDir,
}

impl World {
    /// A machine whose servers speak MCP.
    pub(crate) fn new() -> Self {
        Self::on(MemoryRuntime::new().with_server(mcp_server))
    }

    pub(crate) fn on(runtime: MemoryRuntime) -> Self {
        Self::at(runtime, Arc::new(SystemClock))
    }

    /// A machine with this clock.
    pub(crate) fn at(runtime: MemoryRuntime, clock: Arc<dyn Clock>) -> Self {
        Self {
            runtime,
            state: Arc::new(MemoryStateStore::new()),
            status: MemoryStatusManager::new().with_clock(clock.clone()),
            processes: MemoryProcesses::new(),
            clock,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn builder(&self, launcher: &str) -> ManagerBuilder {
        Manager::builder()
            .launcher_id(launcher)
            .dirs(Dirs::under(self.folder.path()))
            .runtimes(Runtimes::new().with(Arc::new(self.runtime.clone())))
            .state(self.state.clone())
            .status(Arc::new(self.status.clone()))
            .processes(Arc::new(self.processes.clone()))
    }

    pub(crate) fn manager(&self) -> Manager {
        self.manager_of(APP)
    }

    pub(crate) fn manager_of(&self, launcher: &str) -> Manager {
        self.builder(launcher).build().unwrap()
    }

    pub(crate) async fn snapshot(&self, name: &WorkloadName) -> Snapshot {
        self.status.read(name).await.unwrap()
    }

    pub(crate) async fn companion(&self, name: &WorkloadName) -> Companion {
        Arc::unwrap_or_clone(self.snapshot(name).await.companion.unwrap())
    }

    /// What the status file says.
    pub(crate) async fn status_of(&self, name: &WorkloadName) -> (WorkloadStatus, String) {
        let file = self.snapshot(name).await.status.unwrap();
        (file.status, file.status_context)
    }

    pub(crate) async fn config(&self, name: &WorkloadName) -> Option<RunConfig> {
        self.state.read_run_config(name).await.unwrap()
    }

    pub(crate) async fn instance(&self, name: &WorkloadName) -> Option<Instance> {
        self.runtime.clone().inspect(name).await.unwrap()
    }

    /// Whether an instance is there and runs.
    pub(crate) async fn runs(&self, name: &WorkloadName) -> bool {
        self.instance(name)
            .await
            .is_some_and(|instance| instance.state == InstanceState::Running)
    }

    pub(crate) async fn owner(&self, name: &WorkloadName) -> OwnerState {
        self.snapshot(name).await.owner
    }

    /// Waits until the status file says `status`.
    pub(crate) async fn until(&self, name: &WorkloadName, status: WorkloadStatus) {
        let told = eventually(|| async {
            let snapshot = self.snapshot(name).await;
            snapshot.status.is_some_and(|file| file.status == status)
        });
        assert!(
            told.await,
            "{name} is not {status}: {:?}",
            self.snapshot(name).await
        );
    }

    /// Waits longer until it is running.
    pub(crate) async fn until_running_within(&self, name: &WorkloadName, limit: Duration) {
        let running = async {
            while self.status_of(name).await.0 != WorkloadStatus::Running {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let in_time = tokio::time::timeout(limit, running).await;
        assert!(
            in_time.is_ok(),
            "{name} does not run: {:?}",
            self.snapshot(name).await
        );
    }

    /// Waits until nobody supervises the workload.
    pub(crate) async fn until_unowned(&self, name: &WorkloadName) {
        assert!(
            self.status
                .owner_free(name, Duration::from_secs(60))
                .await
                .unwrap(),
            "{name} is still owned"
        );
    }

    /// Nothing at all is left of the workload.
    pub(crate) async fn assert_nothing_of(&self, name: &WorkloadName) {
        let snapshot = self.snapshot(name).await;
        assert!(snapshot.companion.is_none(), "{snapshot:?}");
        assert!(snapshot.status.is_none(), "{snapshot:?}");
        assert_eq!(snapshot.owner, OwnerState::Dead);
        assert!(self.config(name).await.is_none(), "the configuration is left");
        assert!(self.instance(name).await.is_none(), "the instance is left");
    }

    /// It is stopped, its configuration is kept, and its port can be bound.
    pub(crate) async fn assert_stopped(&self, name: &WorkloadName) {
        let snapshot = self.snapshot(name).await;
        assert_eq!(
            snapshot.status.as_ref().map(|file| file.status),
            Some(WorkloadStatus::Stopped),
            "{snapshot:?}"
        );
        assert_eq!(snapshot.owner, OwnerState::Dead);
        assert!(!self.runs(name).await, "its instance runs");
        let config = self.config(name).await.expect("its configuration is kept");
        assert_can_bind(config.port);
    }

    /// Deletes the run configuration, as somebody would by hand.
    pub(crate) async fn state_forgets(&self, workload: &str) {
        self.state.delete_run_config(&name(workload)).await.unwrap();
    }

    /// Removes the workload as ToolHive would: it knows nothing of our record.
    pub(crate) async fn toolhive_removes(&self, name: &WorkloadName) {
        if let Some(instance) = self.instance(name).await {
            let which = InstanceRef::exact(name.clone(), instance.id);
            self.runtime.clone().remove(&which).await.unwrap();
        }
        self.status.write_status_file(name, None);
        self.state.delete_run_config(name).await.unwrap();
    }

    /// Writes the status file as ToolHive would.
    pub(crate) fn toolhive_writes(&self, name: &WorkloadName, status: WorkloadStatus, pid: i64) {
        self.toolhive_wrote(name, status, pid, "2026-08-21T10:12:00Z".parse().unwrap());
    }

    /// The same, at a time after its process began.
    pub(crate) fn toolhive_writes_now(&self, name: &WorkloadName, status: WorkloadStatus, pid: i64) {
        self.toolhive_wrote(name, status, pid, GoTime::from(&self.clock.now()));
    }

    fn toolhive_wrote(&self, name: &WorkloadName, status: WorkloadStatus, pid: i64, now: GoTime) {
        let mut file = StatusFile::new(status, now);
        file.updated_at = now;
        file.process_id = pid;
        file.status_context = "written by another program".into();
        self.status.write_status_file(name, Some(file.to_bytes()));
    }
}

pub(crate) fn name(text: &str) -> WorkloadName {
    WorkloadName::new(text).unwrap()
}

/// A stdio server of [`IMAGE`].
pub(crate) fn request(name: &str) -> RunRequest {
    RunRequest {
        name: Some(name.into()),
        transport: Some(TransportType::Stdio),
        ..RunRequest::new(IMAGE)
    }
}

pub(crate) fn until_ready() -> RunOptions {
    RunOptions {
        wait: WaitFor::Ready(Duration::from_secs(60)),
        ..RunOptions::default()
    }
}

pub(crate) fn replacing() -> RunOptions {
    RunOptions {
        replace: true,
        ..until_ready()
    }
}

pub(crate) fn start_until_ready() -> StartOptions {
    StartOptions {
        wait: WaitFor::Ready(Duration::from_secs(60)),
        ..StartOptions::default()
    }
}

/// Runs `name` and waits until it is ready.
pub(crate) async fn run(manager: &Manager, name: &str) -> RunOutcome {
    let outcome = manager.run(request(name), until_ready()).await.unwrap();
    assert!(outcome.ready);
    outcome
}

/// Polls `condition` until it holds; `false` after ten seconds of tokio's time without it.
pub(crate) async fn eventually<F, Fut>(mut condition: F) -> bool
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let polling = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), polling)
        .await
        .is_ok()
}

#[track_caller]
pub(crate) fn assert_can_bind(port: u16) {
    assert_ne!(port, 0);
    if let Err(error) = std::net::TcpListener::bind(("127.0.0.1", port)) {
        panic!("port {port} cannot be bound: {error}");
    }
}

/// A server that speaks MCP, and ends when it is asked to.
pub(crate) async fn mcp_server(mut server: MemoryServer) -> i64 {
    let term = server.term.clone();
    loop {
        let line = tokio::select! {
            biased;
            () = term.cancelled() => return 143,
            line = server.next_line() => line,
        };
        let Some(line) = line else { return 0 };
        if let Some(answer) = answer(&line) {
            server.write_line(&answer).await;
        }
    }
}

/// What an MCP server answers to one line; nothing to a notification.
pub(crate) fn answer(line: &str) -> Option<String> {
    let message: Value = serde_json::from_str(line).ok()?;
    let id = message.get("id")?;
    let result = match message["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "memory", "version": "1"},
        }),
        "tools/call" => json!({
            "content": [{"type": "text", "text": message["params"]["arguments"]["text"]}],
        }),
        _ => json!({}),
    };
    Some(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
}

pub(crate) fn initialize() -> Value {
    json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    })
}

/// Time that is paused stands still until what this gives is dropped. Otherwise it goes on whenever nothing of this process
/// can, though bytes may be on their way through the kernel.
#[must_use]
pub(crate) fn time_stands_still() -> oneshot::Sender<()> {
    let (end, held) = oneshot::channel();
    tokio::task::spawn_blocking(move || held.blocking_recv());
    end
}

/// Posts a JSON-RPC message to a workload's URL, to be answered at once; the whole response as text.
pub(crate) async fn post(url: &str, message: &Value) -> std::io::Result<String> {
    let _still = time_stands_still();
    exchange(url, message).await
}

/// The same of one that is answered after a while. Time goes on when the server has it, which `called` says.
pub(crate) async fn post_slow(url: &str, message: &Value, called: &Notify) -> std::io::Result<String> {
    let still = time_stands_still();
    let heard = async {
        called.notified().await;
        drop(still);
    };
    tokio::join!(exchange(url, message), heard).0
}

/// Posts a JSON-RPC message to a workload's URL, whatever becomes of time meanwhile.
pub(crate) async fn exchange(url: &str, message: &Value) -> std::io::Result<String> {
    let (authority, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let path = path.split('#').next().unwrap();
    let body = message.to_string();
    let mut stream = tokio::net::TcpStream::connect(authority).await?;
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}
