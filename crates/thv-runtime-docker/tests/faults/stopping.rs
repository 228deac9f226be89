//! Stops, removals and attachments that meet each other, or the end of the container.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use thv_runtime::{DeploySpec, Expect, InstanceRef, InstanceState, Runtime, StopOptions};
use thv_runtime_docker::{DockerConfig, DockerRuntime};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::SHORT;
use crate::support::fake::Fake;
use crate::support::meddler::{Do, Meddler, version};
use crate::support::{TestEngine, soon, until};

#[tokio::test]
async fn a_removal_does_not_wait_for_the_grace_of_a_stop() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let spec = engine.spec(&["echo", "--ignore-term"]);
    engine.runtime.deploy(&spec).await.unwrap();
    engine.ready(&spec.name).await;
    let which = InstanceRef::named(spec.name.clone());
    let patient = StopOptions {
        grace: Duration::from_mins(10),
    };
    let stop = engine.runtime.stop(&which, patient);
    assert!(
        timeout(Duration::from_millis(300), stop).await.is_err(),
        "it ignores the signal"
    );
    soon("the removal", engine.runtime.remove(&which)).await.unwrap();
    assert!(engine.runtime.inspect(&spec.name).await.unwrap().is_none());

    engine.runtime.deploy(&spec).await.unwrap();
    engine.ready(&spec.name).await;
    let stop = engine.runtime.stop(&which, patient);
    assert!(
        timeout(Duration::from_millis(300), stop).await.is_err(),
        "it ignores the signal"
    );
    soon("the stop", engine.runtime.stop(&which, SHORT))
        .await
        .unwrap();
    engine.remove(&spec.name).await;
}

/// An engine that has one running container.
fn engine_with_one(call: &str) -> Do {
    match call {
        "GET /version" => version(),
        call if call.starts_with("GET /containers/json") => Do::Answer(
            200,
            json!([{"Id": "abc", "Names": ["/fetch"], "State": "running", "Labels": {
                "toolhive": "true", "toolhive-basename": "fetch",
            }}]),
        ),
        _ => Do::Answer(404, json!({"message": "no such container"})),
    }
}

#[tokio::test]
async fn what_is_removed_while_it_is_stopped_is_stopped() {
    let fake = Fake::new(engine_with_one);
    let which = InstanceRef::named("fetch".parse().unwrap());
    // An engine knows whole seconds only: nobody gets less than was said.
    let grace = Duration::from_millis(1200);
    fake.runtime.stop(&which, StopOptions { grace }).await.unwrap();
    assert_eq!(fake.count("POST /containers/abc/stop?t=2"), 1);
}

/// In Podman's words.
#[tokio::test]
async fn what_is_paused_goes_on_so_that_it_ends_and_is_removed_once_it_has() {
    const PAUSED: &str = "container abc is running or paused, refusing to clean up: container state improper";
    let (paused, removals) = (AtomicBool::new(true), AtomicUsize::new(0));
    let fake = Fake::new(move |call| match call {
        "POST /containers/abc/unpause" => {
            paused.store(false, Ordering::Relaxed);
            Do::Answer(204, Value::Null)
        }
        call if call.starts_with("POST /containers/abc/stop") => {
            if paused.load(Ordering::Relaxed) {
                Do::Answer(500, json!({ "message": PAUSED }))
            } else {
                Do::Answer(204, Value::Null)
            }
        }
        call if call.starts_with("DELETE /containers/abc") => {
            if removals.fetch_add(1, Ordering::Relaxed) == 0 {
                Do::Answer(500, json!({"message": "container state improper: stopped"}))
            } else {
                Do::Answer(204, Value::Null)
            }
        }
        call if call.starts_with("GET /networks") => Do::Answer(200, json!([])),
        call => engine_with_one(call),
    });
    let which = InstanceRef::named("fetch".parse().unwrap());
    fake.runtime.stop(&which, SHORT).await.unwrap();
    assert_eq!(fake.count("POST /containers/abc/stop"), 2);
    fake.runtime.remove(&which).await.unwrap();
    assert_eq!(fake.count("DELETE /containers/abc"), 2);
}

#[tokio::test]
async fn what_ends_by_itself_while_it_is_killed_is_stopped() {
    for status in [404, 409] {
        let killed = Arc::new(Notify::new());
        let fake = Fake::new(move |call| match call {
            "POST /containers/abc/stop?t=600" => {
                Do::After(Arc::clone(&killed), Box::new(Do::Answer(200, Value::Null)))
            }
            "POST /containers/abc/kill" => {
                killed.notify_one();
                Do::Answer(status, json!({"message": "it is not running"}))
            }
            call => engine_with_one(call),
        });
        let which = InstanceRef::named("fetch".parse().unwrap());
        let grace = Duration::from_mins(10);
        let (patient, hasty) = tokio::join!(fake.runtime.stop(&which, StopOptions { grace }), async {
            until("the stop", async || {
                (fake.count("POST /containers/abc/stop") > 0).then_some(())
            })
            .await;
            let grace = Duration::ZERO;
            fake.runtime.stop(&which, StopOptions { grace }).await
        });
        patient.unwrap();
        hasty.unwrap();
    }
}

