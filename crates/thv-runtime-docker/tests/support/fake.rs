//! An engine that is none: what it answers to each call a test says.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use thv_runtime_docker::{DockerConfig, DockerRuntime};

use super::meddler::{Do, Meddler, version};

/// Such an engine, and a runtime over it.
pub(crate) struct Fake {
    _folder: tempfile::TempDir,
    pub(crate) engine: Meddler,
    pub(crate) runtime: DockerRuntime,
}

impl Fake {
    /// A busy machine may let its answers wait.
    pub(crate) fn new(decide: impl Fn(&str) -> Do + Send + Sync + 'static) -> Self {
        Self::with(|_| {}, decide)
    }

    /// For answers that never come.
    pub(crate) fn impatient(decide: impl Fn(&str) -> Do + Send + Sync + 'static) -> Self {
        let soon = Duration::from_millis(200);
        let soon = |config: &mut DockerConfig| (config.connect_timeout, config.call_timeout) = (soon, soon);
        Self::with(soon, decide)
    }

    pub(crate) fn with(
        change: impl Fn(&mut DockerConfig),
        decide: impl Fn(&str) -> Do + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let engine = Meddler::open(&socket, Path::new("/nowhere"), move |_, call| decide(call));
        let mut config = DockerConfig::at(&socket);
        change(&mut config);
        Self {
            _folder: folder,
            engine,
            runtime: DockerRuntime::new(config),
        }
    }

    /// How often this was called, whatever follows.
    pub(crate) fn count(&self, call: &str) -> usize {
        let calls = self.engine.calls();
        calls.iter().filter(|made| made.starts_with(call)).count()
    }
}

/// What an engine answers that has a network `n` and makes one container `abc`, which runs once it was started.
pub(crate) fn usual(call: &str) -> Do {
    match call {
        "GET /version" => version(),
        "GET /info" => Do::Answer(200, json!({})),
        call if call.starts_with("GET /networks") => Do::Answer(200, networks(&["n"])),
        call if call.starts_with("GET /containers/json") => Do::Answer(200, json!([])),
        call if call.starts_with("POST /containers/create") => {
            Do::Answer(201, json!({"Id": "abc", "Warnings": []}))
        }
        "GET /containers/abc/json" => one_that(&json!({"Status": "running"})),
        "POST /containers/abc/start" => Do::Answer(204, Value::Null),
        call if call.starts_with("DELETE /") => Do::Answer(204, Value::Null),
        _ => Do::Answer(404, json!({"message": "no"})),
    }
}

/// A look at `abc` in this state.
pub(crate) fn one_that(state: &Value) -> Do {
    Do::Answer(
        200,
        json!({"Id": "abc", "Name": "/fetch", "State": state, "Config": {}, "HostConfig": {}}),
    )
}

/// The shared network, under each of these ids.
pub(crate) fn networks(ids: &[&str]) -> Value {
    let labels = json!({"toolhive": "true"});
    let all = ids.iter();
    all.map(|id| json!({"Id": id, "Name": "toolhive-external", "Labels": labels}))
        .collect()
}
