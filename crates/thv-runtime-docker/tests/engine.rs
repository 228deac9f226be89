//! What Docker promises beyond the contract of a runtime, on a real engine.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use support::meddler::{Do, Meddler};
use support::raw::{Front, api, start_container};
use support::{TestEngine, soon, unique_name, until};
use thv_core::{TransportType, WorkloadName};
use thv_runtime::{
    DeployOutcome, DeploySpec, Endpoint, Error, Expect, HiddenPath, InstanceRef, InstanceState, LogOptions,
    MountBind, NamedVolume, NetworkMode, PortBinding, Runtime, StopOptions,
};
use thv_runtime_docker::{DockerConfig, DockerRuntime, Flavour};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Notify;

const SHORT: StopOptions = StopOptions {
    grace: Duration::from_secs(2),
};

fn http_on(port: u16) -> PortBinding {
    PortBinding {
        container_port: 8080,
        host_ip: Some([127, 0, 0, 1].into()),
        host_port: port,
    }
}

fn labels(name: &str, helper: bool) -> Value {
    let mut labels = json!({
        "toolhive": "true", "toolhive-name": name, "toolhive-basename": name, "toolhive-transport": "stdio",
        "toolhive-port": "34127", "toolhive-network-isolation": "true"
    });
    if helper {
        labels["toolhive-auxiliary-workload"] = json!("true");
    }
    labels
}

#[tokio::test]
async fn what_toolhive_made_is_listed_stopped_replaced_and_removed_with_its_helpers() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let name = unique_name();
    let body = |name: &str, helper: bool| {
        json!({
            "Image": engine.image, "Cmd": ["echo"], "Labels": labels(name, helper),
            "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "OpenStdin": true,
            "HostConfig": {
                "CapDrop": ["ALL"], "SecurityOpt": ["label:disable"], "RestartPolicy": {"Name": "unless-stopped"}
            },
        })
    };
    let socket = engine.socket();
    let id = start_container(socket, name.as_str(), &body(name.as_str(), false)).await;
    let helper = format!("{name}-egress");
    start_container(socket, &helper, &body(&helper, true)).await;
    let network = format!("toolhive-{name}-internal");
    let (status, answer) = api(
        socket,
        "POST",
        "/v1.41/networks/create",
        &json!({"Name": network, "Internal": true, "Labels": {"toolhive": "true"}}),
    )
    .await;
    assert_eq!(status, 201, "{answer}");

    // The engine's list lags behind its answers.
    let listed = until("a list of what runs", async || {
        let mut listed = engine.runtime.list().await.unwrap();
        listed.retain(|one| one.instance_name.starts_with(name.as_str()));
        assert!(listed.len() < 2, "the helper is hidden: {listed:?}");
        listed.pop().filter(|one| one.state == InstanceState::Running)
    })
    .await;
    assert_eq!(listed.id.as_str(), id);
    assert!(listed.network_isolated);

    engine
        .runtime
        .stop(&InstanceRef::named(name.clone()), SHORT)
        .await
        .unwrap();
    let stopped = engine.runtime.inspect(&name).await.unwrap().unwrap();
    assert_eq!(stopped.state, InstanceState::Stopped, "{}", stopped.status_text);
    let path = format!("/v1.41/containers/{helper}/json");
    let (_, answer) = api(socket, "GET", &path, &Value::Null).await;
    let seen: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(seen["State"]["Running"], false, "its helper ends with it");

    let mut spec = engine.spec_named(name.clone(), &["echo"]);
    spec.expect = Expect::Instance(stopped.id);
    let deployed = engine.runtime.deploy(&spec).await.unwrap();
    assert_eq!(
        deployed.outcome,
        DeployOutcome::Replaced,
        "its restart policy is not ours"
    );

    engine.remove(&name).await;
    for (kind, gone) in [
        ("containers", name.as_str()),
        ("containers", &helper),
        ("networks", &network),
    ] {
        let path = if kind == "containers" {
            format!("/v1.41/{kind}/{gone}/json")
        } else {
            format!("/v1.41/{kind}/{gone}")
        };
        assert_eq!(
            api(socket, "GET", &path, &Value::Null).await.0,
            404,
            "{gone} is left"
        );
    }
}

