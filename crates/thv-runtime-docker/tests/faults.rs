//! Engines that stall, break off, or refuse a part: no call hangs, and nothing half-made stays.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use support::meddler::{Do, Meddler, version};
use support::raw::api;
use support::{TestEngine, soon, unique_name, until};
use thv_runtime::{
    DeployOutcome, DeploySpec, EventFilter, Expect, InstanceRef, InstanceState, MountBind, Runtime,
    StopOptions,
};
use thv_runtime_docker::{DockerConfig, DockerRuntime};
use tokio::sync::Notify;
use tokio::time::timeout;

const SHORT: StopOptions = StopOptions {
    grace: Duration::from_secs(2),
};

const HEADERS_AND_A_BYTE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[";

/// There is no engine behind the socket.
const NOBODY: &str = "/nowhere/engine.sock";

/// Has its answers from a socket of the test, which a busy machine may let wait.
fn patient(socket: &Path) -> DockerRuntime {
    DockerRuntime::new(DockerConfig::at(socket))
}

/// For answers that never come.
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
    let lists = join_all((0..20).map(|_| runtime.list()));
    let lists = soon("the lists", lists).await;
    assert!(lists.iter().all(Result::is_err));
    assert!(engine.calls().len() < 4, "{:?}", engine.calls());
}

#[tokio::test]
async fn an_event_stream_that_breaks_at_once_is_not_asked_for_in_a_loop() {
    for broken in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\noops!\n",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let engine = Meddler::open(&socket, Path::new(NOBODY), move |_, call| match call {
            "GET /version" => version(),
            _ => Do::Send(broken),
        });
        let mut events = patient(&socket).events(EventFilter::default()).await.unwrap();
        let listening = async { while events.next().await.is_some() {} };
        assert!(timeout(Duration::from_millis(700), listening).await.is_err());
        assert!(
            engine.calls().len() < 30,
            "asked {} times for {broken:?}",
            engine.calls().len()
        );
    }
}

#[tokio::test]
async fn what_no_engine_takes_is_refused_before_the_engine_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let engine = Meddler::open(&socket, Path::new(NOBODY), |_, _| Do::CutBefore);
    let changes: [fn(&mut DeploySpec); 5] = [
        |spec| drop(spec.env.insert("TOKEN".to_owned(), "hunter2\0".to_owned())),
        |spec| spec.command.push("a\0b".to_owned()),
        |spec| drop(spec.labels.insert("a".to_owned(), "\0".to_owned())),
        |spec| {
            spec.mounts.push(MountBind {
                source: "/tmp/a\0".into(),
                target: "/a".to_owned(),
                read_only: true,
            });
        },
        |spec| {
            spec.mounts.push(MountBind {
                source: OsStr::from_bytes(b"/tmp/\xff").into(),
                target: "/a".to_owned(),
                read_only: true,
            });
        },
    ];
    for change in changes {
        let mut spec = DeploySpec::new(unique_name(), "fetch");
        change(&mut spec);
        let error = patient(&socket).deploy(&spec).await.unwrap_err();
        assert_eq!(error.code(), "invalid", "{error:?}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    assert!(engine.calls().is_empty(), "{:?}", engine.calls());
}

#[tokio::test]
async fn an_old_engine_is_asked_not_to_make_a_second_network_of_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let engine = Meddler::open(&socket, Path::new(NOBODY), |_, call| match call {
        "GET /version" => version(),
        call if call.starts_with("GET /networks") || call.contains("/containers/json") => {
            Do::Answer(200, json!([]))
        }
        "GET /info" => Do::Answer(200, json!({})),
        _ => Do::Answer(404, json!({"message": "no"})),
    });
    let spec = DeploySpec::new(unique_name(), "fetch");
    patient(&socket).deploy(&spec).await.unwrap_err();
    let made: Vec<_> = engine
        .requests()
        .into_iter()
        .filter(|request| request.contains("/networks/create"))
        .collect();
    assert_eq!(made.len(), 1);
    assert!(made[0].contains(r#""CheckDuplicate":true"#), "{}", made[0]);
}

#[tokio::test]
async fn a_limit_that_the_engine_cannot_enforce_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let engine = Meddler::open(&socket, Path::new(NOBODY), |_, call| match call {
        "GET /version" => version(),
        "GET /info" => Do::Answer(
            200,
            json!({"MemoryLimit": false, "SwapLimit": false, "PidsLimit": false, "CpuCfsQuota": true, "CpuCfsPeriod": false}),
        ),
        call if call.contains("/json") => Do::Answer(404, json!({"message": "no"})),
        _ => Do::Answer(500, json!({"message": "nobody asked for this"})),
    });
    let asked: [fn(&mut DeploySpec); 3] = [
        |spec| spec.limits.memory = Some(64 << 20),
        |spec| spec.limits.cpus = Some(0.5),
        |spec| spec.limits.pids = Some(10),
    ];
    for ask in asked {
        let mut spec = DeploySpec::new(unique_name(), "fetch");
        ask(&mut spec);
        let error = patient(&socket).deploy(&spec).await.unwrap_err();
        assert_eq!(error.code(), "unsupported", "{error:?}");
    }
    let calls = engine.calls();
    assert!(calls.iter().all(|call| call.starts_with("GET")), "{calls:?}");
}

#[tokio::test]
async fn a_limit_that_the_engine_discards_undoes_the_deployment() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let engine = Meddler::open(&socket, Path::new(NOBODY), |_, call| match call {
        "GET /version" => version(),
        "GET /info" => Do::Answer(200, json!({})),
        call if call.starts_with("GET /networks") => {
            Do::Answer(200, json!([{"Id": "n", "Name": "toolhive-external"}]))
        }
        call if call.starts_with("GET /containers/json") => Do::Answer(200, json!([])),
        call if call.starts_with("POST /containers/create") => Do::Answer(
            201,
            json!({"Id": "abc", "Warnings": [
                "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
            ]}),
        ),
        call if call.starts_with("DELETE /containers/abc") => Do::Answer(200, json!(null)),
        _ => Do::Answer(404, json!({"message": "no"})),
    });
    let mut spec = DeploySpec::new(unique_name(), "fetch");
    spec.limits.memory = Some(64 << 20);
    let error = patient(&socket).deploy(&spec).await.unwrap_err();
    assert_eq!(error.code(), "unsupported", "{error:?}");
    let calls = engine.calls();
    assert!(
        calls
            .iter()
            .any(|call| call.starts_with("DELETE /containers/abc")),
        "{calls:?}"
    );
    assert!(!calls.iter().any(|call| call.contains("/start")), "{calls:?}");
}

