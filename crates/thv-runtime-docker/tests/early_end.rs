//! The death of a container's process is known before its engine has told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "it says what is not tested")]

mod support;

use std::path::Path;

use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::meddler::{Do, Meddler};
use support::raw::api;
use support::{TestEngine, soon, until};
use thv_runtime::{
    DeploySpec, EventFilter, EventKind, InstanceId, InstanceRef, Runtime, RuntimeEvent, Stdio,
};
use thv_runtime_docker::{DockerConfig, DockerRuntime, Flavour};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

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

/// What is told of a workload, from now on. It is listened to all the time, as a supervisor does once its server serves.
async fn listen(runtime: &DockerRuntime, spec: &DeploySpec) -> mpsc::Receiver<RuntimeEvent> {
    let mut events = runtime.events(EventFilter::of(spec.name.clone())).await.unwrap();
    let (tell, told) = mpsc::channel(100);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if tell.send(event.unwrap()).await.is_err() {
                return;
            }
        }
    });
    told
}

/// When whoever listens learns which process a container's first is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Learns {
    /// It runs.
    AtOnce,
    /// Nothing runs yet.
    AtItsStart,
    /// It runs, and the engine was away.
    AfterAGap,
}

#[tokio::test]
async fn an_end_is_known_while_the_engine_says_nothing() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    for learns in [Learns::AtOnce, Learns::AtItsStart, Learns::AfterAGap] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let (mut front, mut hold, runtime) = held_by(&socket, &engine);
        let spec = engine.spec(&["echo", "--ignore-term"]);
        let mut id = None;
        if learns != Learns::AtItsStart {
            id = Some(engine.runtime.deploy(&spec).await.unwrap().instance.id);
        }
        let mut events = listen(&runtime, &spec).await;
        let looked = async |front: &Meddler, call: &str, times: usize| {
            until(call, async || {
                let calls = front.calls();
                let made = calls.iter().filter(|made| made.starts_with(call)).count();
                (made >= times && front.open_connections() == 2).then_some(())
            })
            .await;
        };
        // By its label, and by its name where there is none.
        let times = if learns == Learns::AtItsStart { 2 } else { 1 };
        looked(&front, "GET /containers/json", times).await;
        let id = match id {
            Some(id) => id,
            None => engine.runtime.deploy(&spec).await.unwrap().instance.id,
        };
        if !is_here(&engine, &id).await {
            return engine.remove(&spec.name).await;
        }
        if learns == Learns::AfterAGap {
            drop(front);
            (front, hold, _) = held_by(&socket, &engine);
        }
        looked(&front, &format!("GET /containers/{id}/json"), 1).await;
        let which = InstanceRef::exact(spec.name.clone(), id.clone());
        let mut streams = runtime.attach(&which).await.unwrap();
        says_hello(&mut streams).await;
        hold.send_replace(true);
        kill(engine.socket(), &id).await;
        let mut rest = Vec::new();
        soon("the end of its output", streams.stdout.read_to_end(&mut rest))
            .await
            .unwrap();
        assert_eq!(rest, b"");
        let mut ends = async || loop {
            let event = soon("the news of its end", events.recv()).await.unwrap();
            if matches!(event.kind, EventKind::Ending | EventKind::Exited { .. }) {
                assert_eq!(event.workload, spec.name.as_str());
                assert_eq!(event.instance.as_ref(), Some(&id));
                return event.kind;
            }
        };
        assert_eq!(ends().await, EventKind::Ending, "{learns:?}");
        hold.send_replace(false);
        assert_eq!(ends().await, EventKind::Exited { code: Some(137) });
        engine.remove(&spec.name).await;
    }
}

/// An engine that kills a container answers no question about it until that is done.
#[tokio::test]
async fn whoever_listens_learns_the_process_from_who_is_attached() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (front, hold, runtime) = held_by(&folder.path().join("engine.sock"), &engine);
    let spec = engine.spec(&["echo", "--ignore-term"]);
    let id = engine.runtime.deploy(&spec).await.unwrap().instance.id;
    if !is_here(&engine, &id).await {
        return engine.remove(&spec.name).await;
    }
    let which = InstanceRef::exact(spec.name.clone(), id.clone());
    let mut streams = runtime.attach(&which).await.unwrap();
    says_hello(&mut streams).await;
    let calls = |call: &str| {
        let calls = front.calls();
        calls.iter().filter(|made| made.starts_with(call)).count()
    };
    let inspection = format!("GET /containers/{id}/json");
    let before = (calls(&inspection), calls("GET /containers/json"));
    let mut events = listen(&runtime, &spec).await;
    until("a look at what runs", async || {
        (calls("GET /containers/json") > before.1 && front.open_connections() == 3).then_some(())
    })
    .await;
    hold.send_replace(true);
    kill(engine.socket(), &id).await;
    let news = soon("the news of its end", async {
        loop {
            let event = events.recv().await.unwrap();
            if !matches!(event.kind, EventKind::Synced) {
                return event.kind;
            }
        }
    });
    assert_eq!(news.await, EventKind::Ending);
    assert_eq!(calls(&inspection), before.0);
    hold.send_replace(false);
    engine.remove(&spec.name).await;
}

