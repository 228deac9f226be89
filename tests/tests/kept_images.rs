//! The image of what an upgrade replaced is there as long as the upgrade may go back to it, whoever cleans up.

mod drill;

use std::process::Stdio;

use serde_json::{Value, json};
use thv_tests::{Client, Docker, ImageStore, Machine, Offers, WAIT, docker, eventually};

/// Version 1.0.0 runs; all images have a label that no others have.
struct World {
    docker: Docker,
    machine: Machine,
    store: ImageStore,
    offers: Offers,
    name: String,
    label: String,
}

impl World {
    /// `None`: skip.
    async fn new() -> Option<Self> {
        let docker = docker().await?;
        let machine = Machine::with_docker(&docker);
        let name = machine.name("kept");
        let world = Self {
            store: ImageStore::start().await,
            offers: Offers::new(&machine, "stdio"),
            label: format!("of={name}"),
            name,
            docker,
            machine,
        };
        world.offer("1.0.0", &[]).await;
        let run = ["run", "echo", "--name", &world.name, "--wait=1m"];
        world.machine.thv(run).await.ok();
        Some(world)
    }

    /// This version is the newest; by what the engine knows it.
    async fn offer(&self, tag: &str, args: &[&str]) -> String {
        let labels = json!({ "of": self.name });
        let digest = self.store.put_echo_labelled(tag, tag, args, labels);
        let repository = self.store.repository("their/echo");
        let image = format!("{repository}@{digest}");
        self.docker.passes(&image);
        self.offers
            .offer(&self.machine, &format!("{repository}:{tag}"))
            .await;
        image
    }

    /// Cleans up as a user does, among the images of this test.
    async fn prune(&self) {
        let filters = json!({ "dangling": ["true"], "label": [self.label] }).to_string();
        let filters = filters
            .bytes()
            .fold(String::new(), |text, byte| format!("{text}%{byte:02X}"));
        let answer = self
            .docker
            .post(&format!("/images/prune?filters={filters}"))
            .await;
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    }

    async fn has(&self, image: &str) -> bool {
        let answer = self.docker.get(&format!("/images/{image}/json")).await;
        answer.starts_with("HTTP/1.0 200")
    }

    /// The name under which it is kept.
    fn kept(&self) -> String {
        format!("localhost/toolhive-kept:{}", self.name)
    }

    async fn is_released(&self) {
        eventually(WAIT, "nothing is kept any more", async || {
            (!self.has(&self.kept()).await).then_some(())
        })
        .await;
        let companion = self
            .machine
            .dirs()
            .lifecycle()
            .join(format!("{}.json", self.name));
        eventually(WAIT, "nothing is said to be kept", async || {
            let text = std::fs::read_to_string(&companion).ok()?;
            (!text.contains("image_kept_on")).then_some(())
        })
        .await;
    }

    async fn version(&self) -> Option<String> {
        let client = Client::try_connect(&self.machine.workload(&self.name).await.url)
            .await
            .ok()?;
        let version = client.try_call("version", json!({})).await.ok();
        client.close().await;
        version
    }

    async fn reaches(&self, status: &str, image: &str) {
        let file = drill::status_file(&self.machine, &self.name);
        let config = self
            .machine
            .dirs()
            .runconfigs()
            .join(format!("{}.json", self.name));
        eventually(WAIT, &format!("{status} with {image}"), async || {
            // They are replaced by renames: what is there is whole.
            let said: Value = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
            let config: Value = serde_json::from_slice(&std::fs::read(&config).ok()?).ok()?;
            let there = config["image"].as_str().is_some_and(|it| it.ends_with(image));
            (said["status"] == status && there).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_old_image_outlives_a_clean_up_until_the_new_version_serves() {
    let Some(world) = World::new().await else { return };
    let (machine, name) = (&world.machine, world.name.as_str());
    let digest = world.store.digest_of("1.0.0").expect("it was put");
    let old = format!("{}@{digest}", world.store.repository("their/echo"));
    world.offer("1.1.0", &["--no-answer"]).await;
    let mut apply = machine.command(["upgrade", "apply", name, "--yes", "--rollback=5m"]);
    apply.stdout(Stdio::null()).stderr(Stdio::null());
    let mut apply = apply.spawn().expect("it starts");
    world.reaches("starting", ":1.1.0").await;
    world.prune().await;
    assert!(world.has(&old).await, "somebody cleaned up, and it may be needed");
    apply.kill().await.expect("it is a child");
    let asked = world.store.requests().len();
    machine.thv(["reconcile"]).await.ok();
    let again = eventually(WAIT, "the old version serves", async || {
        world.version().await.filter(|version| version == "1.0.0")
    });
    again.await;
    let requests = world.store.requests().split_off(asked);
    let again = requests.iter().find(|request| request.contains(&digest));
    assert_eq!(again, None, "it had not to be pulled again");
    world.is_released().await;

    // One that serves has nothing to go back to.
    world.offer("1.2.0", &[]).await;
    machine
        .thv(["upgrade", "apply", name, "--yes", "--rollback=1m"])
        .await
        .ok();
    assert_eq!(world.version().await.as_deref(), Some("1.2.0"));
    world.is_released().await;
    world.prune().await;
    assert!(!world.has(&old).await, "nobody needs it any more");

    // Nor is anything left of one that is removed on the way.
    world.offer("1.3.0", &["--no-answer"]).await;
    let mut apply = machine.command(["upgrade", "apply", name, "--yes", "--rollback=5m"]);
    apply.stdout(Stdio::null()).stderr(Stdio::null());
    let mut apply = apply.spawn().expect("it starts");
    world.reaches("starting", ":1.3.0").await;
    assert!(world.has(&world.kept()).await, "it is kept");
    apply.kill().await.expect("it is a child");
    machine.thv(["rm", name]).await.ok();
    assert!(!world.has(&world.kept()).await, "it is released");
    world.docker.assert_gone(name).await;
}