#[tokio::test]
async fn a_network_of_a_stranger_stays_whatever_its_name() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let spec = engine.spec(&["echo"]);
    let network = format!("toolhive-{}-internal", spec.name);
    let create = "/v1.41/networks/create";
    let (status, answer) = api(engine.socket(), "POST", create, &json!({ "Name": network })).await;
    assert_eq!(status, 201, "{answer}");
    engine.runtime.deploy(&spec).await.unwrap();
    engine.remove(&spec.name).await;
    let path = format!("/v1.41/networks/{network}");
    assert_eq!(
        api(engine.socket(), "DELETE", &path, &Value::Null).await.0,
        204,
        "it is gone"
    );
}

#[tokio::test]
async fn an_identical_container_is_reused_whatever_it_asks_for() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut spec = engine.spec(&["http"]);
    spec.transport = TransportType::StreamableHttp;
    spec.target = Some(http_on(0));
    spec.publish.push(PortBinding {
        container_port: 9000,
        host_ip: None,
        host_port: 0,
    });
    spec.env.insert("GREETING".to_owned(), "hello = world".to_owned());
    spec.mounts.push(MountBind {
        source: folder.path().into(),
        target: "/data".to_owned(),
        read_only: true,
    });
    spec.limits.memory = Some(64 << 20);
    spec.limits.cpus = Some(0.5);
    spec.limits.pids = Some(20);
    let first = engine.runtime.deploy(&spec).await.unwrap();
    let Endpoint::Http(address) = first.endpoint else {
        panic!("{:?}", first.endpoint)
    };
    assert!(address.ip().is_loopback() && address.port() != 0);
    spec.expect = Expect::Instance(first.instance.id.clone());
    assert_eq!(
        engine.runtime.deploy(&spec).await.unwrap().outcome,
        DeployOutcome::AlreadyRunning
    );
    engine
        .runtime
        .stop(&InstanceRef::named(spec.name.clone()), SHORT)
        .await
        .unwrap();
    assert_eq!(
        engine.runtime.deploy(&spec).await.unwrap().outcome,
        DeployOutcome::Started
    );
    spec.limits.pids = Some(21);
    assert_eq!(
        engine.runtime.deploy(&spec).await.unwrap().outcome,
        DeployOutcome::Replaced
    );
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

/// Labels of an image are its container's, and helpers are listed nowhere.
#[tokio::test]
async fn an_image_that_would_hide_its_container_as_a_helper_is_refused() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let of = engine.spec(&["echo"]);
    let made_of = engine.runtime.deploy(&of).await.unwrap().instance.id;
    for label in [
        "toolhive-auxiliary-workload=true",
        "toolhive-auxiliary=True",
        "thv-helped-workload=other",
    ] {
        let mut spec = engine.spec(&["echo"]);
        spec.image = committed(&engine, made_of.as_str(), &spec.name, &format!("LABEL {label}")).await;
        let error = engine.runtime.deploy(&spec).await.unwrap_err();
        assert_eq!(error.code(), "invalid", "{error:?}");
        let (mark, _) = label.split_once('=').unwrap();
        assert!(error.to_string().contains(mark), "{error}");
        let path = format!("/v1.41/containers/{}/json", spec.name);
        let (status, _) = api(engine.socket(), "GET", &path, &Value::Null).await;
        assert_eq!(status, 404, "{label}: it is left");
        untagged(&engine, &spec.image).await;
    }
    engine.remove(&of.name).await;
}

