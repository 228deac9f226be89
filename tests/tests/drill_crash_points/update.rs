//! An upgrade that would be taken back, killed on its way: the old version serves, or the new one is tried again.

use std::path::PathBuf;

use serde_json::json;
use thv::core::WorkloadStatus;
use thv_tests::{
    Client, Docker, Machine, Registry, RegistryAnswer, WAIT, docker, eventually, thv_crash_points,
};

/// Where `upgrade apply --rollback` is killed, and whether another `upgrade apply` heals it in place of `reconcile`.
pub(crate) const POINTS: [(&str, bool); 8] = [
    ("replace.begun", false),
    ("replace.removed", true),
    ("replace.saved", false),
    ("replace.committed", true),
    ("rollback.ended", false),
    ("rollback.removed", true),
    ("rollback.saved", false),
    ("rollback.committed", false),
];

/// Version 1.0.0 runs, and the newest one does not answer.
struct World {
    machine: Machine,
    images: Registry,
    name: String,
}

impl World {
    async fn new(docker: &Docker) -> Self {
        let images = Registry::start(RegistryAnswer::Versions(&["1.0.0", "2.0.0-mute"])).await;
        for version in ["1.0.0", "2.0.0-mute"] {
            docker.passes(&images.by_digest("their/echo", version));
        }
        let machine = Machine::with_docker(docker);
        let name = machine.name("crash-update");
        let world = Self {
            machine,
            images,
            name,
        };
        world.offer("1.0.0");
        let document = world.document().display().to_string();
        world
            .machine
            .thv(["config", "set-registry", &document])
            .await
            .ok();
        let run = ["run", "echo", "--name", &world.name, "--wait=1m"];
        world.machine.thv(run).await.ok();
        world.offer("2.0.0-mute");
        world
    }

    fn document(&self) -> PathBuf {
        self.machine.folder().join("registry.json")
    }

    fn offer(&self, version: &str) {
        let image = format!("{}:{version}", self.images.repository("their/echo"));
        let document = json!({ "version": "1.0.0", "data": { "servers": [{
            "name": "io.example/echo",
            "description": "an echo server",
            "packages": [{ "registryType": "oci", "identifier": image, "transport": { "type": "stdio" } }],
        }] } });
        std::fs::write(self.document(), document.to_string()).expect("a file");
    }

    fn config(&self) -> Vec<u8> {
        let path = self
            .machine
            .dirs()
            .runconfigs()
            .join(format!("{}.json", self.name));
        std::fs::read(path).expect("a configuration")
    }

    fn apply(&self) -> [&str; 5] {
        ["upgrade", "apply", &self.name, "--yes", "--rollback=1s"]
    }

    async fn version(&self) -> String {
        let workload = eventually(WAIT, "it runs", async || {
            let workload = self.machine.find(&self.name).await?;
            (workload.status == WorkloadStatus::Running).then_some(workload)
        });
        let client = Client::connect(&workload.await.url).await;
        let version = client.call("version", json!({})).await;
        client.close().await;
        version
    }
}

#[tokio::test]
async fn an_upgrade_killed_before_it_served_gives_way_to_the_old_version() {
    let Some(docker) = docker().await else { return };
    let world = World::new(&docker).await;
    let machine = &world.machine;
    let before = world.config();
    for (point, by_itself) in POINTS {
        let mut command = machine.program(thv_crash_points());
        command.args(world.apply()).env("THV_CRASH_AT", point);
        let killed = machine.finish(command).await;
        assert_eq!(killed.code, None, "not killed at {point}: {killed}");
        machine.thv(["list", "--all"]).await.ok();
        if by_itself {
            let again = machine.thv(world.apply()).await;
            assert_eq!(again.code, Some(3), "{point}: {again}");
        } else {
            machine.thv(["reconcile"]).await.ok();
        }
        assert_eq!(world.version().await, "1.0.0", "{point}");
        assert_eq!(world.config(), before, "{point}: byte for byte");
        eventually(WAIT, "there is one proxy", async || {
            (machine.processes().len() == 1).then_some(())
        })
        .await;
    }
    machine.thv(["rm", &world.name]).await.ok();
    eventually(WAIT, "nothing lives", async || {
        machine.processes().is_empty().then_some(())
    })
    .await;
    docker.assert_gone(&world.name).await;
}