/// An engine that makes one container `abc`, which is in this state once it was started.
fn engine_of_one(call: &str, state: &Value) -> Do {
    match call {
        "GET /version" => version(),
        "GET /info" => Do::Answer(200, json!({})),
        call if call.starts_with("GET /networks") => {
            Do::Answer(200, json!([{"Id": "n", "Name": "toolhive-external"}]))
        }
        call if call.starts_with("GET /containers/json") => Do::Answer(200, json!([])),
        call if call.starts_with("POST /containers/create") => {
            Do::Answer(201, json!({"Id": "abc", "Warnings": []}))
        }
        "POST /containers/abc/start" | "DELETE /containers/abc?force=true&v=true" => {
            Do::Answer(204, Value::Null)
        }
        "GET /containers/abc/json" => Do::Answer(
            200,
            json!({"Id": "abc", "Name": "/fetch", "State": state, "Config": {}, "HostConfig": {}}),
        ),
        _ => Do::Answer(404, json!({"message": "no"})),
    }
}

fn was_removed(engine: &Meddler) -> bool {
    let mut calls = engine.calls().into_iter();
    calls.any(|call| call.starts_with("DELETE /containers/abc"))
}

#[tokio::test]
async fn a_container_that_ended_at_once_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let state = json!({"Status": "exited", "ExitCode": 3});
    let engine = Meddler::open(&socket, Path::new(NOBODY), move |_, call| {
        engine_of_one(call, &state)
    });
    let spec = DeploySpec::new(unique_name(), "fetch");
    let error = patient(&socket).deploy(&spec).await.unwrap_err();
    assert_eq!(error.code(), "start_failed", "{error:?}");
    assert!(was_removed(&engine), "{:?}", engine.calls());
}

#[tokio::test]
async fn a_container_that_nobody_waits_for_any_more_is_removed_once_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let dropped = Arc::new(Notify::new());
    let waits = Arc::clone(&dropped);
    let engine = Meddler::open(&socket, Path::new(NOBODY), move |_, call| {
        let answer = engine_of_one(call, &json!({"Status": "running"}));
        if call == "POST /containers/abc/start" {
            // It takes its time.
            return Do::After(Arc::clone(&waits), Box::new(answer));
        }
        answer
    });
    let spec = DeploySpec::new(unique_name(), "fetch");
    let runtime = patient(&socket);
    let starts = until("the start", async || {
        let calls = engine.calls();
        calls.iter().any(|call| call.ends_with("/start")).then_some(())
    });
    tokio::select! {
        () = starts => {}
        deployed = runtime.deploy(&spec) => panic!("{deployed:?}"),
    }
    dropped.notify_one();
    until("the removal", async || was_removed(&engine).then_some(())).await;
}

