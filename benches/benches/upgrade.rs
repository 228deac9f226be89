//! What an upgrade adds to what it cannot do without. `apply` asks the registry, resolves the image and replaces the container;
//! beside it the engine's own API pulls an image of the same size, stops and removes a container and starts one from the new
//! image. Then how long nobody answers: from the last answered call before to the first after, beside a bare stop and start.
//!
//! `cargo bench -p thv-benches --bench upgrade`; needs an engine at `THV_TEST_SOCKET`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use thv::core::{Dirs, Env, TransportType, WorkloadName};
use thv::manager::{Manager, RunOptions, RunRequest, StopOptions, WaitFor};
use thv::registry::{Entry, EntryInfo, ImageEntry, MemoryRegistry};
use thv::upgrade::{Applier, ApplyOptions};
use thv_benches::engine::Engine;
use thv_benches::median;
use thv_tests::ImageStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 10;
const SERVER: &str = "com.example/echo";

#[tokio::main]
async fn main() {
    let Some(engine) = Engine::find().await else {
        println!("no engine: nothing to measure");
        return;
    };
    let Some(docker) = thv_tests::docker().await else {
        println!("no static echo server: nothing to measure");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let dirs = Dirs::under(folder.path());
    for needed in [&dirs.home, &dirs.temp] {
        std::fs::create_dir_all(needed).expect("a folder");
    }
    let world = World {
        env: Env::from_vars([
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("DOCKER_HOST", format!("unix://{}", engine.socket().display())),
        ]),
        store: ImageStore::start().await,
        engine,
        docker,
        name: format!("bench-upgrade-{}", std::process::id())
            .parse()
            .expect("a name"),
    };
    let manager = thv::manager_in(dirs, world.env.clone())
        .and_then(|builder| builder.launcher_id("bench").build())
        .expect("a manager");
    let url = world.run(&manager).await;
    let (mut applied, mut recreated) = (Vec::new(), Vec::new());
    let (mut down, mut restarted) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (whole, gap) = world.apply(&manager, &url, round).await;
        applied.push(whole);
        down.push(gap);
        let (whole, gap) = world.recreate(round).await;
        recreated.push(whole);
        restarted.push(gap);
    }
    manager
        .delete(&world.name, StopOptions::default())
        .await
        .expect("it goes");
    println!(
        "{:>10}  {:>10}  {:>10}  {:>6}",
        "", "upgrade", "engine API", "ratio"
    );
    print("apply", applied, recreated);
    print("downtime", down, restarted);
}

fn print(what: &str, ours: Vec<Duration>, bare: Vec<Duration>) {
    let (ours, bare) = (median(ours), median(bare));
    println!(
        "{what:>10}  {:>8.1}ms  {:>8.1}ms  {:>6.2}",
        ours.as_secs_f64() * 1e3,
        bare.as_secs_f64() * 1e3,
        ours.as_secs_f64() / bare.as_secs_f64()
    );
}

struct World {
    env: Env,
    store: ImageStore,
    engine: Engine,
    /// Images go with it.
    docker: thv_tests::Docker,
    name: WorkloadName,
}

impl World {
    /// Runs the first version; its URL.
    async fn run(&self, manager: &Manager) -> String {
        let digest = self.store.put_echo("1.0.0", "1.0.0");
        self.passes(&digest);
        let mut request = RunRequest::new(self.image("1.0.0"));
        request.name = Some(self.name.to_string());
        request.transport = Some(TransportType::Stdio);
        let options = RunOptions {
            wait: WaitFor::Ready(Duration::from_mins(1)),
            ..RunOptions::default()
        };
        let up = Box::pin(manager.run(request, options)).await.expect("it runs");
        let mut config = manager.export(&self.name).await.expect("a configuration");
        config.registry_server_name = SERVER.into();
        let update = Box::pin(manager.update(config, thv::manager::UpdateOptions::default())).await;
        update.expect("it is from a registry");
        up.url
    }

    fn image(&self, tag: &str) -> String {
        format!("{}:{tag}", self.store.repository("acme/echo"))
    }

    /// How long an upgrade takes to an image that the engine does not have, and for how long nobody answers.
    async fn apply(&self, manager: &Manager, url: &str, round: usize) -> (Duration, Duration) {
        let tag = format!("1.{}.0", round + 1);
        let (digest, _) = self.store.put_echo_of_its_own(&tag, &tag);
        self.passes(&digest);
        let entry = ImageEntry {
            info: EntryInfo {
                name: SERVER.into(),
                ..EntryInfo::default()
            },
            image: self.image(&tag),
            ..ImageEntry::default()
        };
        let registry = Arc::new(MemoryRegistry::new([Entry::Image(entry)]));
        let gate = thv::image_gate(&self.env, None).expect("no times");
        let applier = Applier::new(registry, gate, Arc::new(manager.clone()));
        let enough = CancellationToken::new();
        let watch = tokio::spawn(longest_silence(port(url), enough.clone()));
        let began = Instant::now();
        let applied = Box::pin(applier.apply(&self.name, ApplyOptions::default())).await;
        let whole = began.elapsed();
        let outcome = applied.expect("it is newer").outcome.expect("it was replaced");
        assert!(outcome.ready, "{outcome:?}");
        // Until somebody was answered by the new version.
        initialize(port(url)).await.expect("it serves");
        enough.cancel();
        let gap = watch.await.expect("no panic");
        (whole, gap)
    }

    /// The same by hand, and a stop and start of what came of it.
    async fn recreate(&self, round: usize) -> (Duration, Duration) {
        let name = format!("{}-plain-{round}", self.name);
        let tag = format!("plain-{round}");
        let (digest, _) = self.store.put_echo_of_its_own(&tag, &tag);
        let image = self.passes(&digest);
        let first = self.store.digest_of("1.0.0").expect("it was put");
        let first = format!("{}@{first}", self.store.repository("acme/echo"));
        let old = self.engine.create(&name, &first).await;
        let stream = old.start(&message()).await;
        let began = Instant::now();
        self.engine
            .pull(&self.store.repository("acme/echo"), &digest)
            .await;
        old.stop(stream).await;
        old.remove().await;
        let new = self.engine.create(&name, &image).await;
        let stream = new.start(&message()).await;
        let whole = began.elapsed();
        let began = Instant::now();
        new.stop(stream).await;
        let stream = new.start(&message()).await;
        let gap = began.elapsed();
        new.stop(stream).await;
        new.remove().await;
        (whole, gap)
    }

    /// It goes with the benchmark.
    fn passes(&self, digest: &str) -> String {
        let image = format!("{}@{digest}", self.store.repository("acme/echo"));
        self.docker.passes(&image);
        image
    }
}

fn message() -> String {
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "bench", "version": "1" } } });
    hello.to_string()
}

fn port(url: &str) -> u16 {
    let (_, rest) = url.rsplit_once(':').expect("a port");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a port")
}

/// The longest time between two answers, until `enough`.
async fn longest_silence(port: u16, enough: CancellationToken) -> Duration {
    let (mut last, mut longest) = (None::<Instant>, Duration::ZERO);
    while !enough.is_cancelled() {
        if initialize(port).await.is_some() {
            let now = Instant::now();
            longest = longest.max(last.map_or(Duration::ZERO, |last| now - last));
            last = Some(now);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    longest
}

/// Has `initialize` answered on a connection of its own; `None`: nobody did.
async fn initialize(port: u16) -> Option<()> {
    let body = message();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer));
    read.await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&answer);
    (text.starts_with("HTTP/1.1 200") && text.contains("serverInfo")).then_some(())
}
