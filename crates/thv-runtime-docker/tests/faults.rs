//! Engines that stall, break off, or refuse a part: no call hangs, and nothing half-made stays.

mod support;

use std::path::Path;
use std::time::Duration;

use support::meddler::{Do, Meddler, version};
use support::soon;
use thv_runtime::Runtime;
use thv_runtime_docker::{DockerConfig, DockerRuntime};

const HEADERS_AND_A_BYTE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[";

/// There is no engine behind the socket.
const NOBODY: &str = "/nowhere/engine.sock";

fn impatient(socket: &Path) -> DockerRuntime {
    let mut config = DockerConfig::at(socket);
    config.connect_timeout = Duration::from_millis(200);
    config.call_timeout = Duration::from_millis(200);
    DockerRuntime::new(config)
}

#[tokio::test]
async fn an_answer_that_stops_after_its_headers_is_not_waited_for() {
    for stalled in ["/version", "/containers/json", "/_ping", "/images/x/json"] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let _engine = Meddler::open(&socket, Path::new(NOBODY), move |_, call| match call {
            call if call.contains(stalled) => Do::Stall(HEADERS_AND_A_BYTE),
            "GET /version" => version(),
            _ => Do::Answer(404, serde_json::json!({"message": "no"})),
        });
        let runtime = impatient(&socket);
        let images = runtime.images().unwrap();
        let error = match stalled {
            "/_ping" => soon("the ping", runtime.ping()).await.unwrap_err(),
            "/images/x/json" => soon("the image", images.present("x")).await.unwrap_err(),
            _ => soon("the list", runtime.list()).await.unwrap_err(),
        };
        assert!(error.is_retryable(), "{stalled}: {error:?}");
    }
}

#[tokio::test]
async fn who_waits_for_a_search_that_fails_does_not_search_again() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let engine = Meddler::open(&socket, Path::new(NOBODY), |_, _| Do::Stall(HEADERS_AND_A_BYTE));
    let runtime = impatient(&socket);
    let lists = futures_util::future::join_all((0..20).map(|_| runtime.list()));
    let lists = soon("the lists", lists).await;
    assert!(lists.iter().all(Result::is_err));
    assert!(engine.calls().len() < 4, "{:?}", engine.calls());
}
