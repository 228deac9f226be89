//! Many local workloads at once: started, stopped, and how long after the word `stop` a port is free. Beside it the same
//! number of bare processes that are started and ended, as many at once.
//!
//! `cargo bench -p thv-benches --bench batch [COUNT]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use thv::core::{Dirs, Env, TransportType};
use thv::manager::{Manager, RunOptions, RunRequest, StartOptions, StopOptions, WaitFor};
use thv_benches::{median, programs};

const COUNT: usize = 100;
const STOPS: usize = 10;

#[tokio::main]
async fn main() {
    let count = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(COUNT);
    let folder = tempfile::tempdir().expect("a folder");
    let dirs = Dirs::under(folder.path());
    for needed in [&dirs.home, &dirs.temp] {
        std::fs::create_dir_all(needed).expect("a folder");
    }
    let env = std::env::vars_os().filter(|(name, _)| name == "PATH");
    let manager = thv::manager_in(dirs, Env::from_vars(env))
        .and_then(|builder| builder.launcher_id("bench").build())
        .expect("a manager");
    let server = programs::release("echo-server", "echo-server");
    let names: Vec<_> = (0..count).map(|number| format!("bench-{number}")).collect();
    for name in &names {
        run(&manager, name, &format!("exec://{}", server.display())).await;
    }
    let began = Instant::now();
    let stopped = manager.stop_all(names.clone(), StopOptions::default()).await;
    let down = began.elapsed();
    assert!(stopped.iter().all(|one| one.result.is_ok()), "{stopped:?}");
    let began = Instant::now();
    let started = manager.start_all(names.clone(), until_ready()).await;
    let up = began.elapsed();
    assert!(started.iter().all(|one| one.result.is_ok()), "{started:?}");
    let mut free = Vec::new();
    for name in names.iter().take(STOPS) {
        free.push(until_free(&manager, name).await);
    }
    let deleted = manager.delete_all(names, StopOptions::default()).await;
    assert!(deleted.iter().all(|one| one.result.is_ok()), "{deleted:?}");
    let began = Instant::now();
    let mut children: Vec<_> = (0..count).map(|_| bare(&server)).collect();
    let bare_up = began.elapsed();
    let began = Instant::now();
    for child in &mut children {
        drop(child.stdin.take());
        child.wait().expect("it ends");
    }
    println!("{count} local workloads");
    println!(
        "  up   {:>8.1} ms  (processes alone {:.1} ms)",
        millis(up),
        millis(bare_up)
    );
    println!(
        "  down {:>8.1} ms  (processes alone {:.1} ms)",
        millis(down),
        millis(began.elapsed())
    );
    println!("  stop to port free {:.1} ms", millis(median(free)));
}

async fn run(manager: &Manager, name: &str, server: &str) {
    let mut request = RunRequest::new(server);
    request.name = Some(name.to_owned());
    request.transport = Some(TransportType::Stdio);
    let options = RunOptions {
        wait: until_ready().wait,
        ..RunOptions::default()
    };
    Box::pin(manager.run(request, options)).await.expect("it runs");
}

fn until_ready() -> StartOptions {
    StartOptions {
        wait: WaitFor::Ready(Duration::from_secs(60)),
        ..StartOptions::default()
    }
}

/// How long it takes to stop it, until its port can be bound.
async fn until_free(manager: &Manager, name: &str) -> Duration {
    let name = name.parse().expect("a name");
    let port = manager.get(&name).await.expect("it is there").port;
    let began = Instant::now();
    Box::pin(manager.stop(&name, StopOptions::default()))
        .await
        .expect("it stops");
    let bound = TcpListener::bind(("127.0.0.1", port));
    let took = began.elapsed();
    bound.expect("the port is free");
    took
}

fn bare(program: &std::path::Path) -> std::process::Child {
    std::process::Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
