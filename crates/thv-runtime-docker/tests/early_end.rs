//! The death of a container's process is known before its engine has told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "it says what is not tested")]

mod support;

use std::cell::Cell;
use std::path::Path;

use futures_util::StreamExt;
use serde_json::{Value, json};
use support::meddler::{Do, Meddler};
use support::raw::api;
use support::{TestEngine, soon, until};
use thv_runtime::{EventFilter, EventKind, InstanceId, InstanceRef, Runtime, Stdio};
use thv_runtime_docker::{DockerConfig, DockerRuntime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Where the engine's processes are those of this machine, and the kernel says whose they are.
async fn is_here(engine: &TestEngine, id: &InstanceId) -> bool {
    let (_, found) = api(
        engine.socket(),
        "GET",
        &format!("/v1.41/containers/{id}/json"),
        &json!({}),
    )
    .await;
    let found: Value = serde_json::from_str(&found).unwrap();
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", found["State"]["Pid"]));
    let here = groups.is_ok_and(|groups| groups.contains(id.as_str()));
    if !here {
        eprintln!("skipped: the engine's processes are not seen here");
    }
    here
}

async fn kill(engine: &Path, id: &InstanceId) {
    let (status, body) = api(
        engine,
        "POST",
        &format!("/v1.41/containers/{id}/kill"),
        &json!({}),
    )
    .await;
    assert_eq!(status, 204, "{body}");
}

/// A runtime whose engine's events and streams come only while they are not held.
fn held_by(socket: &Path, engine: &TestEngine) -> (Meddler, watch::Sender<bool>, DockerRuntime) {
    let (hold, held) = watch::channel(false);
    let front = Meddler::open(socket, engine.socket(), move |_, call| {
        if call.contains("/events?") || call.contains("/attach?") {
            return Do::Held(held.clone());
        }
        Do::Forward
    });
    (front, hold, DockerRuntime::new(DockerConfig::at(socket)))
}

async fn says_hello(streams: &mut Stdio) {
    streams.stdin.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    soon("an answer", streams.stdout.read_exact(&mut hello))
        .await
        .unwrap();
    assert_eq!(&hello, b"hello");
}

#[tokio::test]
async fn an_end_is_known_while_the_engine_says_nothing() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (front, hold, runtime) = held_by(&folder.path().join("engine.sock"), &engine);
    // In either order: subscribed before it was started, as a supervisor does, and to what runs.
    for is_there_before in [false, true] {
        let spec = engine.spec(&["echo", "--ignore-term"]);
        let filter = EventFilter::of(spec.name.clone());
        let mut id = None;
        if is_there_before {
            id = Some(engine.runtime.deploy(&spec).await.unwrap().instance.id);
        }
        let mut events = runtime.events(filter).await.unwrap();
        let id = match id {
            Some(id) => id,
            None => runtime.deploy(&spec).await.unwrap().instance.id,
        };
        if !is_here(&engine, &id).await {
            return engine.remove(&spec.name).await;
        }
        let which = InstanceRef::exact(spec.name.clone(), id.clone());
        let mut streams = runtime.attach(&which).await.unwrap();
        says_hello(&mut streams).await;
        let calls = |which: &str| {
            front
                .calls()
                .iter()
                .filter(|call| call.starts_with(which))
                .count()
        };
        let about_it = format!("GET /containers/{id}/json");
        let (before, looks) = (calls(&about_it), calls("GET /containers/json"));
        let started = Cell::new(false);
        let listening = async {
            loop {
                let event = events.next().await.unwrap().unwrap();
                started.set(started.get() || event.kind == EventKind::Started);
                if matches!(event.kind, EventKind::Ending | EventKind::Exited { .. }) {
                    assert_eq!(event.workload, spec.name.as_str());
                    assert_eq!(event.instance.as_ref(), Some(&id));
                    return event.kind;
                }
            }
        };
        let ends = async {
            // Whoever listens has learnt which container it is: what is open then are two streams of events, and an attached one.
            until("a look", async || {
                let learnt = started.get() || calls("GET /containers/json") > looks;
                (learnt && front.open_connections() == 3).then_some(())
            })
            .await;
            hold.send_replace(true);
            kill(engine.socket(), &id).await;
            let mut rest = Vec::new();
            soon("the end of its output", streams.stdout.read_to_end(&mut rest))
                .await
                .unwrap();
            assert_eq!(rest, b"");
        };
        let (first, ()) = tokio::join!(soon("the news of its end", listening), ends);
        assert_eq!(first, EventKind::Ending);
        // Whoever attached knows its process, and an engine that kills a container answers no question about it.
        assert_eq!(calls(&about_it), before);
        hold.send_replace(false);
        // Podman's word of the start may come as late as this.
        let told = async {
            loop {
                match events.next().await.unwrap().unwrap().kind {
                    EventKind::Created | EventKind::Started => {}
                    kind => return kind,
                }
            }
        };
        assert_eq!(
            soon("what the engine says", told).await,
            EventKind::Exited { code: Some(137) }
        );
        engine.remove(&spec.name).await;
    }
}
