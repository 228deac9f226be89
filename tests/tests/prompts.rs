//! What somebody at a terminal is asked.

use serde_json::{Value, json};
use thv_tests::{Client, Docker, Machine, Registry, RegistryAnswer, Terminal, docker, terminal};

/// A machine with encrypted secrets, and a registry whose server wants values and a folder of this host.
struct World {
    docker: Docker,
    machine: Machine,
    images: Registry,
    name: String,
}

impl World {
    async fn new(stem: &str) -> Option<Self> {
        let docker = docker().await?;
        let versions = ["1.0.0", "1.1.0"];
        let images = Registry::start(RegistryAnswer::Versions(&["1.0.0", "1.1.0"])).await;
        for version in versions {
            docker.passes(&images.by_digest("their/echo", version));
        }
        let machine = Machine::with_docker(&docker);
        let name = machine.name(stem);
        let world = Self {
            docker,
            machine,
            images,
            name,
        };
        world.offer("1.0.0", &[]).await;
        let document = world.machine.folder().join("registry.json");
        let set = ["config", "set-registry", &document.display().to_string()];
        world.machine.thv(set).await.ok();
        Some(world)
    }

    /// This version is the newest, and wants these variables besides `TOKEN` and `PLACE`.
    async fn offer(&self, version: &str, more: &[Value]) {
        let image = format!("{}:{version}", self.images.repository("their/echo"));
        let mut variables = vec![
            json!({ "name": "TOKEN", "isRequired": true, "isSecret": true }),
            json!({ "name": "PLACE", "isRequired": true, "description": "where it is" }),
        ];
        variables.extend(more.iter().cloned());
        let folder = self.machine.folder().display().to_string();
        let document = json!({ "version": "1.0.0", "data": { "servers": [{
            "name": "io.example/echo",
            "description": "an echo server",
            "packages": [{ "registryType": "oci", "identifier": &image, "transport": { "type": "stdio" },
                "environmentVariables": variables }],
            "_meta": { "io.modelcontextprotocol.registry/publisher-provided": { "io.github.stacklok": {
                image: { "permissions": { "read": [format!("{folder}:/given")] } } } } },
        }] } });
        let path = self.machine.folder().join("registry.json");
        tokio::fs::write(path, document.to_string())
            .await
            .expect("a file");
    }

    /// At a terminal.
    fn thv<const N: usize>(&self, args: [&str; N]) -> Terminal {
        let password = self.machine.folder().join("password");
        std::fs::write(&password, "of the test").expect("a file");
        Terminal::thv(&self.machine, &password, args)
    }

    fn run(&self) -> Terminal {
        self.thv(["run", "echo", "--name", &self.name, "--wait=1m"])
    }

    fn upgrade(&self) -> Terminal {
        self.thv(["upgrade", "apply", &self.name])
    }

    async fn has(&self, variable: &str) -> String {
        self.call("env", json!({ "name": variable })).await
    }

    async fn call(&self, tool: &str, arguments: Value) -> String {
        let client = Client::connect(&self.machine.workload(&self.name).await.url).await;
        let answer = client.call(tool, arguments).await;
        client.close().await;
        answer
    }
}

#[tokio::test]
async fn what_an_entry_and_its_newer_version_need_is_asked_for_at_a_terminal() {
    if !terminal() {
        return;
    }
    let Some(world) = World::new("asked").await else {
        return;
    };

    let (code, shown) = world.thv(["secret", "setup", "encrypted"]).ends().await;
    assert_eq!(code, Some(0), "{shown}");

    let mut refused = world.run();
    refused.answer("TOKEN: ", "s3cret").await;
    refused.answer("PLACE (where it is): ", "here").await;
    refused.answer("Grant this? [y/N]: ", "").await;
    let (code, shown) = refused.ends().await;
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains(":/given"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(
        world.machine.find(&world.name).await.is_none(),
        "nothing was made"
    );

    let mut granted = world.run();
    granted.answer("TOKEN: ", "s3cret").await;
    granted.answer("PLACE (where it is): ", "here").await;
    granted.answer("Grant this? [y/N]: ", "y").await;
    let (code, shown) = granted.ends().await;
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(world.has("TOKEN").await, "s3cret");
    assert_eq!(world.has("PLACE").await, "here");

    let more = [
        json!({ "name": "PASS", "isRequired": true, "isSecret": true, "description": "to get in" }),
        json!({ "name": "MODE", "isRequired": true }),
        json!({ "name": "DEFAULTED", "isRequired": true, "default": "x" }),
    ];
    world.offer("1.1.0", &more).await;
    let mut cancelled = world.upgrade();
    cancelled.answer("Apply? [y/N]: ", "n").await;
    let (code, shown) = cancelled.ends().await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.ends_with("Upgrade cancelled.\n"), "{shown}");

    let mut incomplete = world.upgrade();
    incomplete.answer("Apply? [y/N]: ", "yes").await;
    incomplete.answer("PASS (to get in): ", "").await;
    incomplete.answer("MODE: ", "fast").await;
    let (code, shown) = incomplete.ends().await;
    assert_eq!(code, Some(1), "{shown}");
    assert!(
        shown.contains("environment variable: PASS; give each with"),
        "{shown}"
    );
    assert_eq!(world.call("version", json!({})).await, "1.0.0", "it serves on");

    let mut applied = world.upgrade();
    applied.answer("Apply? [y/N]: ", "Y").await;
    applied.answer("PASS (to get in): ", "0pen").await;
    applied.answer("MODE: ", "fast").await;
    let (code, shown) = applied.ends().await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains("0pen"), "{shown}");
    for (variable, value) in [
        ("TOKEN", "s3cret"),
        ("PLACE", "here"),
        ("PASS", "0pen"),
        ("MODE", "fast"),
    ] {
        assert_eq!(world.has(variable).await, value, "{variable}");
    }
    world.machine.thv(["rm", &world.name]).await.ok();
    world.docker.assert_gone(&world.name).await;
}

#[tokio::test]
async fn where_nobody_can_be_asked_an_upgrade_says_so_to_programs_too() {
    let Some(world) = World::new("unasked").await else {
        return;
    };
    let (machine, name) = (&world.machine, world.name.as_str());
    let run = ["run", "echo", "--name", name, "--wait=1m", "--accept-permissions"];
    let values = ["--env", "PLACE=here", "--env", "TOKEN=mine"];
    machine.thv(run.iter().chain(&values)).await.ok();
    world.offer("1.1.0", &[]).await;
    for which in [name, "--all"] {
        let asked = machine.thv(["upgrade", "apply", which, "--format", "json"]).await;
        assert_eq!(asked.code, Some(1), "{asked}");
        let said = asked.json();
        let one = said.as_array().map_or(&said, |all| &all[0]);
        assert_eq!(one["error"]["code"], "confirmation_required", "{asked}");
        assert_eq!(one["applied"], false, "{asked}");
    }
    machine.thv(["rm", name]).await.ok();
}