/// What is written outside of mounts is kept with its container.
#[tokio::test]
async fn what_an_image_asks_for_itself_makes_no_other_container() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let of = engine.spec(&["echo"]);
    let made_of = engine.runtime.deploy(&of).await.unwrap().instance.id;
    for change in [
        "VOLUME /data",
        "VOLUME /tmp",
        "EXPOSE 9999",
        "EXPOSE 53/udp",
        "ENV MCP_PORT=1",
        "ENV HOME=/data",
        "ENV TERM=dumb",
        "WORKDIR /not/there/yet",
        "USER 1000:1000",
        "STOPSIGNAL SIGINT",
        "LABEL toolhive-name=other",
        "LABEL colour=red",
        "CMD echo more",
    ] {
        let mut spec = engine.spec(&["echo"]);
        spec.read_only = true;
        spec.image = committed(&engine, made_of.as_str(), &spec.name, change).await;
        let id = engine.runtime.deploy(&spec).await.unwrap().instance.id;
        spec.expect = Expect::Instance(id);
        let again = engine.runtime.deploy(&spec).await.unwrap().outcome;
        assert_eq!(again, DeployOutcome::AlreadyRunning, "{change}");
        let which = InstanceRef::named(spec.name.clone());
        engine.runtime.stop(&which, SHORT).await.unwrap();
        let again = engine.runtime.deploy(&spec).await.unwrap().outcome;
        assert_eq!(again, DeployOutcome::Started, "{change}");
        engine.remove(&spec.name).await;
        untagged(&engine, &spec.image).await;
    }
    engine.remove(&of.name).await;
}

/// The image of a container with one more instruction, for this workload alone.
async fn committed(engine: &TestEngine, container: &str, of: &WorkloadName, change: &str) -> String {
    let repository = "localhost/thv-test/committed";
    let change = change.replace(' ', "%20");
    let path = format!("/v1.41/commit?container={container}&repo={repository}&tag={of}&changes={change}");
    let (status, answer) = api(engine.socket(), "POST", &path, &json!({})).await;
    assert_eq!(status, 201, "{answer}");
    format!("{repository}:{of}")
}

async fn untagged(engine: &TestEngine, image: &str) {
    let path = format!("/v1.41/images/{image}");
    let (status, answer) = api(engine.socket(), "DELETE", &path, &Value::Null).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn each_network_mode_is_what_it_says() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    for mode in [
        NetworkMode::Host,
        NetworkMode::None,
        NetworkMode::Named("bridge".to_owned()),
    ] {
        let mut spec = engine.spec(&["echo"]);
        spec.network = mode.clone();
        let id = engine.runtime.deploy(&spec).await.unwrap().instance.id;
        spec.expect = Expect::Instance(id);
        assert_eq!(
            engine.runtime.deploy(&spec).await.unwrap().outcome,
            DeployOutcome::AlreadyRunning,
            "{mode:?}"
        );
        engine.remove(&spec.name).await;
    }
    let mut spec = engine.spec(&["echo"]);
    spec.network = NetworkMode::Named("thv-test-missing".to_owned());
    let error = engine.runtime.deploy(&spec).await.unwrap_err();
    assert_eq!(error.code(), "invalid", "{error:?}");
    assert!(error.to_string().contains("thv-test-missing"), "{error}");
    assert!(engine.runtime.inspect(&spec.name).await.unwrap().is_none());
}

#[tokio::test]
async fn a_container_that_somebody_paused_is_stopped_and_removed_all_the_same() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let spec = engine.spec(&["echo"]);
    let which = InstanceRef::named(spec.name.clone());
    let id = engine.runtime.deploy(&spec).await.unwrap().instance.id;
    let pause = async || {
        let path = format!("/v1.41/containers/{id}/pause");
        let ask = async || api(engine.socket(), "POST", &path, &Value::Null).await;
        let (mut status, mut answer) = ask().await;
        // As runc says of a container that does not hold still on a busy machine.
        for _ in 0..20 {
            if status != 500 || !answer.contains("unable to freeze") {
                break;
            }
            (status, answer) = ask().await;
        }
        assert_eq!(status, 204, "{answer}");
        let seen = engine.runtime.inspect(&spec.name).await.unwrap().unwrap();
        assert_eq!(seen.state, InstanceState::Paused, "{}", seen.status_text);
    };
    pause().await;
    engine.runtime.stop(&which, SHORT).await.unwrap();
    let stopped = engine.runtime.inspect(&spec.name).await.unwrap().unwrap();
    assert!(stopped.exit_code.is_some(), "{}", stopped.status_text);

    let mut again = spec.clone();
    again.expect = Expect::Instance(id.clone());
    let started = engine.runtime.deploy(&again).await.unwrap();
    assert_eq!(started.outcome, DeployOutcome::Started);
    pause().await;
    engine.runtime.remove(&which).await.unwrap();
    assert!(engine.runtime.inspect(&spec.name).await.unwrap().is_none());
}