async fn get(engine: &TestEngine, path: &str) -> Value {
    let (_, answer) = api(engine.socket(), "GET", path, &Value::Null).await;
    serde_json::from_str(&answer).unwrap()
}

/// Attaches to a container while its engine says that this process is its first. That ends, and the streams do not.
async fn outlives(
    engine: &TestEngine,
    spec: DeploySpec,
    id: &InstanceId,
    pid: &Value,
    end: impl Future<Output = ()>,
) {
    let inspection = format!("/containers/{id}/json");
    let mut told = get(engine, &format!("/v1.41{inspection}")).await;
    told["State"]["Pid"] = pid.clone();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let call = format!("GET {inspection}");
    let _front = Meddler::open(&socket, engine.socket(), move |_, asked| {
        if asked == call {
            return Do::Answer(200, told.clone());
        }
        Do::Forward
    });
    let runtime = DockerRuntime::new(DockerConfig::at(&socket));
    let which = InstanceRef::exact(spec.name.clone(), id.clone());
    let Stdio {
        mut stdin,
        mut stdout,
        ..
    } = runtime.attach(&which).await.unwrap();
    // All the time, as a proxy does.
    let reading = tokio::spawn(async move {
        let mut answer = [0; 5];
        stdout.read_exact(&mut answer).await.map(|_| answer)
    });
    end.await;
    // Longer than anything is under way from a server.
    let other = engine.spec(&["echo"]);
    engine.runtime.deploy(&other).await.unwrap();
    engine.remove(&other.name).await;
    stdin.write_all(b"hello").await.unwrap();
    let answer = soon("an answer", reading).await.unwrap();
    assert_eq!(answer.unwrap(), *b"hello");
    engine.remove(&spec.name).await;
}

#[tokio::test]
async fn the_end_of_another_containers_process_is_not_this_ones() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let [spec, other] = [engine.spec(&["echo"]), engine.spec(&["echo"])];
    let id = engine.runtime.deploy(&spec).await.unwrap().instance.id;
    let other_id = engine.runtime.deploy(&other).await.unwrap().instance.id;
    let found = get(&engine, &format!("/v1.41/containers/{other_id}/json")).await;
    let ends = engine.remove(&other.name);
    outlives(&engine, spec, &id, &found["State"]["Pid"], ends).await;
}

#[tokio::test]
async fn the_end_of_another_process_of_the_container_is_not_its_own() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    if engine.runtime.engine_info().await.unwrap().flavour == Flavour::Podman {
        eprintln!("skipped: Podman does not tell when a further process has ended");
        return;
    }
    let spec = engine.spec(&["echo"]);
    let id = engine.runtime.deploy(&spec).await.unwrap().instance.id;
    if !is_here(&engine, &id).await {
        return engine.remove(&spec.name).await;
    }
    let exec = format!("/v1.41/containers/{id}/exec");
    let (status, made) = api(
        engine.socket(),
        "POST",
        &exec,
        &json!({"Cmd": ["/server", "http"]}),
    )
    .await;
    assert_eq!(status, 201, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let exec = format!("/v1.41/exec/{}", made["Id"].as_str().unwrap());
    let (status, answer) = api(
        engine.socket(),
        "POST",
        &format!("{exec}/start"),
        &json!({"Detach": true}),
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    let look = async || get(&engine, &format!("{exec}/json")).await;
    let pid = until("its number", async || {
        look().await["Pid"].as_i64().filter(|&pid| pid > 0)
    })
    .await;
    let ends = async {
        let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        until("its end", async || {
            (look().await["Running"] == false).then_some(())
        })
        .await;
    };
    outlives(&engine, spec, &id, &pid.into(), ends).await;
}
