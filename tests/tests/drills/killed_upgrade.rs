//! Drill: `kill -9` of `thv upgrade apply`, at moments that the test holds. `reconcile` ends with one version that serves.

use std::process::Stdio;

use serde_json::{Value, json};
use thv::core::WorkloadStatus;
use thv_tests::{Client, Docker, ImageStore, Machine, Offers, Trouble, WAIT, docker, eventually};
use tokio::process::Child;

use crate::drill;

/// Never answers, and does not end when it is asked to.
const STUBBORN: [&str; 3] = ["--no-answer", "--ignore-sigterm", "--ignore-eof"];

/// A machine on which version 1.0.0 runs.
struct World {
    docker: Docker,
    machine: Machine,
    store: ImageStore,
    offers: Offers,
    name: String,
}

impl World {
    /// `None`: skip.
    async fn new(stem: &str) -> Option<Self> {
        let docker = docker().await?;
        let machine = Machine::with_docker(&docker);
        let world = Self {
            name: machine.name(stem),
            store: ImageStore::start().await,
            offers: Offers::new(&machine, "stdio"),
            docker,
            machine,
        };
        let digest = world.store.put_echo("1.0.0", "1.0.0");
        world.offer("1.0.0", &digest).await;
        let run = ["run", "echo", "--name", &world.name, "--wait=1m"];
        world.machine.thv(run).await.ok();
        Some(world)
    }

    /// This version is the newest; its image goes with the test.
    async fn offer(&self, tag: &str, digest: &str) {
        let repository = self.store.repository("their/echo");
        self.docker.passes(&format!("{repository}@{digest}"));
        let image = format!("{repository}:{tag}");
        self.offers.offer(&self.machine, &image).await;
    }

    /// An upgrade under way.
    fn apply(&self, options: &[&str]) -> Child {
        let apply = ["upgrade", "apply", &self.name, "--yes"];
        let mut command = self.machine.command(apply.iter().chain(options));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("it starts")
    }

    async fn connect(&self) -> Client {
        Client::connect(&self.machine.workload(&self.name).await.url).await
    }

    async fn version(&self) -> String {
        let client = self.connect().await;
        let version = client.call("version", json!({})).await;
        client.close().await;
        version
    }

    /// What the run configuration says runs.
    fn image(&self) -> String {
        let path = self
            .machine
            .dirs()
            .runconfigs()
            .join(format!("{}.json", self.name));
        let config: Value =
            serde_json::from_slice(&std::fs::read(path).expect("a configuration")).expect("JSON");
        config["image"].as_str().expect("an image").to_owned()
    }

    /// Waits until the status file says this, of the version with this tag.
    async fn reaches(&self, status: &str, tag: &str) {
        let what = format!("{status} with {tag}");
        eventually(WAIT, &what, async || {
            let said = drill::written(&self.machine, &self.name)?;
            (said["status"] == status && self.image().ends_with(tag)).then_some(())
        })
        .await;
    }

    /// One of the two serves, alone, and can be upgraded to the newest and removed.
    async fn assert_one_serves(&self, tags: &[&str]) -> String {
        let told = self.machine.thv(["reconcile"]).await.ok();
        eventually(WAIT, &format!("it runs after {told}"), async || {
            let said = drill::written(&self.machine, &self.name)?;
            (said["status"] == "running").then_some(())
        })
        .await;
        let version = self.version().await;
        assert!(tags.contains(&version.as_str()), "{version}");
        assert!(self.image().ends_with(&version), "{} and {version}", self.image());
        let workload = self.machine.workload(&self.name).await;
        assert_eq!(workload.status, WorkloadStatus::Running, "{workload:?}");
        // The engine's list lags behind its answers.
        eventually(WAIT, "one container has its name", async || {
            let listed = self.docker.get("/containers/json?all=true").await;
            let ours = listed.matches(&format!("\"/{}\"", self.name)).count();
            (ours == 1).then_some(())
        })
        .await;
        version
    }

    async fn remove(&self) {
        self.machine.thv(["rm", &self.name]).await.ok();
        self.docker.assert_gone(&self.name).await;
    }
}

