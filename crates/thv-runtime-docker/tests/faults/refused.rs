//! What no engine takes, and what this one refuses.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use thv_runtime::{DeploySpec, Expect, InstanceRef, InstanceState, MountBind, NamedVolume, Runtime};
use thv_runtime_docker::{DockerConfig, DockerRuntime};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::SHORT;
use crate::support::fake::{Fake, usual};
use crate::support::meddler::{Do, Meddler};
use crate::support::{TestEngine, soon, unique_name};

#[tokio::test]
async fn what_no_engine_takes_is_refused_before_the_engine_is_asked() {
    let fake = Fake::new(|_| Do::CutBefore);
    let mount = |source: &OsStr, target: &str| MountBind {
        source: source.into(),
        target: target.to_owned(),
        read_only: true,
    };
    let volume = |name: &str| NamedVolume {
        name: name.to_owned(),
        target: "/a".to_owned(),
        read_only: true,
    };
    let changes: [&dyn Fn(&mut DeploySpec); 10] = [
        &|spec| drop(spec.env.insert("TOKEN".to_owned(), "hunter2\0".to_owned())),
        &|spec| spec.command.push("a\0b".to_owned()),
        &|spec| drop(spec.labels.insert("a".to_owned(), "\0".to_owned())),
        &|spec| spec.mounts.push(mount(OsStr::new("/tmp/a\0"), "/a")),
        &|spec| spec.mounts.push(mount(OsStr::from_bytes(b"/tmp/\xff"), "/a")),
        &|spec| spec.mounts.push(mount(OsStr::new("tmp"), "/a")),
        &|spec| spec.mounts.push(mount(OsStr::new("/tmp"), "a")),
        // It would be a folder of the host.
        &|spec| spec.volumes.push(volume("/etc")),
        &|spec| spec.volumes.push(volume("..")),
        // Podman would run the server on it.
        &|spec| spec.mounts.push(mount(OsStr::new("/tmp"), "/a/./../..//")),
    ];
    for change in changes {
        let mut spec = DeploySpec::new(unique_name(), "fetch");
        change(&mut spec);
        let error = fake.runtime.deploy(&spec).await.unwrap_err();
        assert_eq!(error.code(), "invalid", "{error:?}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let calls = fake.engine.calls();
    assert!(calls.is_empty(), "{calls:?}");
}

#[tokio::test]
async fn a_limit_that_the_engine_cannot_enforce_is_refused_before_anything_is_made() {
    let fake = Fake::new(|call| match call {
        "GET /info" => Do::Answer(
            200,
            json!({"MemoryLimit": false, "SwapLimit": false, "PidsLimit": false, "CpuCfsQuota": true, "CpuCfsPeriod": false}),
        ),
        call => usual(call),
    });
    let asked: [fn(&mut DeploySpec); 3] = [
        |spec| spec.limits.memory = Some(64 << 20),
        |spec| spec.limits.cpus = Some(0.5),
        |spec| spec.limits.pids = Some(10),
    ];
    for ask in asked {
        let mut spec = DeploySpec::new(unique_name(), "fetch");
        ask(&mut spec);
        let error = fake.runtime.deploy(&spec).await.unwrap_err();
        assert_eq!(error.code(), "unsupported", "{error:?}");
    }
    let calls = fake.engine.calls();
    assert!(calls.iter().all(|call| call.starts_with("GET")), "{calls:?}");
}

#[tokio::test]
async fn a_limit_that_the_engine_discards_undoes_the_deployment() {
    let fake = Fake::new(|call| match call {
        call if call.starts_with("POST /containers/create") => Do::Answer(
            201,
            json!({"Id": "abc", "Warnings": [
                "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
            ]}),
        ),
        call => usual(call),
    });
    let mut spec = DeploySpec::new(unique_name(), "fetch");
    spec.limits.memory = Some(64 << 20);
    let error = fake.runtime.deploy(&spec).await.unwrap_err();
    assert_eq!(error.code(), "unsupported", "{error:?}");
    assert_eq!(fake.count("DELETE /containers/abc"), 1);
    assert_eq!(fake.count("POST /containers/abc/start"), 0);
}

/// What Docker 20.10, Docker 26.1 and Podman 4.3 said to the creation of a container: the status, the words, what is told of it.
const SAID: [(u16, &str, &str); 14] = [
    (
        400,
        r#"invalid mount config for type "bind": bind source path does not exist: /nowhere"#,
        "invalid mount",
    ),
    (
        400,
        r#"invalid mount config for type "bind": stat /etc/passwd/x: not a directory"#,
        "invalid mount",
    ),
    (400, "Duplicate mount point: /data", "invalid mount"),
    (
        500,
        "fill out specgen: /data: duplicate mount destination",
        "invalid mount",
    ),
    (
        400,
        r#"error looking up logging plugin mount: plugin "mount" not found"#,
        "invalid container",
    ),
    (
        500,
        "error creating overlay mount to /var/lib/docker/overlay2/f651-init/merged: no such file or directory",
        "failed to create the container",
    ),
    (
        500,
        r#"container create: creating container storage: the container name "fetch" is already in use by 0833. You have to remove that container to be able to reuse that name: that name is already in use"#,
        "another instance",
    ),
    (
        409,
        r#"Conflict. The container name "/fetch" is already in use by container "19c1". You have to remove (or rename) that container to be able to reuse that name."#,
        "another instance",
    ),
    (404, "No such image: fetch:latest", "was not found"),
    (
        404,
        "no such image: fetch:latest: image not known",
        "was not found",
    ),
    (400, "No command specified", "does not say what to run"),
    (400, "no command specified", "does not say what to run"),
    (
        500,
        "container create: no command or entrypoint provided, and no CMD or ENTRYPOINT from image",
        "does not say what to run",
    ),
    (404, "No such container: 0833", "failed to create the container"),
];

#[tokio::test]
async fn what_was_asked_wrongly_is_told_apart_from_what_an_engine_fails_at() {
    for (status, words, told) in SAID {
        let fake = Fake::new(move |call| match call {
            call if call.starts_with("POST /containers/create") => {
                Do::Answer(status, json!({ "message": words }))
            }
            call => usual(call),
        });
        let spec = DeploySpec::new(unique_name(), "fetch");
        let error = fake.runtime.deploy(&spec).await.unwrap_err();
        assert!(error.to_string().contains(told), "{words}: {error}");
        if error.code() == "failed" {
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.contains(words), "{source}");
        }
    }
}

/// Podman would make a folder there.
#[tokio::test]
async fn a_mount_of_what_is_not_there_is_refused_and_nothing_is_made() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    for missing in ["missing", "file/below"] {
        let source = folder.path().join(missing);
        let mut spec = engine.spec(&["echo"]);
        spec.mounts.push(MountBind {
            source: source.clone(),
            target: "/data".to_owned(),
            read_only: true,
        });
        let error = engine.runtime.deploy(&spec).await.unwrap_err();
        assert_eq!(error.code(), "invalid", "{error:?}");
        assert!(error.to_string().contains(source.to_str().unwrap()), "{error}");
        assert!(!source.exists(), "it was made");
        assert!(engine.runtime.inspect(&spec.name).await.unwrap().is_none());
    }
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

/// As Docker tells it that runc lost its helper.
const LOST: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: \
    unable to start container process: can't get final child's PID from pipe: read init-p: connection reset by peer: unknown";

#[tokio::test]
async fn a_start_that_the_engine_lost_is_tried_once_more_and_not_again() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    for (lost, started) in [(1, true), (9, false)] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let starts = AtomicUsize::new(0);
        let front = Meddler::open(&socket, engine.socket(), move |_, call| {
            if call.ends_with("/start") && starts.fetch_add(1, Ordering::Relaxed) < lost {
                return Do::Answer(500, json!({"message": LOST}));
            }
            Do::Forward
        });
        let runtime = DockerRuntime::new(DockerConfig::at(&socket));
        let mut spec = engine.spec(&["echo"]);
        spec.private_output = true;
        let deployed = runtime.deploy(&spec).await;
        let calls = front.calls();
        let asked = calls.iter().filter(|call| call.ends_with("/start")).count();
        assert_eq!(asked, 2, "{calls:?}");
        if started {
            deployed.unwrap();
            let which = InstanceRef::named(spec.name.clone());
            let errors = runtime.attach(&which).await.unwrap().stderr.unwrap();
            let mut lines = BufReader::new(errors).lines();
            let first = lines.next_line();
            assert_eq!(
                soon("its first word", first).await.unwrap().unwrap(),
                "thv-contract ready"
            );
            engine.remove(&spec.name).await;
        } else {
            let error = deployed.unwrap_err();
            assert_eq!(error.code(), "start_failed", "{error:?}");
            assert!(error.to_string().contains("read init-p"), "{error}");
            assert!(engine.runtime.inspect(&spec.name).await.unwrap().is_none());
        }
    }
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
    let runtime = DockerRuntime::new(DockerConfig::at(&socket));
    let refused = runtime.deploy(&spec).await.unwrap_err();
    assert_eq!(refused.code(), "start_failed", "{refused:?}");
    let left = engine.runtime.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!(left.state, InstanceState::Stopped);
    let calls = front.calls();
    assert!(calls.iter().any(|call| call.contains("/stop?")), "{calls:?}");
    engine.remove(&spec.name).await;
}