/// The engine was still at it when the connection broke off.
#[tokio::test]
async fn a_container_that_appears_after_its_creation_broke_off_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let (broken, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let spec = DeploySpec::new(unique_name(), "fetch");
    let name = spec.name.to_string();
    let inspection = format!("GET /containers/{name}/json");
    let engine = Meddler::open(&socket, Path::new(NOBODY), move |_, call| match call {
        "GET /version" => version(),
        "GET /info" => Do::Answer(200, json!({})),
        call if call.starts_with("GET /networks") => {
            Do::Answer(200, json!([{"Id": "n", "Name": "toolhive-external"}]))
        }
        call if call.starts_with("GET /containers/json") => Do::Answer(200, json!([])),
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
        "DELETE /containers/abc?force=true&v=true" => Do::Answer(204, Value::Null),
        _ => Do::Answer(404, json!({"message": "no"})),
    });
    let error = patient(&socket).deploy(&spec).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let calls = engine.calls();
    let removed = calls
        .iter()
        .any(|call| call.starts_with("DELETE /containers/abc"));
    assert!(removed, "{calls:?}");
}

#[tokio::test]
async fn a_container_that_goes_away_while_an_engine_lists_it_is_nobodys_failure() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let gone = || {
        Do::Answer(
            500,
            json!({"message": "container 24be does not exist in database: no such container"}),
        )
    };
    let ended = || {
        Do::Answer(
            500,
            json!({"message": "read /proc/27853/cgroup: no such process"}),
        )
    };
    let lists = AtomicUsize::new(0);
    let _engine = Meddler::open(&socket, Path::new(NOBODY), move |_, call| match call {
        "GET /version" => version(),
        call if call.starts_with("GET /containers/json") => match lists.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => gone(),
            1 => ended(),
            _ => Do::Answer(
                200,
                json!([{"Id": "24be", "Names": ["/fetch"], "Labels": {
                    "toolhive": "true", "toolhive-basename": "fetch",
                }}]),
            ),
        },
        _ => gone(),
    });
    let runtime = patient(&socket);
    assert_eq!(runtime.list().await.unwrap().len(), 1);
    assert!(
        runtime
            .inspect(&"fetch".parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_missing_image_is_told_apart_from_a_missing_network_whatever_its_name() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let mut spec = engine.spec(&[]);
    "localhost/thv-test/network-not-found:none".clone_into(&mut spec.image);
    let error = engine.runtime.deploy(&spec).await.unwrap_err();
    assert_eq!(error.code(), "image_not_found", "{error:?}");
}

/// When the connection of a call is cut: before the engine heard it, before its answer, in the middle of that.
#[derive(Debug, Clone, Copy)]
enum When {
    Before,
    After,
    Within,
}

const EVER: [When; 3] = [When::Before, When::After, When::Within];

/// A runtime behind a socket that cuts the call of that number; [`what`](Self::what) once it did.
struct Cut {
    _folder: tempfile::TempDir,
    socket: Meddler,
    number: usize,
    runtime: DockerRuntime,
}

impl Cut {
    fn new(engine: &TestEngine, number: usize, when: When) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let socket = Meddler::open(&path, engine.socket(), move |at, _| match when {
            _ if at != number => Do::Forward,
            When::Before => Do::CutBefore,
            When::After => Do::CutAfter,
            When::Within => Do::CutWithin,
        });
        Self {
            _folder: folder,
            socket,
            number,
            runtime: DockerRuntime::new(DockerConfig::at(&path)),
        }
    }

    /// What was cut; `None` when there were not so many calls.
    fn what(&self) -> Option<String> {
        self.socket.calls().get(self.number).cloned()
    }
}

/// Beyond any number of calls that one verb makes.
const CALLS: usize = 40;

#[tokio::test]
async fn a_deployment_that_is_cut_anywhere_leaves_nothing() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    // Each waits most of its time for an engine that may still be at it.
    join_all(EVER.map(|when| deployments_cut(&engine, when))).await;
}