#[tokio::test]
async fn a_removal_that_somebody_else_is_at_is_waited_for() {
    let gone = Arc::new(Notify::new());
    let waits = Arc::clone(&gone);
    let fake = Fake::new(move |call| match call {
        "DELETE /containers/abc?force=true&v=true" => Do::Answer(
            409,
            json!({"message": "removal of container abc is already in progress"}),
        ),
        "POST /containers/abc/wait?condition=removed" => {
            let answer = Do::Answer(200, json!({"StatusCode": 0}));
            Do::After(Arc::clone(&waits), Box::new(answer))
        }
        call if call.starts_with("GET /networks") => Do::Answer(200, json!([])),
        call => engine_with_one(call),
    });
    let which = InstanceRef::named("fetch".parse().unwrap());
    let waiting = until("the wait", async || {
        (fake.count("POST /containers/abc/wait") > 0).then_some(())
    });
    let removal = fake.runtime.remove(&which);
    tokio::pin!(removal);
    tokio::select! {
        () = waiting => {}
        removed = &mut removal => panic!("{removed:?}"),
    }
    gone.notify_one();
    soon("the removal", removal).await.unwrap();
}

/// Standard error is attached from before the start; nobody may come for it.
#[tokio::test]
async fn streams_that_nobody_takes_are_closed_with_their_container() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let front = Meddler::open(&socket, engine.socket(), |_, _| Do::Forward);
    let runtime = DockerRuntime::new(DockerConfig::at(&socket));
    let mut spec = engine.spec(&["echo"]);
    spec.private_output = true;
    let which = InstanceRef::named(spec.name.clone());
    let open = async |wanted: usize, when: &str| {
        until(when, async || (front.open_connections() == wanted).then_some(())).await;
    };
    let deploy = async |spec: &DeploySpec| {
        let deployed = runtime.deploy(spec).await.unwrap();
        Expect::Instance(deployed.instance.id)
    };

    spec.expect = deploy(&spec).await;
    open(1, "one stream that waits").await;
    runtime.stop(&which, SHORT).await.unwrap();
    open(0, "its end with a stop").await;

    // It ended by itself before it is stopped.
    spec.expect = deploy(&spec).await;
    open(1, "one stream that waits").await;
    engine.runtime.stop(&which, SHORT).await.unwrap();
    // The engine's list lags behind its answers.
    until("a list with its end", async || {
        let listed = engine.runtime.list().await.unwrap();
        let mut ours = listed
            .iter()
            .filter(|one| one.instance_name == spec.instance_name);
        ours.all(|one| one.state == InstanceState::Stopped).then_some(())
    })
    .await;
    runtime.stop(&which, SHORT).await.unwrap();
    open(0, "its end with a stop of what had ended").await;

    // Another container of the workload, made by somebody else meanwhile, and ours after that.
    spec.expect = deploy(&spec).await;
    engine.remove(&spec.name).await;
    spec.expect = Expect::Absent;
    spec.expect = deploy(&spec).await;
    open(1, "the stream of the new one alone").await;

    runtime.remove(&which).await.unwrap();
    open(0, "its end with a removal").await;
}

/// Standard error from its first byte on, also for who tries again.
#[tokio::test]
async fn an_attachment_that_is_given_up_leaves_what_the_server_has_said() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let attachments = AtomicUsize::new(0);
    let front = Meddler::open(&socket, engine.socket(), move |_, call| {
        let first = call.contains("stdin=true") && attachments.fetch_add(1, Ordering::Relaxed) == 0;
        if first { Do::Stall("") } else { Do::Forward }
    });
    let runtime = DockerRuntime::new(DockerConfig::at(&socket));
    let mut spec = engine.spec(&["echo"]);
    spec.private_output = true;
    runtime.deploy(&spec).await.unwrap();
    let which = InstanceRef::named(spec.name.clone());
    let asked = until("the attachment", async || {
        let calls = front.calls();
        calls.iter().any(|call| call.contains("stdin=true")).then_some(())
    });
    tokio::select! {
        () = asked => {}
        attached = runtime.attach(&which) => panic!("{attached:?}"),
    }
    let streams = soon("the streams", runtime.attach(&which)).await.unwrap();
    let mut lines = BufReader::new(streams.stderr.unwrap()).lines();
    let said = soon("what it said", lines.next_line()).await.unwrap();
    assert_eq!(said.as_deref(), Some("thv-contract ready"));
    engine.remove(&spec.name).await;
}

/// The engine itself takes it for running still.
#[tokio::test]
async fn an_attachment_to_what_has_just_ended_is_no_failure_of_the_engine() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    // Podman's words for it, and others that are like them.
    for (status, words, expected) in [
        (
            500,
            "failed to connect to container's attach socket: /var/lib/containers/storage/overlay-containers/abc/userdata/attach: \
             dial unixpacket /proc/self/fd/32: connect: connection refused",
            "not_running",
        ),
        (
            500,
            "failed to connect to container's attach socket: no space left on device",
            "failed",
        ),
        (
            500,
            "dial unix /run/containerd.sock: connect: connection refused",
            "failed",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let _front = Meddler::open(&socket, engine.socket(), move |_, call| {
            if call.contains("/attach?") {
                return Do::Answer(status, json!({ "message": words }));
            }
            Do::Forward
        });
        let spec = engine.spec(&["echo"]);
        engine.runtime.deploy(&spec).await.unwrap();
        let runtime = DockerRuntime::new(DockerConfig::at(&socket));
        let which = InstanceRef::named(spec.name.clone());
        let error = runtime.attach(&which).await.unwrap_err();
        assert_eq!(error.code(), expected, "{words}: {error:?}");
        engine.remove(&spec.name).await;
    }
}
