//! Images of registries that want to know who reads, or that have a certificate of their own.

use serde_json::json;
use thv_tests::{Client, ImageStore, Machine, docker, oci_registry};

const USER: &str = "reader";
const PASSWORD: &str = "s3cret-of-the-registry";

/// Writes what `docker login` writes, for a registry.
fn log_in(machine: &mut Machine, registry: &str) {
    let folder = machine.folder().join("docker");
    std::fs::create_dir_all(&folder).expect("a folder");
    let config = json!({ "auths": { registry: { "username": USER, "password": PASSWORD } } });
    std::fs::write(folder.join("config.json"), config.to_string()).expect("a file");
    machine.set("DOCKER_CONFIG", folder);
}

async fn version(machine: &Machine, name: &str) -> String {
    let client = Client::connect(&machine.workload(name).await.url).await;
    let version = client.call("version", json!({})).await;
    client.close().await;
    version
}

#[tokio::test]
async fn an_image_of_a_registry_that_wants_a_token_runs_for_who_is_logged_in() {
    let Some(docker) = docker().await else { return };
    let store = ImageStore::start().await;
    let repository = store.repository("acme/private");
    let (digest, _) = store.put_echo_of_its_own("1", "private");
    docker.passes(&format!("{repository}@{digest}"));
    store.is_read_by(USER, PASSWORD, None);
    let image = format!("{repository}:1");
    let mut machine = Machine::with_docker(&docker);
    let name = machine.name("private");
    let run = [
        "run",
        &image,
        "--name",
        &name,
        "--transport",
        "stdio",
        "--wait=1m",
    ];
    let refused = machine.thv(run).await.failed();
    refused.says(["unauthorized"]);
    assert_eq!(machine.find(&name).await, None, "nothing is left");

    log_in(&mut machine, repository.split('/').next().expect("a host"));
    let ran = machine.thv(run).await.ok();
    assert!(!format!("{ran}").contains(PASSWORD), "{ran}");
    assert_eq!(version(&machine, &name).await, "private");
    let asked = store.requests();
    assert!(asked.iter().any(|it| it.starts_with("GET /token?")), "{asked:?}");
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}

#[tokio::test]
async fn a_registry_that_asks_for_a_strangers_token_gets_nothing() {
    let Some(docker) = docker().await else { return };
    let (store, stranger) = (ImageStore::start().await, ImageStore::start().await);
    let repository = store.repository("acme/private");
    store.put_echo_of_its_own("1", "private");
    // Another host, as far as a name says.
    let realm = stranger.repository("token").replace("127.0.0.1", "localhost");
    store.is_read_by(USER, PASSWORD, Some(&format!("http://{realm}")));
    stranger.is_read_by("somebody", "else", None);
    let mut machine = Machine::with_docker(&docker);
    log_in(&mut machine, repository.split('/').next().expect("a host"));
    let name = machine.name("strange");
    let image = format!("{repository}:1");
    for policy in ["warn", "disabled"] {
        let run = [
            "run",
            &image,
            "--name",
            &name,
            "--transport",
            "stdio",
            "--image-verification",
            policy,
        ];
        machine.thv(run).await.failed();
    }
    let shown = stranger.was_shown();
    assert!(!shown.is_empty(), "it was asked for a token");
    assert!(
        shown.iter().all(String::is_empty),
        "by nobody in particular: {shown:?}"
    );
    assert_eq!(machine.find(&name).await, None);
}

#[tokio::test]
async fn a_registry_with_a_certificate_of_its_own_is_trusted_by_who_says_so() {
    let Some(docker) = docker().await else { return };
    let machine = Machine::with_docker(&docker);
    let Some(mut registry) = oci_registry(&machine).await else {
        return;
    };
    let digest = registry.push_echo("acme/tls", "1", "with TLS").await;
    let (repository, authority) = registry.also_with_tls(&machine, "acme/tls").await;
    docker.passes(&format!("{repository}@{digest}"));
    let name = machine.name("tls");
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
    let refused = machine.thv(run).await.failed();
    refused.says(["certificate"]);
    let certificate = ["--ca-cert", &authority.display().to_string()];
    machine.thv(run.iter().chain(&certificate)).await.ok();
    assert_eq!(version(&machine, &name).await, "with TLS");
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}
