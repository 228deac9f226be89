//! An isolated workload and its helpers live and end together, whatever happens to them, and as many as one likes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod cut;
mod images;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use support::isolating::{Isolating, http_port};
use support::meddler::{Do, Meddler};
use support::raw::{api, start_container};
use support::{soon, unique_name, until};
use thv_core::TransportType;
use thv_runtime::{
    DeployOutcome, DeploySpec, Endpoint, Error, EventFilter, EventKind, Expect, InstanceRef, InstanceState,
    NetworkMode, PortBinding, Runtime, StopOptions,
};
use thv_runtime_docker::{DockerConfig, DockerRuntime};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Notify;

const SHORT: StopOptions = StopOptions {
    grace: Duration::from_secs(2),
};
#[tokio::test]
async fn an_isolated_http_server_is_reached_by_its_port_and_lives_its_whole_life() {
    let Some(on) = Isolating::get().await else { return };
    // No capability lets it listen at a port below 1024.
    let mut spec = on.spec(&["serve", "hello", "80"]);
    let port = PortBinding {
        container_port: 80,
        ..http_port()
    };
    spec.transport = TransportType::StreamableHttp;
    spec.target = Some(port.clone());
    let first = on.runtime.deploy(&spec).await.unwrap();
    assert!(first.instance.network_isolated);
    let Endpoint::Http(at) = first.endpoint else {
        panic!("{:?}", first.endpoint)
    };
    answers(at, "hello").await;
    assert_eq!(on.containers(spec.name.as_str()).await.len(), 3);
    let listed = on.runtime.list().await.unwrap();
    assert_eq!(
        listed
            .iter()
            .filter(|it| it.instance_name.starts_with(spec.name.as_str()))
            .count(),
        1
    );

    spec.expect = Expect::Instance(first.instance.id.clone());
    let again = on.runtime.deploy(&spec).await.unwrap();
    assert_eq!(
        (again.outcome, again.endpoint),
        (DeployOutcome::AlreadyRunning, Endpoint::Http(at))
    );

    // Other rules are other helpers, and another container; also where a port is published twice.
    spec.egress.hosts = vec!["a.example".to_owned()];
    spec.publish = vec![port.clone(), port];
    let other = on.runtime.deploy(&spec).await.unwrap();
    assert_eq!(other.outcome, DeployOutcome::Replaced);
    let Endpoint::Http(at) = other.endpoint else {
        panic!("{:?}", other.endpoint)
    };
    answers(at, "hello").await;
    spec.publish.clear();
    spec.expect = Expect::Instance(other.instance.id);

    let which = InstanceRef::named(spec.name.clone());
    on.runtime.stop(&which, SHORT).await.unwrap();
    // The engine's list lags behind its answers.
    until("the end of the helpers", async || {
        let running = "/v1.41/containers/json";
        let (_, rows) = api(on.engine.socket(), "GET", running, &Value::Null).await;
        (!rows.contains(spec.name.as_str())).then_some(())
    })
    .await;
    let back = on.runtime.deploy(&spec).await.unwrap();
    let Endpoint::Http(at) = back.endpoint else {
        panic!("{:?}", back.endpoint)
    };
    answers(at, "hello").await;

    // A helper that died is noticed, and made anew with the next deployment.
    let mut events = on
        .runtime
        .events(EventFilter::of(spec.name.clone()))
        .await
        .unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().kind, EventKind::Synced);
    let well = on.runtime.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!(well.impaired, None);
    let kill = format!("/v1.41/containers/{}-egress/kill", spec.name);
    assert_eq!(api(on.engine.socket(), "POST", &kill, &Value::Null).await.0, 204);
    let told = soon("word of it", events.next()).await.unwrap().unwrap();
    assert_eq!(
        (told.workload.as_str(), told.kind),
        (spec.name.as_str(), EventKind::Impaired)
    );
    let cut_off = on.runtime.inspect(&spec.name).await.unwrap().unwrap();
    assert!(cut_off.impaired.is_some(), "{cut_off:?}");
    spec.expect = Expect::Instance(back.instance.id);
    let healed = on.runtime.deploy(&spec).await.unwrap();
    assert_eq!(healed.outcome, DeployOutcome::Replaced);
    let Endpoint::Http(at) = healed.endpoint else {
        panic!("{:?}", healed.endpoint)
    };
    answers(at, "hello").await;
    on.remove(&spec).await;
}

