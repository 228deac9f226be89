//! From a registry's name to a verified and upgraded workload, with an image registry that nobody here wrote.

use serde_json::{Value, json};
use thv_tests::{
    Authority, Client, Docker, Form, Machine, OciRegistry, Offers, Workflow, docker, oci_registry,
};

const REPOSITORY: &str = "their/echo";

/// A machine that trusts an authority, and a registry with images that it signed.
struct World {
    docker: Docker,
    machine: Machine,
    registry: OciRegistry,
    authority: Authority,
    offers: Offers,
}

impl World {
    async fn new() -> Option<Self> {
        let docker = docker().await?;
        let mut machine = Machine::with_docker(&docker);
        let registry = oci_registry(&machine).await?;
        let authority = Authority::new();
        let root = machine.folder().join("trusted_root.json");
        std::fs::write(&root, authority.trusted_root()).expect("a file");
        machine.set("THV_TRUSTED_ROOT", root);
        machine.set("TOOLHIVE_SECRETS_PROVIDER", "environment");
        machine.set("TOOLHIVE_SECRET_pass", "s3cret");
        let variables = json!([{ "name": "GIVEN", "isRequired": true }]);
        let offers = Offers::new(&machine, "streamable-http")
            .signed_by(&Workflow::default())
            .with_variables(variables);
        Some(Self {
            docker,
            machine,
            registry,
            authority,
            offers,
        })
    }

    /// Pushes a version, signed; its reference.
    async fn push(&self, version: &str, form: Form) -> String {
        let digest = self.registry.push_echo(REPOSITORY, version, version).await;
        let signature = self.authority.sign(form, &digest, &Workflow::default());
        self.registry.push_signature(REPOSITORY, &signature).await;
        let repository = self.registry.repository(REPOSITORY);
        self.docker.passes(&format!("{repository}@{digest}"));
        format!("{repository}:{version}")
    }

    fn config(&self, name: &str) -> Value {
        let path = self.machine.dirs().runconfigs().join(format!("{name}.json"));
        serde_json::from_slice(&std::fs::read(path).expect("a configuration")).expect("JSON")
    }
}

#[tokio::test]
async fn a_name_becomes_a_verified_workload_and_then_a_newer_one_with_all_it_had() {
    let Some(world) = World::new().await else { return };
    let World { machine, docker, .. } = &world;
    let name = machine.name("real");
    world
        .offers
        .offer(machine, &world.push("1.0.0", Form::CosignTag).await)
        .await;
    let given = [
        "--env",
        "GIVEN=kept",
        "--secret",
        "pass,target=PASS",
        "--label",
        "team=kept",
    ];
    let limits = [
        "--tools",
        "version",
        "--tools",
        "env",
        "--image-verification",
        "enabled",
    ];
    let run = ["run", "echo", "--name", &name, "--wait=1m"];
    let ran = machine.thv(run.iter().chain(&given).chain(&limits)).await.ok();
    assert!(!ran.stderr.contains("not verified"), "{ran}");
    let (before, url) = (world.config(&name), machine.workload(&name).await.url);
    let check = ["upgrade", "check", &name, "--format", "json"];
    assert_eq!(machine.thv(check).await.ok().json()[0]["status"], "up-to-date");

    // Each version signed in another form, and each the newest in its turn.
    let newer = [
        ("1.1.0", Form::BundleV3),
        ("1.2.0", Form::Attestation),
        ("1.10.0", Form::CosignReferrer),
    ];
    for (version, form) in newer {
        let image = world.push(version, form).await;
        world.offers.offer(machine, &image).await;
        let checked = machine.thv(check).await.ok();
        assert_eq!(checked.json()[0]["status"], "upgrade-available", "{checked}");
        let apply = [
            "upgrade",
            "apply",
            &name,
            "--yes",
            "--image-verification",
            "enabled",
        ];
        let applied = machine.thv(apply).await.ok();
        assert_eq!(
            applied.stdout,
            format!("{name} upgraded to {image}\n"),
            "{applied}"
        );
        assert!(!applied.stderr.contains("not verified"), "{applied}");

        assert_eq!(machine.workload(&name).await.url, url, "the port is kept");
        let client = Client::connect(&url).await;
        assert_eq!(client.call("version", json!({})).await, version);
        assert_eq!(client.call("env", json!({ "name": "GIVEN" })).await, "kept");
        assert_eq!(client.call("env", json!({ "name": "PASS" })).await, "s3cret");
        let mut tools = client.tools().await;
        tools.sort();
        assert_eq!(tools, ["env", "version"], "the filter is kept");
        client.close().await;
        let instance = docker.instance(&name).await.expect("a container");
        assert_eq!(instance.labels.get("team").map(String::as_str), Some("kept"));
        let mut expected = before.clone();
        expected["image"] = image.into();
        assert_eq!(world.config(&name), expected, "only the image is another one");
    }
    machine.thv(["rm", &name]).await.ok();
    docker.assert_gone(&name).await;
}
