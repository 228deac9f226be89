//! What the manager adds to a workload's life: run to first answer, stop, start and remove, each beside the least that
//! does the same. That is a process with pipes for a program of this host, and the engine's own API for a container.
//!
//! `cargo bench -p thv-benches --bench lifecycle`; containers where an engine answers at `THV_TEST_SOCKET`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use thv::core::{Dirs, Env, WorkloadName};
use thv::manager::{Manager, RunOptions, RunRequest, StartOptions, StopOptions, WaitFor};
use thv::runtime::RuntimeKind;
use thv_benches::engine::Engine;
use thv_benches::{median, programs};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

const ROUNDS: usize = 10;
const STEPS: [&str; 4] = ["run", "stop", "start", "rm"];

type Life = [Duration; 4];

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let dirs = Dirs::under(folder.path());
    for needed in [&dirs.home, &dirs.temp] {
        std::fs::create_dir_all(needed).expect("a folder");
    }
    let engine = Engine::find().await;
    let host = engine
        .as_ref()
        .map(|engine| format!("unix://{}", engine.socket().display()));
    let env = std::env::vars_os().filter(|(name, _)| name == "PATH");
    let env = env.chain(host.map(|host| ("DOCKER_HOST".into(), host.into())));
    let manager = thv::manager_in(dirs, Env::from_vars(env))
        .and_then(|builder| builder.launcher_id("bench").build())
        .expect("a manager");
    let program = programs::release("echo-server", "echo-server");
    let server = format!("exec://{}", program.display());
    for args in [&[][..], &["--ignore-sigterm"]] {
        let mut lives = Lives::default();
        for round in 0..ROUNDS {
            let managed = managed_life(&manager, "local", &server, args, round).await;
            lives.add(managed, process_life(&program, args).await);
        }
        lives.print(&format!("local {}", args.join(" ")), "process");
    }
    let Some(engine) = engine else {
        println!("\nno engine: no containers");
        return;
    };
    let tag = std::process::id().to_string();
    let image = engine
        .import(&programs::static_echo(), "localhost/thv-bench-echo", &tag)
        .await;
    let mut lives = Lives::default();
    for round in 0..ROUNDS {
        let managed = managed_life(&manager, "docker", &image, &[], round).await;
        lives.add(managed, container_life(&engine, &image, round).await);
    }
    lives.print("docker", "engine API");
    engine.remove_image(&image).await;
}

#[derive(Default)]
struct Lives {
    managed: [Vec<Duration>; 4],
    bare: [Vec<Duration>; 4],
}

impl Lives {
    fn add(&mut self, managed: Life, bare: Life) {
        for step in 0..STEPS.len() {
            self.managed[step].push(managed[step]);
            self.bare[step].push(bare[step]);
        }
    }

    fn print(self, title: &str, reference: &str) {
        println!("\n{title}");
        println!("{:>6}  {:>10}  {reference:>10}  {:>6}", "", "manager", "ratio");
        for (step, (managed, bare)) in STEPS.iter().zip(self.managed.into_iter().zip(self.bare)) {
            let (managed, bare) = (median(managed), median(bare));
            println!(
                "{step:>6}  {:>8.1}ms  {:>8.1}ms  {:>6.2}",
                managed.as_secs_f64() * 1e3,
                bare.as_secs_f64() * 1e3,
                managed.as_secs_f64() / bare.as_secs_f64()
            );
        }
    }
}

async fn managed_life(manager: &Manager, runtime: &str, server: &str, args: &[&str], round: usize) -> Life {
    let name: WorkloadName = format!("bench-{}-{round}", std::process::id())
        .parse()
        .expect("a name");
    let mut request = RunRequest::new(server);
    request.name = Some(name.to_string());
    request.args = args.iter().map(ToString::to_string).collect();
    request.transport = Some(thv::core::TransportType::Stdio);
    request.runtime = Some(RuntimeKind::new(runtime));
    let wait = WaitFor::Ready(Duration::from_secs(30));
    let began = Instant::now();
    let options = RunOptions {
        wait,
        ..RunOptions::default()
    };
    Box::pin(manager.run(request, options)).await.expect("run");
    let run = began.elapsed();
    let began = Instant::now();
    Box::pin(manager.stop(&name, StopOptions::default()))
        .await
        .expect("stop");
    let stop = began.elapsed();
    let began = Instant::now();
    let options = StartOptions {
        wait,
        ..StartOptions::default()
    };
    Box::pin(manager.start(&name, options)).await.expect("start");
    let start = began.elapsed();
    let began = Instant::now();
    Box::pin(manager.delete(&name, StopOptions::default()))
        .await
        .expect("rm");
    [run, stop, start, began.elapsed()]
}

fn initialize() -> String {
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "bench", "version": "1" } } });
    hello.to_string()
}

/// Start it and have `initialize` answered; close its input and wait for its end; the same again. There is nothing to remove.
async fn process_life(program: &Path, args: &[&str]) -> Life {
    let began = Instant::now();
    let child = start(program, args).await;
    let run = began.elapsed();
    let began = Instant::now();
    stop(child).await;
    let stopped = began.elapsed();
    let began = Instant::now();
    let child = start(program, args).await;
    let started = began.elapsed();
    let began = Instant::now();
    stop(child).await;
    [run, stopped, started, began.elapsed()]
}

async fn start(program: &Path, args: &[&str]) -> Child {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let message = initialize() + "\n";
    let input = child.stdin.as_mut().expect("it is piped");
    input.write_all(message.as_bytes()).await.expect("written");
    let mut answer = String::new();
    let output = child.stdout.as_mut().expect("it is piped");
    BufReader::new(output)
        .read_line(&mut answer)
        .await
        .expect("an answer");
    assert!(answer.contains("serverInfo"), "{answer}");
    child
}

async fn stop(mut child: Child) {
    drop(child.stdin.take());
    child.wait().await.expect("it ends");
}

/// Create, attach, start and have `initialize` answered; close its input and stop it; attach and start again; stop and
/// remove.
async fn container_life(engine: &Engine, image: &str, round: usize) -> Life {
    let name = format!("thv-bench-plain-{}-{round}", std::process::id());
    let began = Instant::now();
    let container = engine.create(&name, image).await;
    let stream = container.start(&initialize()).await;
    let run = began.elapsed();
    let began = Instant::now();
    container.stop(stream).await;
    let stopped = began.elapsed();
    let began = Instant::now();
    let stream = container.start(&initialize()).await;
    let started = began.elapsed();
    let began = Instant::now();
    container.stop(stream).await;
    container.remove().await;
    [run, stopped, started, began.elapsed()]
}
