//! Upgrades of a container to what the registry has.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use thv_tests::{Client, Docker, Machine, Registry, RegistryAnswer, WAIT, docker, eventually};

const SERVER: &str = "io.example/echo";

/// A machine, a registry of images, and a registry of servers that says which of them is the newest.
struct World {
    docker: Docker,
    machine: Machine,
    images: Registry,
    name: String,
}

impl World {
    /// Version 1.0.0 runs. `None`: skip.
    async fn new(stem: &str) -> Option<Self> {
        let docker = docker().await?;
        let images = Registry::start(RegistryAnswer::Versions(&["1.0.0", "1.1.0", "2.0.0-mute"])).await;
        for version in ["1.0.0", "1.1.0", "2.0.0-mute"] {
            docker.passes(&images.by_digest("their/echo", version));
        }
        let machine = Machine::with_docker(&docker);
        let world = Self {
            name: machine.name(stem),
            docker,
            machine,
            images,
        };
        world.offer("1.0.0").await;
        let document = world.document().display().to_string();
        world
            .machine
            .thv(["config", "set-registry", &document])
            .await
            .ok();
        let name = world.name.as_str();
        let run = ["run", "echo", "--name", name, "--wait=1m"];
        let mine = ["--env", "MINE=kept", "--label", "team=kept"];
        world.machine.thv(run.iter().chain(&mine)).await.ok();
        Some(world)
    }

    fn document(&self) -> PathBuf {
        self.machine.folder().join("registry.json")
    }

    /// The registry of servers says that this version is the newest.
    async fn offer(&self, version: &str) {
        let image = format!("{}:{version}", self.images.repository("their/echo"));
        let document = json!({ "version": "1.0.0", "data": { "servers": [{
            "name": SERVER,
            "description": "an echo server",
            "packages": [{ "registryType": "oci", "identifier": image, "transport": { "type": "stdio" } }],
        }] } });
        tokio::fs::write(self.document(), document.to_string())
            .await
            .expect("a file");
    }

    /// The run configuration's bytes.
    fn config(&self) -> Vec<u8> {
        let path = self
            .machine
            .dirs()
            .runconfigs()
            .join(format!("{}.json", self.name));
        std::fs::read(path).expect("a configuration")
    }

    async fn call(&self, tool: &str, arguments: Value) -> String {
        let client = Client::connect(&self.machine.workload(&self.name).await.url).await;
        let answer = client.call(tool, arguments).await;
        client.close().await;
        answer
    }

    async fn version(&self) -> String {
        self.call("version", json!({})).await
    }

    async fn remove(&self) {
        self.machine.thv(["rm", &self.name]).await.ok();
        self.docker.assert_gone(&self.name).await;
    }
}

