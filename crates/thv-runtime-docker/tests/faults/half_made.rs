//! What a deployment made that did not come to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use thv_runtime::{DeployOutcome, DeploySpec, Runtime};
use tokio::sync::Notify;

use crate::support::fake::{Fake, one_that, usual};
use crate::support::meddler::Do;
use crate::support::raw::api;
use crate::support::{TestEngine, unique_name, until};

const REMOVAL: &str = "DELETE /containers/abc";

#[tokio::test]
async fn a_container_that_ended_at_once_is_removed() {
    let state = json!({"Status": "exited", "ExitCode": 3});
    let fake = Fake::new(move |call| match call {
        "GET /containers/abc/json" => one_that(&state),
        call => usual(call),
    });
    let spec = DeploySpec::new(unique_name(), "fetch");
    let error = fake.runtime.deploy(&spec).await.unwrap_err();
    assert_eq!(error.code(), "start_failed", "{error:?}");
    assert_eq!(fake.count(REMOVAL), 1);
}

#[tokio::test]
async fn a_container_that_nobody_waits_for_any_more_is_removed_once_it_runs() {
    let dropped = Arc::new(Notify::new());
    let waits = Arc::clone(&dropped);
    let fake = Fake::new(move |call| match call {
        // It takes its time.
        "POST /containers/abc/start" => Do::After(Arc::clone(&waits), Box::new(usual(call))),
        call => usual(call),
    });
    let spec = DeploySpec::new(unique_name(), "fetch");
    let starts = until("the start", async || {
        (fake.count("POST /containers/abc/start") > 0).then_some(())
    });
    tokio::select! {
        () = starts => {}
        deployed = fake.runtime.deploy(&spec) => panic!("{deployed:?}"),
    }
    dropped.notify_one();
    until("the removal", async || (fake.count(REMOVAL) > 0).then_some(())).await;
}

/// The engine was still at it when the connection broke off.
#[tokio::test]
async fn a_container_that_appears_after_its_creation_broke_off_is_removed() {
    let (broken, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let spec = DeploySpec::new(unique_name(), "fetch");
    let name = spec.name.to_string();
    let inspection = format!("GET /containers/{name}/json");
    let fake = Fake::new(move |call| match call {
        call if call.starts_with("POST /containers/create") => {
            broken.store(true, Ordering::Relaxed);
            Do::CutBefore
        }
        call if call == inspection
            && broken.load(Ordering::Relaxed)
            && looks.fetch_add(1, Ordering::Relaxed) > 0 =>
        {
            let labels = json!({"toolhive": "true", "toolhive-name": name, "toolhive-basename": name});
            let made = json!({"Id": "abc", "Name": format!("/{name}"), "State": {"Status": "created"},
                "Config": {"Labels": labels}, "HostConfig": {}});
            Do::Answer(200, made)
        }
        call => usual(call),
    });
    let error = fake.runtime.deploy(&spec).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(fake.count(REMOVAL), 1);
}

#[tokio::test]
async fn what_a_deployment_left_that_died_is_replaced_by_the_next() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let spec = engine.spec(&["echo"]);
    let name = spec.name.as_str();
    let mut body = json!({
        "Image": engine.image, "Cmd": ["echo"],
        "Labels": {"toolhive": "true", "toolhive-name": name, "toolhive-basename": name},
    });
    let create = format!("/v1.41/containers/create?name={name}");
    let (status, answer) = api(engine.socket(), "POST", &create, &body).await;
    assert_eq!(status, 201, "{answer}");
    let deployed = engine.runtime.deploy(&spec).await.unwrap();
    assert_eq!(deployed.outcome, DeployOutcome::Created);
    engine.remove(&spec.name).await;

    // Somebody else's is not touched.
    body["Labels"]["toolhive-basename"] = json!("another");
    let (status, answer) = api(engine.socket(), "POST", &create, &body).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(engine.runtime.deploy(&spec).await.unwrap_err().code(), "conflict");
    let (status, _) = api(
        engine.socket(),
        "DELETE",
        &format!("/v1.41/containers/{name}"),
        &Value::Null,
    )
    .await;
    assert_eq!(status, 204);
}