#[tokio::test]
async fn a_busy_port_is_named_and_nothing_is_left() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    // Held by a container: the engine's network may be another one than ours.
    let mut holder = engine.spec(&["http"]);
    holder.transport = TransportType::StreamableHttp;
    holder.target = Some(http_on(0));
    let held = engine.runtime.deploy(&holder).await.unwrap();
    let Endpoint::Http(address) = held.endpoint else {
        panic!("{:?}", held.endpoint)
    };
    let port = address.port();
    let mut spec = engine.spec(&["http"]);
    spec.transport = TransportType::StreamableHttp;
    spec.target = Some(http_on(port));
    match engine.runtime.deploy(&spec).await {
        Err(Error::PortTaken { port: named, .. }) => assert_eq!(named, port),
        other => panic!("{other:?}"),
    }
    assert!(engine.runtime.inspect(&spec.name).await.unwrap().is_none());
    engine.remove(&holder.name).await;
}

#[tokio::test]
async fn a_container_that_ran_out_of_memory_says_so() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    if engine.runtime.engine_info().await.unwrap().flavour == Flavour::Podman {
        eprintln!("skipped: Podman does not tell");
        return;
    }
    let mut spec = engine.spec(&["eat"]);
    spec.limits.memory = Some(32 << 20);
    engine.runtime.deploy(&spec).await.unwrap();
    let which = InstanceRef::named(spec.name.clone());
    let mut stdio = engine.runtime.attach(&which).await.unwrap();
    stdio.stdin.write_all(b"!").await.unwrap();
    stdio.stdin.flush().await.unwrap();
    // A busy engine may hear of the reason late.
    until("the end and its reason", async || {
        let seen = engine.runtime.inspect(&spec.name).await.unwrap().unwrap();
        let told = seen.status_text == "out of memory (limit 32 MiB)";
        (seen.state == InstanceState::Stopped && told).then_some(())
    })
    .await;
    engine.remove(&spec.name).await;
}

#[tokio::test]
async fn a_container_is_hardened_where_that_costs_nothing() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let podman = engine.runtime.engine_info().await.unwrap().flavour == Flavour::Podman;
    let spec = engine.spec(&["about"]);
    let id = engine.runtime.deploy(&spec).await.unwrap().instance.id;
    let about = engine.ready(&spec.name).await.remove(0);
    assert!(about.ends_with("NoNewPrivs:\t1"), "{about}");
    assert!(
        about.contains("CapBnd:\t0000000000000000"),
        "no capability, and none to get: {about}"
    );
    assert_eq!(
        about.starts_with("process 1 "),
        podman,
        "an init process is the first: {about}"
    );
    let (_, answer) = api(
        engine.socket(),
        "GET",
        &format!("/v1.41/containers/{id}/json"),
        &Value::Null,
    )
    .await;
    let seen: Value = serde_json::from_str(&answer).unwrap();
    if seen["HostConfig"]["LogConfig"]["Type"] == "json-file" && !podman {
        assert_eq!(seen["HostConfig"]["LogConfig"]["Config"]["max-size"], "10m");
    }
    engine.remove(&spec.name).await;
}

