//! An engine over TCP with TLS: whom we trust, and how we are recognised.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use futures_util::StreamExt;
use support::tls_front::TlsFront;
use support::{TestEngine, soon};
use thv_core::{Dirs, Env};
use thv_runtime::{Error, EventFilter, EventKind, InstanceRef, LogOptions, Runtime};
use thv_runtime_docker::{DockerConfig, DockerRuntime};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

const CA: &str = include_str!("support/tls/ca.pem");
const STRANGER: &str = include_str!("support/tls/stranger.pem");
const CERT: &str = include_str!("support/tls/client.pem");
const KEY: &str = include_str!("support/tls/client-key.pem");
/// A certificate that the authority did not sign for a client.
const SERVER_CERT: &str = include_str!("support/tls/server.pem");
const SERVER_KEY: &str = include_str!("support/tls/server-key.pem");

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a str)];

/// `DOCKER_HOST` and `DOCKER_CERT_PATH`, with these files.
fn over(front: &TlsFront, folder: &Path, files: Files<'_>) -> DockerRuntime {
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let host = format!("tcp://localhost:{}", front.address.port());
    let env = Env::from_vars([
        ("DOCKER_HOST", host.as_str()),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CERT_PATH", folder.to_str().unwrap()),
    ]);
    DockerRuntime::new(DockerConfig::discover(env, Dirs::under(folder)).unwrap())
}

#[tokio::test]
async fn a_workload_lives_its_whole_life_over_tls() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let front = TlsFront::open(engine.socket()).await;
    let folder = tempfile::tempdir().unwrap();
    let files = [("ca.pem", CA), ("cert.pem", CERT), ("key.pem", KEY)];
    let runtime = over(&front, folder.path(), &files);
    let about = runtime.about().await.unwrap();
    assert_eq!(about.place, format!("tcp://localhost:{}", front.address.port()));
    assert_eq!(about.chosen_by, "DOCKER_HOST");

    let spec = engine.spec(&["echo"]);
    let mut events = runtime.events(EventFilter::of(spec.name.clone())).await.unwrap();
    let first = soon("the first event", events.next()).await.unwrap().unwrap();
    assert_eq!(first.kind, EventKind::Synced);
    let deployed = runtime.deploy(&spec).await.unwrap();
    let started = async { while events.next().await.unwrap().unwrap().kind != EventKind::Started {} };
    soon("the start", started).await;

    let which = InstanceRef::exact(spec.name.clone(), deployed.instance.id);
    let mut stdio = runtime.attach(&which).await.unwrap();
    let long = format!("{}\n", "x".repeat(1 << 20));
    for line in ["hello\n", long.as_str()] {
        stdio.stdin.write_all(line.as_bytes()).await.unwrap();
        stdio.stdin.flush().await.unwrap();
        let mut answer = String::new();
        let mut reader = BufReader::new(&mut stdio.stdout);
        soon("the answer", reader.read_line(&mut answer)).await.unwrap();
        assert_eq!(answer.len(), line.len());
    }
    // The end of standard input reaches the server through all of that, and its end comes back.
    drop(stdio.stdin);
    let mut rest = Vec::new();
    soon("the end", stdio.stdout.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(rest.is_empty());
    let ended = async {
        while !matches!(
            events.next().await.unwrap().unwrap().kind,
            EventKind::Exited { .. }
        ) {}
    };
    soon("the news of the end", ended).await;
    let logs = runtime.logs(&which, LogOptions::default()).await.unwrap();
    assert!(soon("the log", logs.count()).await > 0);
    runtime.remove(&which).await.unwrap();
    assert!(engine.runtime.inspect(&spec.name).await.unwrap().is_none());
}

#[tokio::test]
async fn without_trust_on_both_sides_nothing_is_done_and_the_file_is_named() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let front = TlsFront::open(engine.socket()).await;
    let ca = ("ca.pem", CA);
    let stranger = ("ca.pem", STRANGER);
    let (cert, key) = (("cert.pem", CERT), ("key.pem", KEY));
    let rows: [(Files<'_>, &[&str]); 8] = [
        (
            &[stranger, cert, key],
            &["invalid peer certificate", "UnknownIssuer", "ca.pem"],
        ),
        (&[cert, key], &["CA certificate", "ca.pem", "No such file"]),
        (&[ca, key], &["client certificate", "/cert.pem", "No such file"]),
        (&[ca, cert], &["client key", "/key.pem", "No such file"]),
        (
            &[ca, cert, ("key.pem", "nothing")],
            &["client key", "/key.pem", "no private key"],
        ),
        (&[("ca.pem", ""), cert, key], &["ca.pem", "no certificate"]),
        (
            &[ca, cert, ("key.pem", SERVER_KEY)],
            &["client certificate", "key.pem"],
        ),
        // Of the right authority, and for something else.
        (
            &[ca, ("cert.pem", SERVER_CERT), ("key.pem", SERVER_KEY)],
            &["refuses the client certificate", "/cert.pem"],
        ),
    ];
    for (files, parts) in rows {
        let folder = tempfile::tempdir().unwrap();
        let runtime = over(&front, folder.path(), files);
        let error = soon("the refusal", runtime.ping()).await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{error:?}");
        let text = error.to_string();
        for part in parts.iter().chain(&["from DOCKER_HOST"]) {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
}

#[tokio::test]
async fn a_context_is_spoken_to_with_its_own_certificates() {
    let Some(engine) = TestEngine::get().await else {
        return;
    };
    let front = TlsFront::open(engine.socket()).await;
    let folder = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(folder.path());
    let docker = dirs.home.join(".docker");
    let id = support::sha256(b"far");
    let meta = docker.join("contexts/meta").join(&id);
    let tls = docker.join("contexts/tls").join(&id).join("docker");
    for folder in [&meta, &tls] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let host = format!("tcp://127.0.0.1:{}", front.address.port());
    let written =
        serde_json::json!({"Name": "far", "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": false}}});
    std::fs::write(meta.join("meta.json"), written.to_string()).unwrap();
    std::fs::write(docker.join("config.json"), r#"{"currentContext":"far"}"#).unwrap();
    std::fs::write(tls.join("ca.pem"), CA).unwrap();
    let runtime = || DockerRuntime::new(DockerConfig::discover(Env::default(), dirs.clone()).unwrap());

    // Without a client certificate this engine refuses, and with one alone there is no key.
    let error = soon("the refusal", runtime().ping()).await.unwrap_err();
    assert!(
        error.to_string().contains("refuses the client certificate"),
        "{error}"
    );
    std::fs::write(tls.join("cert.pem"), CERT).unwrap();
    let error = soon("the refusal", runtime().ping()).await.unwrap_err();
    assert!(error.to_string().contains("docker/key.pem"), "{error}");
    std::fs::write(tls.join("key.pem"), KEY).unwrap();
    let about = runtime().about().await.unwrap();
    assert_eq!(about.chosen_by, "Docker's context \"far\"");
}
