//! What the engine tells, and what it need not.

mod support;

use futures_util::StreamExt;
use serde_json::{Value, json};
use support::meddler::{Do, Meddler};
use support::raw::{Front, api};
use support::{TestEngine, soon};
use thv_runtime::{EventFilter, EventKind, Runtime};
use thv_runtime_docker::{DockerConfig, DockerRuntime, Flavour};

#[tokio::test]
async fn events_say_gap_after_the_engine_was_away() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let front = Front::open(&socket, engine.socket());
    let runtime = DockerRuntime::new(DockerConfig::at(&socket));
    let spec = engine.spec(&["echo"]);
    let mut events = runtime.events(EventFilter::of(spec.name.clone())).await.unwrap();
    let mut next = async || soon("an event", events.next()).await.unwrap().unwrap().kind;
    assert_eq!(next().await, EventKind::Synced);
    drop(front);
    let _front = Front::open(&socket, engine.socket());
    assert_eq!(next().await, EventKind::Gap);
    engine.runtime.deploy(&spec).await.unwrap();
    assert_eq!(next().await, EventKind::Created);
    // Another test may take the shared network away in between: then it is made once more.
    let started = async { while next().await != EventKind::Started {} };
    soon("the start", started).await;
    engine.remove(&spec.name).await;
}

/// A supervisor that is sent what others do is woken by it, hundreds of times on a busy engine.
#[tokio::test]
async fn nothing_is_sent_of_other_workloads_and_of_what_nobody_is_told() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let socket = Meddler::open(&path, engine.socket(), |_, _| Do::Forward);
    let runtime = DockerRuntime::new(DockerConfig::at(&path));
    let spec = engine.spec(&["echo"]);
    let other = engine.spec_named(format!("{}-too", spec.name).parse().unwrap(), &["echo"]);
    let mut events = runtime.events(EventFilter::of(spec.name.clone())).await.unwrap();
    let mut until = async |kind| {
        let coming = async { while events.next().await.unwrap().unwrap().kind != kind {} };
        soon("an event", coming).await;
    };
    until(EventKind::Synced).await;
    engine.runtime.deploy(&other).await.unwrap();
    engine.remove(&other.name).await;
    let there = engine.runtime.deploy(&spec).await.unwrap().instance;
    until(EventKind::Started).await;
    // As a health check does.
    let exec = format!("/v1.41/containers/{}/exec", there.id);
    let command = json!({ "Cmd": ["/server", "exit", "", "0"] });
    let (status, made) = api(engine.socket(), "POST", &exec, &command).await;
    assert_eq!(status, 201, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let start = format!("/v1.41/exec/{}/start", made["Id"].as_str().unwrap());
    api(engine.socket(), "POST", &start, &json!({ "Detach": false })).await;
    engine.remove(&spec.name).await;
    until(EventKind::Removed).await;
    let heard = socket.heard();
    assert!(heard.contains(spec.name.as_str()), "{heard}");
    assert!(!heard.contains(other.name.as_str()), "{heard}");
    let about = engine.runtime.engine_info().await.unwrap();
    if about.flavour != Flavour::Podman {
        assert!(!heard.contains("exec_"), "{heard}");
    }
}