#[tokio::test]
async fn a_server_sees_and_writes_what_it_is_given_and_nothing_else() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    for (path, text) in [("open", "seen"), (".env", "hidden"), ("keys/one", "hidden")] {
        std::fs::write(folder.path().join(path), text).unwrap();
    }
    let volume = format!("{}-volume", unique_name());
    let mut spec = engine.spec(&[
        "look", "/", "/tmp", "/r", "/v", "/d", "/d/open", "/d/.env", "/d/keys",
    ]);
    spec.read_only = true;
    spec.mounts.push(MountBind {
        source: folder.path().into(),
        target: "/d".to_owned(),
        read_only: false,
    });
    for (target, read_only) in [("/v", false), ("/r", true)] {
        spec.volumes.push(NamedVolume {
            name: volume.clone(),
            target: target.to_owned(),
            read_only,
        });
    }
    for (target, is_folder) in [("/d/.env", false), ("/d/keys", true)] {
        spec.hidden.push(HiddenPath {
            target: target.to_owned(),
            is_folder,
        });
    }
    spec.expect = Expect::Instance(engine.runtime.deploy(&spec).await.unwrap().instance.id);
    let seen = engine.ready(&spec.name).await;
    let root = seen.iter().find(|line| line.starts_with("/ ")).unwrap();
    assert!(root.ends_with("read-only"), "{root}");
    for line in [
        "/tmp [] writable",
        "/r [] read-only",
        "/v [] writable",
        "/d [.env,keys,open] writable",
        "/d/open [seen] writable",
        // What is written there goes nowhere.
        "/d/.env [] writable",
        "/d/keys [] read-only",
    ] {
        assert!(seen.iter().any(|seen| seen == line), "{line}: {seen:?}");
    }
    let untouched = std::fs::read_to_string(folder.path().join(".env")).unwrap();
    assert_eq!(untouched, "hidden");
    // The same again is the same container, and less hidden is another one.
    let again = engine.runtime.deploy(&spec).await.unwrap().outcome;
    assert_eq!(again, DeployOutcome::AlreadyRunning);
    spec.hidden.pop();
    let other = engine.runtime.deploy(&spec).await.unwrap().outcome;
    assert_eq!(other, DeployOutcome::Replaced);
    engine.remove(&spec.name).await;
    let path = format!("/v1.41/volumes/{volume}");
    assert_eq!(
        api(engine.socket(), "GET", &path, &Value::Null).await.0,
        200,
        "it outlives its server"
    );
    assert_eq!(api(engine.socket(), "DELETE", &path, &Value::Null).await.0, 204);
}

#[tokio::test]
async fn a_long_line_is_one_line_in_the_log() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let spec = engine.spec(&["echo"]);
    engine.runtime.deploy(&spec).await.unwrap();
    let which = InstanceRef::named(spec.name.clone());
    let mut stdio = engine.runtime.attach(&which).await.unwrap();
    let line = "0123456789".repeat(20_000);
    stdio
        .stdin
        .write_all(format!("{line}\n").as_bytes())
        .await
        .unwrap();
    let mut answers = BufReader::new(&mut stdio.stdout).lines();
    assert_eq!(
        soon("the answer", answers.next_line()).await.unwrap().as_deref(),
        Some(line.as_str())
    );
    until("the line in the log", async || {
        let logs = engine.runtime.logs(&which, LogOptions::default()).await.unwrap();
        let lines: Vec<_> = logs.map(|line| line.unwrap()).collect().await;
        lines
            .iter()
            .any(|logged| logged.line == line.as_bytes() && logged.time.is_some())
            .then_some(())
    })
    .await;
    engine.remove(&spec.name).await;
}

#[tokio::test]
async fn the_last_lines_of_a_log_are_whole() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    // It writes each line and its end in two pieces, which an engine sees as one or as two.
    let spec = engine.spec(&["pieces", "20"]);
    engine.runtime.deploy(&spec).await.unwrap();
    let which = InstanceRef::named(spec.name.clone());
    let lines = async |tail| {
        let opts = LogOptions {
            tail,
            ..LogOptions::default()
        };
        let logs = engine.runtime.logs(&which, opts).await.unwrap();
        let lines: Vec<_> = logs.map(|line| line.unwrap().line).collect().await;
        lines
            .iter()
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect::<Vec<_>>()
    };
    let all = until("the end of the log", async || {
        let all = lines(None).await;
        (all.last()? == "thv-contract ready").then_some(all)
    })
    .await;
    assert_eq!(all.len(), 21, "{all:?}");
    for tail in [0, 1, 5, 21, 100] {
        let skipped = all.len().saturating_sub(tail);
        assert_eq!(lines(Some(tail)).await, all[skipped..], "of {tail}");
    }
    engine.remove(&spec.name).await;
}

