//! What was verified is what runs, wherever its tag moves.

use std::sync::Arc;

use serde_json::json;
use thv::core::{Env, TransportType, WorkloadName};
use thv::image::{ClientConfig, Gate, Policy, ProvenanceVerifier, RegistryClient, TrustRoots};
use thv::manager::{
    Error, ImageTerms, Manager, RunOptions, RunOutcome, RunRequest, StartOptions, StopOptions, WaitFor,
};
use thv_tests::{
    Authority, Client, Docker, Form, ImageStore, Machine, Offers, WAIT, Workflow, docker, eventually,
};

const READY: WaitFor = WaitFor::Ready(std::time::Duration::from_mins(1));

async fn version(url: &str) -> String {
    let client = Client::connect(url).await;
    let version = client.call("version", json!({})).await;
    client.close().await;
    version
}

/// An image by its digest, which goes with the test.
fn passes(docker: &Docker, repository: &str, digest: &str) {
    docker.passes(&format!("{repository}@{digest}"));
}

#[tokio::test]
async fn an_image_stays_what_it_was_when_its_tag_moves() {
    let Some(docker) = docker().await else { return };
    let store = ImageStore::start().await;
    let repository = store.repository("image/moved");
    passes(&docker, &repository, &store.put_echo("1", "old"));
    let machine = Machine::with_docker(&docker);
    let name = machine.name("moved");
    let image = format!("{repository}:1");
    let run = [
        "run",
        &image,
        "--name",
        &name,
        "--transport",
        "stdio",
        "--wait=1m",
    ];
    machine.thv(run).await.ok().says(["is not verified"]);
    let url = machine.workload(&name).await.url;
    assert_eq!(version(&url).await, "old");

    store.put_echo("1", "new");
    machine.thv(["stop", &name]).await.ok();
    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    assert_eq!(version(&url).await, "old", "after stop and start");
    let client = Client::connect(&url).await;
    client
        .try_call("exit", json!({ "code": 3 }))
        .await
        .expect_err("the server is gone");
    let again = eventually(WAIT, "the server is back", async || {
        let client = Client::try_connect(&url).await.ok()?;
        client.try_call("version", json!({})).await.ok()
    });
    assert_eq!(again.await, "old", "after its server ended");
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}

#[tokio::test]
async fn latest_stays_what_it_was_until_it_is_run_again() {
    let Some(docker) = docker().await else { return };
    let store = ImageStore::start().await;
    let repository = store.repository("image/latest");
    passes(&docker, &repository, &store.put_echo("latest", "old"));
    let machine = Machine::with_docker(&docker);
    let name = machine.name("latest");
    Offers::new(&machine, "stdio")
        .offer(&machine, &format!("{repository}:latest"))
        .await;
    let run = ["run", "echo", "--name", &name, "--wait=1m"];
    machine.thv(run).await.ok();
    let url = machine.workload(&name).await.url;
    assert_eq!(version(&url).await, "old");

    passes(&docker, &repository, &store.put_echo("latest", "new"));
    machine.thv(["stop", &name]).await.ok();
    machine.thv(["start", &name, "--wait=1m"]).await.ok();
    assert_eq!(
        version(&url).await,
        "old",
        "what was resolved once is what starts"
    );
    machine.thv(["restart", &name, "--wait=1m"]).await.ok();
    assert_eq!(version(&url).await, "old", "and what restarts");

    // There is no order between the two.
    let reason = "image uses the \"latest\" tag, which defers to the registry and cannot be ordered";
    let checked = machine
        .thv(["upgrade", "check", &name, "--format", "json"])
        .await
        .ok();
    assert_eq!(checked.json()[0]["status"], "unknown", "{checked}");
    assert_eq!(checked.json()[0]["reason"], reason, "{checked}");
    let told = machine.thv(["upgrade", "apply", &name, "--yes"]).await.ok();
    assert_eq!(
        told.stdout,
        format!("{name}: {reason}; no upgrade can be applied.\n")
    );
    assert_eq!(version(&url).await, "old");

    // Whoever runs it again wants what it is now.
    let replace = ["--replace"];
    machine.thv(run.iter().chain(&replace)).await.ok();
    let url = machine.workload(&name).await.url;
    assert_eq!(version(&url).await, "new");
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}