/// The server needs a moment to listen, and the helpers one to find it.
async fn answers(at: SocketAddr, text: &str) {
    until("an answer", async || {
        let mut stream = tokio::net::TcpStream::connect(at).await.ok()?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .ok()?;
        let mut lines = BufReader::new(stream).lines();
        let mut last = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            last = line;
        }
        (last == text).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_isolated_is_refused() {
    let Some(on) = Isolating::get().await else { return };
    let changes: [fn(&mut DeploySpec); 2] = [
        |spec| spec.privileged = true,
        |spec| spec.network = NetworkMode::Host,
    ];
    for change in changes {
        let mut spec = on.spec(&["echo"]);
        change(&mut spec);
        let error = on.runtime.deploy(&spec).await.unwrap_err();
        assert_eq!(error.code(), "unsupported", "{error:?}");
        assert!(on.containers(spec.name.as_str()).await.is_empty());
    }
    let error = on.engine.runtime.deploy(&on.spec(&["echo"])).await.unwrap_err();
    assert_eq!(error.code(), "unsupported", "without the helper: {error:?}");

    // Nobody would learn from a helper that ends why it did.
    let mut spec = on.spec(&["echo"]);
    spec.egress.hosts = vec!["a.example".to_owned(), "*".to_owned()];
    let error = on.runtime.deploy(&spec).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("\"*\""), "{error}");
    assert!(on.containers(spec.name.as_str()).await.is_empty());
}

/// That is said, and refused, never left out in silence.
#[tokio::test]
async fn isolation_is_refused_where_it_was_not_tried() {
    for (security, tried) in [("name=rootless", false), ("name=seccomp,profile=default", true)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let _engine = Meddler::open(&path, Path::new("/nowhere"), move |_, call| match call {
            "GET /version" => Do::Answer(
                200,
                json!({"Version": "4.3.1", "ApiVersion": "1.41", "MinAPIVersion": "1.24",
                    "Components": [{"Name": "Podman Engine"}]}),
            ),
            "GET /info" => Do::Answer(200, json!({ "SecurityOptions": [security] })),
            "GET /_ping" => Do::Answer(200, json!("OK")),
            call if call.starts_with("GET /containers/json") => Do::Answer(200, json!([])),
            _ => Do::Answer(404, json!({"message": "no"})),
        });
        let program = std::env::current_exe().unwrap();
        let runtime = DockerRuntime::new(DockerConfig::at(&path).with_egress_helper(program));
        let mut spec = DeploySpec::new(unique_name(), "fetch");
        spec.isolate_network = true;
        runtime.ping().await.unwrap();
        let error = runtime.deploy(&spec).await.unwrap_err();
        assert_eq!(error.code(), "unsupported", "{error:?}");
        // This program is none that could do it, which is said where the engine could.
        let lacks = runtime.capabilities().isolation_lacks.unwrap();
        assert_eq!(!lacks.contains("Podman without root"), tried, "{lacks}");
    }
}

#[tokio::test]
async fn helpers_of_an_isolated_deployment_that_fails_are_removed() {
    let Some(on) = Isolating::get().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let starts = AtomicUsize::new(0);
    // Two helpers, then the workload, which has ended when it is looked at.
    let _front = Meddler::open(&path, on.engine.socket(), move |_, call| {
        if call.ends_with("/start") {
            starts.fetch_add(1, Ordering::Relaxed);
        }
        let is_look = call.starts_with("GET /containers/") && !call.contains("/containers/json");
        if is_look && starts.load(Ordering::Relaxed) == 3 {
            let state = json!({"Status": "exited", "ExitCode": 3});
            return Do::Answer(
                200,
                json!({"Id": "abc", "State": state, "Config": {}, "HostConfig": {}}),
            );
        }
        Do::Forward
    });
    let behind = DockerRuntime::new(DockerConfig::at(&path).with_egress_helper(&on.helper));
    let mut missing = on.spec(&["echo"]);
    "localhost/thv-test/missing:none".clone_into(&mut missing.image);
    let ends = on.spec(&["echo"]);
    for (runtime, spec, code) in [
        (&on.runtime, missing, "image_not_found"),
        (&behind, ends, "start_failed"),
    ] {
        let error = runtime.deploy(&spec).await.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        let left = on.containers(spec.name.as_str()).await;
        assert!(left.is_empty(), "{code}: left {left:?}");
    }
}

#[tokio::test]
async fn of_a_helper_that_has_ended_the_last_lines_are_told() {
    let Some(on) = Isolating::get().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let starts = AtomicUsize::new(0);
    // The outer helper has ended when it is looked at, which is after the start of the inner one.
    let _front = Meddler::open(&path, on.engine.socket(), move |_, call| match call {
        call if call.ends_with("/start") => {
            starts.fetch_add(1, Ordering::Relaxed);
            Do::Forward
        }
        call if call.contains("/logs?") => Do::Send("HTTP/1.1 200 OK\r\n\r\n\x02\0\0\0\0\0\0\rthv-egress: x"),
        call if call.ends_with("/json") && starts.load(Ordering::Relaxed) == 2 => Do::Answer(
            200,
            json!({"Id": "abc", "State": {"Status": "exited"}, "Config": {}, "HostConfig": {}}),
        ),
        _ => Do::Forward,
    });
    let runtime = DockerRuntime::new(DockerConfig::at(&path).with_egress_helper(&on.helper));
    let error = runtime.deploy(&on.spec(&["echo"])).await.unwrap_err();
    assert!(
        matches!(&error, Error::StartFailed { last_lines, .. } if last_lines.as_slice() == ["thv-egress: x"]),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_isolated_workload_that_nobody_waits_for_any_more_goes_with_its_helpers() {
    let Some(on) = Isolating::get().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let dropped = Arc::new(Notify::new());
    let (waits, starts) = (Arc::clone(&dropped), AtomicUsize::new(0));
    let front = Meddler::open(&path, on.engine.socket(), move |_, call| {
        // Two helpers, then the workload, which takes its time.
        if call.ends_with("/start") && starts.fetch_add(1, Ordering::Relaxed) == 2 {
            return Do::After(Arc::clone(&waits), Box::new(Do::Forward));
        }
        Do::Forward
    });
    let runtime = DockerRuntime::new(DockerConfig::at(&path).with_egress_helper(&on.helper));
    let spec = on.spec(&["echo"]);
    let starting = until("the start", async || {
        let calls = front.calls();
        let starts = calls.iter().filter(|call| call.ends_with("/start"));
        (starts.count() == 3).then_some(())
    });
    tokio::select! {
        () = starting => {}
        deployed = runtime.deploy(&spec) => panic!("{deployed:?}"),
    }
    dropped.notify_one();
    until("the removal of all three", async || {
        let left = on.containers(spec.name.as_str()).await;
        left.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stop_after_the_container_was_removed_alone_stops_its_helpers() {
    let Some(on) = Isolating::get().await else { return };
    let spec = on.spec(&["echo"]);
    on.runtime.deploy(&spec).await.unwrap();
    let path = format!("/v1.41/containers/{}?force=true", spec.name);
    let (status, answer) = api(on.engine.socket(), "DELETE", &path, &Value::Null).await;
    assert_eq!(status, 204, "{answer}");
    let which = InstanceRef::named(spec.name.clone());
    on.runtime.stop(&which, SHORT).await.unwrap();
    for role in ["egress", "ingress"] {
        let path = format!("/v1.41/containers/{}-{role}/json", spec.name);
        let (_, answer) = api(on.engine.socket(), "GET", &path, &Value::Null).await;
        let seen: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(seen["State"]["Running"], false, "{role}");
    }
    on.remove(&spec).await;
}

#[tokio::test]
async fn a_container_that_somebody_renamed_keeps_its_helpers_and_takes_them_along() {
    let Some(on) = Isolating::get().await else { return };
    let mut spec = on.spec(&["echo"]);
    let id = on.runtime.deploy(&spec).await.unwrap().instance.id;
    let path = format!("/v1.41/containers/{id}/rename?name={}-renamed", spec.name);
    let (status, answer) = api(on.engine.socket(), "POST", &path, &Value::Null).await;
    assert_eq!(status, 204, "{answer}");
    let seen = on.runtime.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!((&seen.id, &seen.impaired), (&id, &None));
    spec.expect = Expect::Instance(id);
    let again = on.runtime.deploy(&spec).await.unwrap();
    assert_eq!(again.outcome, DeployOutcome::AlreadyRunning);

    let which = InstanceRef::named(spec.name.clone());
    on.runtime.stop(&which, SHORT).await.unwrap();
    for role in ["egress", "ingress"] {
        let path = format!("/v1.41/containers/{}-{role}/json", spec.name);
        let (_, answer) = api(on.engine.socket(), "GET", &path, &Value::Null).await;
        let seen: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(seen["State"]["Running"], false, "{role}");
    }
    on.runtime.remove(&which).await.unwrap();
    let left = on.containers(spec.name.as_str()).await;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn the_shared_network_that_vanishes_under_an_isolated_deployment_is_made_again() {
    let Some(on) = Isolating::get().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let creations = AtomicUsize::new(0);
    let _front = Meddler::open(&path, on.engine.socket(), move |_, call| {
        if call.starts_with("POST /containers/create") && creations.fetch_add(1, Ordering::Relaxed) == 0 {
            return Do::Answer(404, json!({"message": "network toolhive-external not found"}));
        }
        Do::Forward
    });
    let runtime = DockerRuntime::new(DockerConfig::at(&path).with_egress_helper(&on.helper));
    let spec = on.spec(&["echo"]);
    runtime.deploy(&spec).await.unwrap();
    on.remove(&spec).await;
}

/// As engines say it that run in a virtual machine and mount what is shared with that.
#[tokio::test]
async fn an_engine_that_does_not_mount_its_hosts_addresses_isolates_without() {
    let Some(on) = Isolating::get().await else { return };
    for refused_at in ["create?", "/start"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let refusals = AtomicUsize::new(0);
        let front = Meddler::open(&path, on.engine.socket(), move |_, call| {
            if call.contains(refused_at) && refusals.fetch_add(1, Ordering::Relaxed) == 0 {
                let words = "mounts denied: the path /proc/1/net is not shared from the host";
                return Do::Answer(500, json!({ "message": words }));
            }
            Do::Forward
        });
        let runtime = DockerRuntime::new(DockerConfig::at(&path).with_egress_helper(&on.helper));
        let mut spec = on.spec(&["echo"]);
        let deployed = runtime.deploy(&spec).await.unwrap();
        let requests = front.requests();
        // Each of them may be tried more than once: another test takes the image of the helpers away meanwhile.
        let creations = requests.iter().filter(|request| {
            let line = request.lines().next().unwrap_or_default();
            line.contains("/containers/create") && line.contains("egress")
        });
        let mut with: Vec<_> = creations
            .map(|request| request.contains("/proc/1/net\""))
            .collect();
        with.dedup();
        assert_eq!(with, [true, false], "{refused_at}");
        // It is what it would be made as: nothing is made anew for that.
        spec.expect = Expect::Instance(deployed.instance.id);
        let again = on.runtime.deploy(&spec).await.unwrap();
        assert_eq!(again.outcome, DeployOutcome::AlreadyRunning);
        on.remove(&spec).await;
    }
}

/// An engine that starts a container looks at what it has mounted, and what the kernel makes up may be another by then.
#[tokio::test]
async fn who_reads_the_hosts_addresses_meanwhile_is_in_nobodys_way() {
    let Some(on) = Isolating::get().await else { return };
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while !done.load(Ordering::Relaxed) {
                let _any = std::fs::read("/proc/1/net/fib_trie");
            }
        }
    });
    let mut deployed = Vec::new();
    for _ in 0..5 {
        let spec = on.spec(&["echo"]);
        let outcome = on.runtime.deploy(&spec).await;
        let helper = format!("/v1.41/containers/{}-egress/json", spec.instance_name);
        let (_, helper) = api(on.engine.socket(), "GET", &helper, &Value::Null).await;
        deployed.push((outcome, helper.contains("--deny-in")));
        on.remove(&spec).await;
    }
    done.store(true, Ordering::Relaxed);
    reader.join().unwrap();
    for (outcome, reads_them) in deployed {
        outcome.unwrap();
        assert!(reads_them, "it does without");
    }
}

#[tokio::test]
async fn the_network_that_toolhive_left_around_a_workload_goes_when_it_is_deployed() {
    let Some(on) = Isolating::get().await else { return };
    let spec = on.spec(&["echo"]);
    let network = format!("toolhive-{}-internal", spec.name);
    let body = json!({"Name": network, "Internal": true, "Labels": {"toolhive": "true"}});
    let create = "/v1.41/networks/create";
    let (status, answer) = api(on.engine.socket(), "POST", create, &body).await;
    assert_eq!(status, 201, "{answer}");
    on.runtime.deploy(&spec).await.unwrap();
    let path = format!("/v1.41/networks/{network}");
    let (status, _) = api(on.engine.socket(), "GET", &path, &Value::Null).await;
    assert_eq!(status, 404, "it is left");
    on.remove(&spec).await;
}

#[tokio::test]
async fn the_names_of_helpers_that_strangers_have_are_stepped_over() {
    let Some(on) = Isolating::get().await else { return };
    let mut spec = on.spec(&["serve", "hello"]);
    spec.transport = TransportType::StreamableHttp;
    spec.target = Some(http_port());
    let name = spec.name.clone();
    let mut strangers = Vec::new();
    for role in ["egress", "ingress"] {
        let body = json!({ "Image": on.engine.image, "Cmd": ["http"] });
        let stranger = format!("{name}-{role}");
        strangers.push(start_container(on.engine.socket(), &stranger, &body).await);
    }
    let first = on.runtime.deploy(&spec).await.unwrap();
    let Endpoint::Http(at) = first.endpoint else {
        panic!("{:?}", first.endpoint)
    };
    answers(at, "hello").await;
    assert_eq!(on.containers(name.as_str()).await.len(), 5);
    let seen = on.runtime.inspect(&name).await.unwrap().unwrap();
    assert_eq!(seen.impaired, None);
    spec.expect = Expect::Instance(first.instance.id);
    let again = on.runtime.deploy(&spec).await.unwrap();
    assert_eq!(again.outcome, DeployOutcome::AlreadyRunning);
    let which = InstanceRef::named(name.clone());
    on.runtime.stop(&which, SHORT).await.unwrap();
    on.runtime.remove(&which).await.unwrap();
    let left = on.containers(name.as_str()).await;
    assert_eq!(left.len(), 2, "the strangers stay: {left:?}");
    for id in strangers {
        let path = format!("/v1.41/containers/{id}?force=true");
        assert_eq!(
            api(on.engine.socket(), "DELETE", &path, &Value::Null).await.0,
            204
        );
    }
}

/// `THV_TEST_ISOLATED` says how many; more than about 30 are more than an engine has pools of addresses.
#[tokio::test]
async fn many_isolated_workloads_need_no_network_each_and_are_listed_in_one_call() {
    let Some(on) = Isolating::get().await else { return };
    let count = std::env::var("THV_TEST_ISOLATED").map_or(4, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let socket = Meddler::open(&path, on.engine.socket(), |_, _| Do::Forward);
    let runtime = DockerRuntime::new(DockerConfig::at(&path).with_egress_helper(&on.helper));
    let specs: Vec<_> = (0..count).map(|_| on.spec(&["echo"])).collect();
    let began = std::time::Instant::now();
    let deployed: Vec<_> = stream::iter(&specs)
        .map(|spec| runtime.deploy(spec))
        .buffer_unordered(8)
        .collect()
        .await;
    let failed: Vec<_> = deployed.iter().filter_map(|one| one.as_ref().err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let up = began.elapsed();
    let made = socket
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("POST /networks"));
    // Another test may take away meanwhile the one that all share.
    assert!(made.count() < count, "each has a network");

    // The engine's list lags behind its answers.
    let list = until("a list with all of them", async || {
        let before = socket.calls().len();
        let began = std::time::Instant::now();
        let listed = runtime.list().await.unwrap();
        let list = began.elapsed();
        assert_eq!(
            socket.calls().len(),
            before + 1,
            "{:?}",
            &socket.calls()[before..]
        );
        let running = |spec: &DeploySpec| {
            let mut all = listed.iter();
            all.any(|it| it.instance_name == spec.instance_name && it.state == InstanceState::Running)
        };
        specs.iter().all(running).then_some(list)
    })
    .await;

    let began = std::time::Instant::now();
    let removed: Vec<_> = stream::iter(&specs)
        .map(|spec| async { runtime.remove(&InstanceRef::named(spec.name.clone())).await })
        .buffer_unordered(8)
        .collect()
        .await;
    eprintln!(
        "{count} isolated: up {up:.1?}, listed {list:.1?}, gone {:.1?}",
        began.elapsed()
    );
    let stay: Vec<_> = removed.iter().filter_map(|one| one.as_ref().err()).collect();
    assert!(stay.is_empty(), "{stay:?}");
    for spec in &specs {
        until("a list without it", async || {
            on.containers(spec.name.as_str()).await.is_empty().then_some(())
        })
        .await;
    }
}