#[tokio::test]
async fn of_a_server_that_ended_at_once_the_last_lines_are_told() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let said: Vec<_> = (1..=30).map(|number| format!("line {number}")).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    for private_output in [true, false] {
        let mut spec = engine.spec(&["exit", &said.join("\n"), "3"]);
        spec.private_output = private_output;
        // The look at what was started waits until that has ended.
        let ended = Arc::new(Notify::new());
        let (waits, waited, name) = (Arc::clone(&ended), AtomicBool::new(false), spec.name.clone());
        let _front = Meddler::open(&path, engine.socket(), move |_, call| {
            let looks = call.starts_with("GET /containers/") && call.ends_with("/json");
            if looks && !call.contains(name.as_str()) && !waited.swap(true, Ordering::Relaxed) {
                return Do::After(Arc::clone(&waits), Box::new(Do::Forward));
            }
            Do::Forward
        });
        let runtime = DockerRuntime::new(DockerConfig::at(&path));
        let ends = until("the end", async || {
            let seen = engine.runtime.inspect(&spec.name).await.unwrap()?;
            (seen.state == InstanceState::Stopped).then(|| ended.notify_one())
        });
        let (deployed, ()) = tokio::join!(runtime.deploy(&spec), ends);
        let error = deployed.unwrap_err();
        let Error::StartFailed { last_lines, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(last_lines, said[10..], "private: {private_output}");
    }
}

#[tokio::test]
async fn a_followed_log_goes_on_when_the_container_starts_again() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let mut spec = engine.spec(&["echo"]);
    spec.expect = Expect::Instance(engine.runtime.deploy(&spec).await.unwrap().instance.id);
    let which = InstanceRef::named(spec.name.clone());
    let mut logs = engine
        .runtime
        .logs(
            &which,
            LogOptions {
                tail: None,
                follow: true,
                ..LogOptions::default()
            },
        )
        .await
        .unwrap();
    for _ in 0..3 {
        let line = soon("the server's first line", logs.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(line.line, b"thv-contract ready"[..]);
        engine.runtime.stop(&which, SHORT).await.unwrap();
        assert_eq!(
            engine.runtime.deploy(&spec).await.unwrap().outcome,
            DeployOutcome::Started
        );
    }
    engine.remove(&spec.name).await;
}

#[tokio::test]
async fn pulling_from_a_registry_that_is_away_is_told_apart() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let images = engine.runtime.images().unwrap();
    assert!(images.present(&engine.image).await.unwrap());
    let local = images.resolve_local(&engine.image).await.unwrap().unwrap();
    assert!(local.repo_tags.contains(&engine.image) && local.id.starts_with("sha256:"));
    assert!(images.resolve_local(&local.id).await.unwrap().is_some());
    let error = match images.pull("127.0.0.1:1/nobody/nothing:1", None).await {
        Ok(steps) => steps
            .filter_map(async |step| step.err())
            .boxed()
            .next()
            .await
            .expect("it fails"),
        Err(error) => error,
    };
    assert_eq!(error.code(), "pull_failed", "{error:?}");
}

#[tokio::test]
async fn an_engine_that_is_down_says_what_was_tried_and_is_found_later() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let runtime = DockerRuntime::new(DockerConfig::at(&socket));
    let error = runtime.ping().await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains(socket.to_str().unwrap()), "{error}");
    assert!(error.to_string().contains("no such file"), "{error}");

    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let front = Front::open(&socket, engine.socket());
    runtime.ping().await.unwrap();
    drop(front);
    assert_eq!(runtime.list().await.unwrap_err().code(), "unavailable");
    let _front = Front::open(&socket, engine.socket());
    runtime.list().await.unwrap();
}
