//! Pulls that are whole, and pulls that break in the middle.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use support::meddler::{Do, Meddler, version};
use support::raw::api;
use support::registry::Registry;
use support::{TestEngine, soon};
use thv_runtime::{Error, PullProgress, Result, Runtime};
use thv_runtime_docker::{DockerConfig, DockerRuntime};
use tokio::time::timeout;

async fn pulled(runtime: &DockerRuntime, reference: &str) -> (Vec<PullProgress>, Result<()>) {
    let images = runtime.images().unwrap();
    let mut progress = match images.pull(reference, None).await {
        Ok(progress) => progress,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut steps = Vec::new();
    while let Some(step) = progress.next().await {
        match step {
            Ok(step) => steps.push(step),
            Err(error) => {
                assert!(progress.next().await.is_none(), "nothing comes after a failure");
                return (steps, Err(error));
            }
        }
    }
    (steps, Ok(()))
}

#[tokio::test]
async fn a_pull_whose_answer_breaks_off_is_a_failure_that_may_be_tried_again() {
    for answer in [
        // Broken in the middle of a chunk, between two, and where only the end of the connection tells the end.
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30\r\n{\"status\":\"Pulling\"}\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n{\"status\":\"Pulling\"}\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n{\"status\":\"Pulling\"}\n",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let _engine = Meddler::open(&socket, Path::new("/nowhere"), move |_, call| match call {
            "GET /version" => version(),
            call if call.starts_with("POST /images/create") => Do::Send(answer),
            _ => Do::Answer(404, json!({"message": "No such image"})),
        });
        let runtime = DockerRuntime::new(DockerConfig::at(&socket));
        let (_, end) = soon("the end", pulled(&runtime, "example.test/fetch:1")).await;
        let error = end.unwrap_err();
        assert!(error.is_retryable(), "{answer:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_pull_shows_its_progress_and_goes_on_after_the_registry_broke_off() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let registry = Registry::start(1).await;
    let pull = pulled(&engine.runtime, &registry.reference);
    let (steps, end) = timeout(Duration::from_mins(2), pull).await.unwrap();
    end.unwrap();
    assert!(
        registry.asked.load(Ordering::Relaxed) > 1,
        "the layer did not break off"
    );
    assert!(
        steps
            .iter()
            .any(|step| step.layer.is_some() && step.current.is_some() && step.total > step.current),
        "{steps:?}"
    );
    let images = engine.runtime.images().unwrap();
    assert!(images.present(&registry.reference).await.unwrap());

    // A pull that is given up, and one whose registry is away, leave what is there.
    drop(images.pull(&registry.reference, None).await.unwrap());
    let reference = registry.reference.clone();
    drop(registry);
    let (_, end) = timeout(Duration::from_mins(2), pulled(&engine.runtime, &reference))
        .await
        .unwrap();
    assert!(matches!(end, Err(Error::PullFailed { .. })), "{end:?}");
    assert!(images.present(&reference).await.unwrap());
    let path = format!("/v1.41/images/{reference}");
    assert_eq!(api(engine.socket(), "DELETE", &path, &Value::Null).await.0, 200);
}