async fn deployments_cut(engine: &TestEngine, when: When) {
    for number in 0..CALLS {
        let cut = Cut::new(engine, number, when);
        let mut spec = engine.spec(&["echo"]);
        // It attaches as well, as each stdio server is deployed.
        spec.private_output = true;
        let deployed = soon("the deployment", cut.runtime.deploy(&spec)).await;
        let Some(what) = cut.what() else {
            deployed.unwrap();
            engine.remove(&spec.name).await;
            assert!(number > 6, "it made only {number} calls");
            return;
        };
        if deployed.is_err() {
            let left = engine.runtime.inspect(&spec.name).await.unwrap();
            assert!(left.is_none(), "{what} ({when:?}) left {left:?}");
            cut.runtime.deploy(&spec).await.unwrap();
        }
        engine.remove(&spec.name).await;
    }
    panic!("more calls than were cut");
}

#[tokio::test]
async fn a_start_that_is_cut_anywhere_leaves_the_container_stopped() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    join_all(EVER.map(|when| starts_cut(&engine, when))).await;
}

async fn starts_cut(engine: &TestEngine, when: When) {
    let mut spec = engine.spec(&["echo"]);
    spec.private_output = true;
    let which = InstanceRef::named(spec.name.clone());
    spec.expect = Expect::Instance(engine.runtime.deploy(&spec).await.unwrap().instance.id);
    for number in 0..CALLS {
        engine.runtime.stop(&which, SHORT).await.unwrap();
        let cut = Cut::new(engine, number, when);
        let deployed = soon("the deployment", cut.runtime.deploy(&spec)).await;
        let Some(what) = cut.what() else {
            assert_eq!(deployed.unwrap().outcome, DeployOutcome::Started);
            engine.remove(&spec.name).await;
            return;
        };
        if deployed.is_err() {
            let left = engine.runtime.inspect(&spec.name).await.unwrap().unwrap();
            assert_eq!(left.state, InstanceState::Stopped, "{what} ({when:?})");
            cut.runtime.deploy(&spec).await.unwrap();
        }
    }
    panic!("more calls than were cut");
}

/// Whoever attaches before the start has half started the container on Podman.
#[tokio::test]
async fn a_start_that_the_engine_refuses_leaves_the_container_stopped() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let mut spec = engine.spec(&["echo"]);
    spec.private_output = true;
    let which = InstanceRef::named(spec.name.clone());
    spec.expect = Expect::Instance(engine.runtime.deploy(&spec).await.unwrap().instance.id);
    engine.runtime.stop(&which, SHORT).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let front = Meddler::open(&socket, engine.socket(), |_, call| {
        if call.ends_with("/start") {
            return Do::Answer(500, json!({"message": "no space left on device"}));
        }
        Do::Forward
    });
    let refused = patient(&socket).deploy(&spec).await.unwrap_err();
    assert_eq!(refused.code(), "start_failed", "{refused:?}");
    let left = engine.runtime.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!(left.state, InstanceState::Stopped);
    let calls = front.calls();
    assert!(calls.iter().any(|call| call.contains("/stop?")), "{calls:?}");
    engine.remove(&spec.name).await;
}

#[tokio::test]
async fn a_stop_or_removal_that_is_cut_anywhere_is_done_by_the_next() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    join_all(EVER.map(|when| stops_and_removals_cut(&engine, when))).await;
}

