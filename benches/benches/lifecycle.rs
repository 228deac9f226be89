//! What the manager adds to a workload's life: run to first answer, stop, start and remove, each beside the runtime's own
//! calls doing the same for a server with the same image or program.
//!
//! `cargo bench -p thv-benches --bench lifecycle`; with `THV_BENCH_IMAGE=<image of the echo server>` also on Docker.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use thv::core::{Dirs, Env, WorkloadName};
use thv::manager::{Manager, RunOptions, RunRequest, StartOptions, StopOptions, WaitFor};
use thv::proxy::{BackendIo, BridgeConfig, StdioBridge};
use thv::runtime::{DeploySpec, Expect, InstanceRef, RuntimeKind, StopOptions as RuntimeStop};

const ROUNDS: usize = 10;
const STEPS: [&str; 4] = ["run", "stop", "start", "rm"];

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let dirs = Dirs::under(folder.path());
    for needed in [&dirs.home, &dirs.temp] {
        std::fs::create_dir_all(needed).expect("a folder");
    }
    let env = Env::from_vars(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    let manager = thv::manager_in(dirs, env)
        .and_then(|builder| builder.launcher_id("bench").build())
        .expect("a manager");
    let server = format!("exec://{}", echo_server().display());
    compare(&manager, "local", &server, &[]).await;
    compare(&manager, "local", &server, &["--ignore-sigterm"]).await;
    if let Ok(image) = std::env::var("THV_BENCH_IMAGE") {
        compare(&manager, "docker", &image, &[]).await;
    }
}

/// The release build of the example server.
fn echo_server() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "-p", "echo-server"])
        .status()
        .expect("cargo");
    assert!(built.success(), "the echo server is built");
    let target = std::env::current_exe().expect("this program's path");
    target
        .ancestors()
        .nth(2)
        .expect("target/release")
        .join("echo-server")
}

async fn compare(manager: &Manager, runtime: &str, server: &str, args: &[&str]) {
    println!("\n{runtime} {}", args.join(" "));
    println!("{:>6}  {:>10}  {:>10}  {:>6}", "", "manager", "runtime", "ratio");
    let (mut ours, mut bare) = (vec![Vec::new(); 4], vec![Vec::new(); 4]);
    for round in 0..ROUNDS {
        let managed = managed_life(manager, runtime, server, args, round).await;
        let plain = plain_life(manager, runtime, server, args, round).await;
        for step in 0..STEPS.len() {
            ours[step].push(managed[step]);
            bare[step].push(plain[step]);
        }
    }
    for (step, (ours, bare)) in STEPS.iter().zip(ours.into_iter().zip(bare)) {
        let (ours, bare) = (median(ours), median(bare));
        println!(
            "{step:>6}  {:>8.1}ms  {:>8.1}ms  {:>6.2}",
            ours.as_secs_f64() * 1e3,
            bare.as_secs_f64() * 1e3,
            ours.as_secs_f64() / bare.as_secs_f64()
        );
    }
}

async fn managed_life(
    manager: &Manager,
    runtime: &str,
    server: &str,
    args: &[&str],
    round: usize,
) -> [Duration; 4] {
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

/// Deploy, attach, `initialize`; close the input and stop; the same again; remove.
async fn plain_life(
    manager: &Manager,
    runtime: &str,
    server: &str,
    args: &[&str],
    round: usize,
) -> [Duration; 4] {
    let runtime = manager
        .runtimes()
        .get(&RuntimeKind::new(runtime))
        .expect("the runtime");
    let name: WorkloadName = format!("bench-plain-{}-{round}", std::process::id())
        .parse()
        .expect("a name");
    let mut spec = DeploySpec::new(name.clone(), server);
    spec.command = args.iter().map(ToString::to_string).collect();
    let which = InstanceRef::named(name);
    let mut times = [Duration::ZERO; 4];
    for (step, stop_too) in [(0, true), (2, false)] {
        let began = Instant::now();
        let deployed = runtime.deploy(&spec).await.expect("deploy");
        spec.expect = Expect::Instance(deployed.instance.id);
        let io = runtime.attach(&which).await.expect("attach");
        let bridge = StdioBridge::new(
            BackendIo {
                reader: io.stdout,
                writer: io.stdin,
            },
            BridgeConfig::default(),
        )
        .expect("a bridge");
        bridge.initialize().await.expect("initialize");
        times[step] = began.elapsed();
        let began = Instant::now();
        bridge.shutdown().await;
        if stop_too {
            runtime.stop(&which, RuntimeStop::default()).await.expect("stop");
            times[1] = began.elapsed();
        } else {
            runtime.stop(&which, RuntimeStop::default()).await.expect("stop");
            runtime.remove(&which).await.expect("remove");
            times[3] = began.elapsed();
        }
    }
    times
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