#[tokio::test]
async fn a_newer_version_is_found_and_serves_with_all_that_the_old_one_had() {
    let Some(world) = World::new("upgraded").await else {
        return;
    };
    let (machine, name) = (&world.machine, world.name.as_str());
    assert_eq!(world.version().await, "1.0.0");
    let told = machine.thv(["upgrade", "apply", name, "--yes"]).await.ok();
    assert_eq!(told.stdout, format!("{name} is already up to date.\n"));
    let (before, url) = (world.config(), machine.workload(name).await.url);
    let instance = world.docker.instance(name).await.expect("a container");

    world.offer("1.1.0").await;
    let checked = machine
        .thv(["upgrade", "check", name, "--format", "json"])
        .await
        .ok();
    assert_eq!(checked.json()[0]["status"], "upgrade-available", "{checked}");
    let told = machine.thv(["upgrade", "check", "--exit-code"]).await;
    assert_eq!(told.code, Some(2), "{told}");
    let listed = machine
        .thv(["list", "--check-upgrades", "--format", "json"])
        .await
        .ok();
    let rows = listed.json();
    let row = rows
        .as_array()
        .and_then(|rows| rows.iter().find(|row| row["name"] == name));
    assert_eq!(
        row.expect("it is listed")["upgrade"]["status"],
        "upgrade-available",
        "{listed}"
    );
    let told = machine.thv(["upgrade", "apply", name, "--dry-run"]).await.ok();
    assert!(
        told.stdout
            .starts_with(&format!("Dry run: {name} would be upgraded.\n")),
        "{told}"
    );
    machine
        .thv(["upgrade", "apply", name])
        .await
        .failed()
        .says(["--yes"]);
    let verified = [
        "upgrade",
        "apply",
        name,
        "--yes",
        "--image-verification",
        "enabled",
    ];
    machine.thv(verified).await.failed().says(["is not verified"]);
    assert_eq!(world.config(), before, "nothing was changed so far");
    assert_eq!(
        world.docker.instance(name).await.expect("a container").id,
        instance.id
    );

    let told = machine.thv(["upgrade", "apply", name, "--yes"]).await.ok();
    let image = format!("{}:1.1.0", world.images.repository("their/echo"));
    assert_eq!(told.stdout, format!("{name} upgraded to {image}\n"));
    assert_eq!(world.version().await, "1.1.0");
    assert_eq!(world.call("env", json!({ "name": "MINE" })).await, "kept");
    assert_eq!(machine.workload(name).await.url, url);
    let upgraded = world.docker.instance(name).await.expect("a container");
    assert_eq!(upgraded.labels.get("team").map(String::as_str), Some("kept"));
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
    let mut expected = read(&before);
    expected["image"] = image.into();
    assert_eq!(read(&world.config()), expected, "only the image is another one");
    world.remove().await;
}

#[tokio::test]
async fn a_version_that_does_not_answer_gives_way_to_the_old_one() {
    let Some(world) = World::new("back").await else {
        return;
    };
    let (machine, name) = (&world.machine, world.name.as_str());
    let before = world.config();
    world.offer("2.0.0-mute").await;
    let apply = [
        "upgrade",
        "apply",
        name,
        "--yes",
        "--rollback=3s",
        "--format",
        "json",
    ];
    let failed = machine.thv(apply).await;
    assert_eq!(failed.code, Some(3), "{failed}");
    assert_eq!(failed.json()["error"]["code"], "upgrade_rolled_back", "{failed}");
    let failed = failed.says(["was not ready within 3s", "serves again"]);
    assert_eq!(failed.json()["applied"], false);
    assert_eq!(world.config(), before, "byte for byte");
    assert_eq!(world.version().await, "1.0.0");
    world.remove().await;
}

#[tokio::test]
async fn an_interrupt_in_the_middle_is_heard_when_the_upgrade_is_over() {
    let Some(world) = World::new("interrupted").await else {
        return;
    };
    let (machine, name) = (&world.machine, world.name.as_str());
    let (before, old) = (world.config(), world.docker.instance(name).await);
    let old = old.expect("a container").id;
    world.offer("2.0.0-mute").await;
    let apply = ["upgrade", "apply", name, "--yes", "--rollback=10s"];
    let apply = machine.command(apply).spawn().expect("it starts");
    // It is pulled first.
    eventually(2 * WAIT, "the new version is there", async || {
        let now = world.docker.instance(name).await?;
        (now.id != old).then_some(())
    })
    .await;
    // The new version will not answer, so that the upgrade is not over yet.
    let pid = apply.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    kill_process(pid.expect("it runs"), Signal::INT).expect("it runs");
    let ended = tokio::time::timeout(2 * WAIT, apply.wait_with_output()).await;
    let ended = ended.expect("it ends").expect("it was started");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{said}");
    assert!(
        said.contains("is finished first") && said.contains("serves again"),
        "{said}"
    );
    assert_eq!(world.config(), before, "byte for byte");
    assert_eq!(world.version().await, "1.0.0");
    world.remove().await;
}