async fn stops_and_removals_cut(engine: &TestEngine, when: When) {
    for number in 0..CALLS {
        let spec = engine.spec(&["echo"]);
        let which = InstanceRef::named(spec.name.clone());
        engine.runtime.deploy(&spec).await.unwrap();
        let cut = Cut::new(engine, number, when);
        let _either = soon("the stop", cut.runtime.stop(&which, SHORT)).await;
        let stop_was_cut = cut.what().is_some();
        engine.runtime.stop(&which, SHORT).await.unwrap();
        let stopped = engine.runtime.inspect(&spec.name).await.unwrap().unwrap();
        assert_eq!(stopped.state, InstanceState::Stopped, "{:?}", cut.what());

        let cut = Cut::new(engine, number, when);
        let removed = soon("the removal", cut.runtime.remove(&which)).await;
        if let Some(what) = cut.what()
            && what.starts_with("DELETE /containers/")
        {
            // Asked for once more, whatever became of it the first time.
            removed.unwrap_or_else(|error| panic!("{what} ({when:?}): {error:?}"));
        }
        let remove_was_cut = cut.what().is_some();
        engine.runtime.remove(&which).await.unwrap();
        assert!(
            engine.runtime.inspect(&spec.name).await.unwrap().is_none(),
            "{:?}",
            cut.what()
        );
        if !stop_was_cut && !remove_was_cut {
            return;
        }
    }
    panic!("more calls than were cut");
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

#[tokio::test]
async fn a_removal_does_not_wait_for_the_grace_of_a_stop() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let spec = engine.spec(&["echo", "--ignore-term"]);
    engine.runtime.deploy(&spec).await.unwrap();
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

#[tokio::test]
async fn what_the_image_brings_is_what_is_left_when_nothing_is_asked_for() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let mut spec = engine.spec(&["echo", "--ignore-term"]);
    spec.env.insert("TOKEN".to_owned(), "old".to_owned());
    spec.labels.insert("colour".to_owned(), "red".to_owned());
    let mut id = engine.runtime.deploy(&spec).await.unwrap().instance.id;
    let changes: [fn(&mut DeploySpec); 3] = [
        |spec| spec.command.clear(),
        |spec| spec.env.clear(),
        |spec| spec.labels.clear(),
    ];
    for change in changes {
        change(&mut spec);
        spec.expect = Expect::Instance(id);
        let deployed = engine.runtime.deploy(&spec).await.unwrap();
        assert_eq!(deployed.outcome, DeployOutcome::Replaced);
        id = deployed.instance.id;
        spec.expect = Expect::Instance(id.clone());
        let again = engine.runtime.deploy(&spec).await.unwrap();
        assert_eq!(again.outcome, DeployOutcome::AlreadyRunning);
    }
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
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let engine = Meddler::open(&socket, Path::new(NOBODY), |_, call| engine_with_one(call));
    let which = InstanceRef::named("fetch".parse().unwrap());
    patient(&socket).stop(&which, SHORT).await.unwrap();
    let calls = engine.calls();
    assert!(
        calls.iter().any(|call| call == "POST /containers/abc/stop?t=2"),
        "{calls:?}"
    );
}

#[tokio::test]
async fn what_ends_by_itself_while_it_is_killed_is_stopped() {
    for status in [404, 409] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let killed = Arc::new(Notify::new());
        let engine = Meddler::open(&socket, Path::new(NOBODY), move |_, call| match call {
            "POST /containers/abc/stop?t=600" => {
                Do::After(Arc::clone(&killed), Box::new(Do::Answer(200, Value::Null)))
            }
            "POST /containers/abc/kill" => {
                killed.notify_one();
                Do::Answer(status, json!({"message": "it is not running"}))
            }
            call => engine_with_one(call),
        });
        let runtime = patient(&socket);
        let which = InstanceRef::named("fetch".parse().unwrap());
        let grace = Duration::from_mins(10);
        let (patient, hasty) = tokio::join!(runtime.stop(&which, StopOptions { grace }), async {
            until("the stop", async || {
                let calls = engine.calls();
                calls.iter().any(|call| call.contains("/stop")).then_some(())
            })
            .await;
            let grace = Duration::ZERO;
            runtime.stop(&which, StopOptions { grace }).await
        });
        patient.unwrap();
        hasty.unwrap();
    }
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
    let runtime = patient(&socket);
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

#[tokio::test]
async fn of_two_networks_of_the_name_one_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let removed = AtomicBool::new(false);
    let network = |id: &str| json!({"Id": id, "Name": "toolhive-external", "Labels": {"toolhive": "true"}});
    let (first, second) = (network("n1"), network("n2"));
    let engine = Meddler::open(&socket, Path::new(NOBODY), move |_, call| match call {
        "GET /version" => Do::Answer(
            200,
            json!({"Version": "20.10", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}),
        ),
        "GET /info" => Do::Answer(200, json!({})),
        "DELETE /networks/n2" => {
            removed.store(true, Ordering::Relaxed);
            Do::Answer(204, Value::Null)
        }
        call if call.starts_with("GET /networks") && removed.load(Ordering::Relaxed) => {
            Do::Answer(200, json!([first]))
        }
        call if call.starts_with("GET /networks") => Do::Answer(200, json!([second, first])),
        call if call.starts_with("GET /containers/json") => Do::Answer(200, json!([])),
        _ => Do::Answer(404, json!({"message": "No such image: fetch"})),
    });
    let spec = DeploySpec::new(unique_name(), "fetch");
    let error = patient(&socket).deploy(&spec).await.unwrap_err();
    assert_eq!(error.code(), "image_not_found", "{error:?}");
    let calls = engine.calls();
    assert!(
        calls.iter().any(|call| call == "DELETE /networks/n2"),
        "{calls:?}"
    );
    assert!(
        engine
            .requests()
            .iter()
            .any(|request| request.contains(r#""NetworkMode":"n1""#))
    );
}