#[tokio::test]
async fn an_image_that_has_to_be_verified_and_is_not_leaves_nothing() {
    let Some(docker) = docker().await else { return };
    let store = ImageStore::start().await;
    store.put_echo("1", "unsigned");
    let machine = Machine::with_docker(&docker);
    let name = machine.name("unsigned");
    let image = format!("{}:1", store.repository("image/unsigned"));
    let run = ["run", &image, "--name", &name, "--image-verification", "enabled"];
    machine
        .thv(run)
        .await
        .failed()
        .says(["not verified", "provenance server information not set"]);
    assert_eq!(machine.find(&name).await, None);
    docker.assert_gone(&name).await;
    let pulled = |request: &String| request.contains("/blobs/");
    assert!(!store.requests().iter().any(pulled), "{:?}", store.requests());
}

#[tokio::test]
async fn what_is_no_image_reference_is_said_in_our_words() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let name = machine.name("none");
    for (image, why) in [
        ("Their/Echo", "upper case is allowed in host names and tags only"),
        ("docker.io/Their/Echo:1", "a repository must be lower case"),
    ] {
        let refused = machine.thv(["run", image, "--name", &name]).await.failed();
        refused.says(["is not an image reference", why]);
    }
    assert_eq!(machine.find(&name).await, None);
}

/// A manager that trusts `authority`.
fn manager(machine: &Machine, docker: &Docker, authority: &Authority) -> Manager {
    let env = Env::from_vars([("DOCKER_HOST", docker.host())]);
    let config = ClientConfig::from_env(env.clone()).expect("no times");
    let client = Arc::new(RegistryClient::new(config));
    let roots = TrustRoots::from_json("test", &authority.trusted_root()).expect("a root");
    let verifier = ProvenanceVerifier::new(client.clone(), roots);
    thv::manager_in(machine.dirs().clone(), env)
        .expect("the usual parts")
        .image_gate(Arc::new(Gate::new(client, Arc::new(verifier))))
        .launcher_id("com.example.images")
        .build()
        .expect("a manager")
}

/// Runs `image`, which should be signed by the usual workflow.
async fn run(manager: &Manager, name: &str, image: &str, policy: Policy) -> Result<RunOutcome, Error> {
    let mut request = RunRequest::new(image);
    request.name = Some(name.to_owned());
    request.transport = Some(TransportType::Stdio);
    let options = RunOptions {
        wait: READY,
        image: ImageTerms {
            policy,
            expected: Some(Box::new(Workflow::default().expected())),
            admitted: None,
        },
        ..RunOptions::default()
    };
    Box::pin(manager.run(request, options)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_verified_is_what_runs() {
    let Some(docker) = docker().await else { return };
    let authority = Authority::new();
    let store = ImageStore::start().await;
    let repository = store.repository("image/signed");
    let image = format!("{repository}:1");
    let digest = store.put_echo("1", "signed");
    passes(&docker, &repository, &digest);
    store.attach(&authority.sign(Form::Attestation, &digest, &Workflow::default()));
    let machine = Machine::with_docker(&docker);
    let manager = manager(&machine, &docker, &authority);
    let name = machine.name("signed");
    let up = run(&manager, &name, &image, Policy::Enabled)
        .await
        .expect("it is signed");
    assert!(!up.notices.iter().any(|it| it.contains("not verified")), "{up:?}");
    assert_eq!(version(&up.url).await, "signed");

    // The tag moves to what somebody else signed.
    let evil = store.put_echo("1", "evil");
    let mut other = Workflow::default();
    "https://github.com/evil/echo".clone_into(&mut other.repository);
    store.attach(&authority.sign(Form::CosignTag, &evil, &other));
    let second = machine.name("second");
    for policy in [Policy::Warn, Policy::Enabled] {
        let refused = run(&manager, &second, &image, policy).await;
        let error = refused.expect_err("it is somebody else's");
        assert_eq!(error.code(), "image_denied", "{error}");
        assert_eq!(machine.find(&second).await, None);
        docker.assert_gone(&second).await;
    }

    let workload: WorkloadName = name.parse().expect("a name");
    let stop = StopOptions::default();
    manager.stop(&workload, stop).await.expect("it stops");
    let start = StartOptions {
        wait: READY,
        ..StartOptions::default()
    };
    let up = Box::pin(manager.start(&workload, start))
        .await
        .expect("it starts");
    assert_eq!(version(&up.url).await, "signed", "what was verified runs on");
    manager
        .delete(&workload, StopOptions::default())
        .await
        .expect("it goes");
    docker.assert_gone(&name).await;
}