#[tokio::test]
async fn killed_while_it_pulls() {
    let Some(world) = World::new("pulling").await else {
        return;
    };
    let (digest, layer) = world.store.put_echo_of_its_own("1.1.0", "1.1.0");
    world.store.trouble(&layer, Trouble::Hang);
    world.offer("1.1.0", &digest).await;
    let client = world.connect().await;
    let mut apply = world.apply(&[]);
    world.store.asked(&layer).await;
    apply.kill().await.expect("it is a child");
    assert_eq!(
        client.call("version", json!({})).await,
        "1.0.0",
        "nobody touched it"
    );
    client.close().await;
    assert_eq!(world.assert_one_serves(&["1.0.0"]).await, "1.0.0");
    world.store.recover();
    let again = world.apply(&[]).wait().await.expect("it is a child");
    assert!(again.success(), "{again}");
    assert_eq!(world.assert_one_serves(&["1.1.0"]).await, "1.1.0");
    world.remove().await;
}

#[tokio::test]
async fn killed_while_the_old_version_ends() {
    let Some(world) = World::new("ending").await else {
        return;
    };
    let digest = world.store.put_echo("1.1.0", "1.1.0");
    world.offer("1.1.0", &digest).await;
    // The proxy waits a while for a call that is under way: as long the moment lasts, whenever it comes.
    let client = world.connect().await;
    let slow = async {
        // Whether it is answered is another promise.
        let _ = client.try_call("slow", json!({ "ms": 600_000 })).await;
        std::future::pending::<()>().await;
    };
    let kill = async {
        let mut apply = world.apply(&[]);
        world.reaches("stopping", "1.0.0").await;
        apply.kill().await.expect("it is a child");
    };
    tokio::select! {
        () = slow => {}
        () = kill => {}
    }
    drop(client);
    world.assert_one_serves(&["1.0.0", "1.1.0"]).await;
    world.remove().await;
}

#[tokio::test]
async fn killed_while_the_new_version_starts() {
    let Some(world) = World::new("starting").await else {
        return;
    };
    let digest = world.store.put_echo_with("1.1.0", "1.1.0", &["--no-answer"]);
    world.offer("1.1.0", &digest).await;
    let mut apply = world.apply(&["--rollback=5m"]);
    world.reaches("starting", "1.1.0").await;
    apply.kill().await.expect("it is a child");
    // It never answers, and nobody waits for it any more.
    assert_eq!(world.assert_one_serves(&["1.0.0"]).await, "1.0.0");
    world.remove().await;
}

#[tokio::test]
async fn killed_with_its_proxy_while_the_new_version_starts() {
    let Some(world) = World::new("alone").await else {
        return;
    };
    let digest = world.store.put_echo_with("1.1.0", "1.1.0", &["--no-answer"]);
    world.offer("1.1.0", &digest).await;
    let mut apply = world.apply(&["--rollback=5m"]);
    world.reaches("starting", "1.1.0").await;
    // Before that there is none to come: the command that launches it is killed.
    let proxy = proxy(&world).await;
    apply.kill().await.expect("it is a child");
    drill::kill_9(proxy);
    assert_eq!(world.assert_one_serves(&["1.0.0"]).await, "1.0.0");
    world.remove().await;
}

#[tokio::test]
async fn killed_while_it_goes_back() {
    let Some(world) = World::new("back").await else {
        return;
    };
    let digest = world.store.put_echo_with("1.1.0", "1.1.0", &STUBBORN);
    world.offer("1.1.0", &digest).await;
    let mut apply = world.apply(&["--rollback=5s"]);
    world.reaches("stopping", "1.1.0").await;
    apply.kill().await.expect("it is a child");
    // Its server takes half a minute to end.
    drill::kill_9(proxy(&world).await);
    assert_eq!(world.assert_one_serves(&["1.0.0"]).await, "1.0.0");
    world.remove().await;
}

/// The proxy, once it has said who it is.
async fn proxy(world: &World) -> u32 {
    eventually(WAIT, "a proxy", async || {
        let status = drill::status(&world.machine, &world.name).await;
        let pid = status["thv"]["proxy_pid"].as_u64()?;
        u32::try_from(pid).ok().filter(|pid| *pid > 0)
    })
    .await
}
