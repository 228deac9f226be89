//! The main job in one command: an MCP server lives its whole life.
//!
//! `cargo run --release -p quickstart` runs it as a process of this host, `-- --runtime docker` as a container. All
//! files are in a temporary folder; nothing of yours is touched.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what happens"
)]

mod client;
mod image;
mod server;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use futures_util::StreamExt as _;
use thv::core::{Dirs, Env, TransportType, Workload, WorkloadName};
use thv::manager::{
    ListOptions, LogRequest, Manager, RunOptions, RunRequest, ShutdownMode, StartOptions, StopOptions,
    WaitFor,
};

use tokio::signal::unix::{SignalKind, signal};

use client::Client;
use server::Server;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const USAGE: &str = "usage: quickstart [--runtime local|docker]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = match args[..] {
        [] | ["--runtime", "local"] => "local",
        ["--runtime", "docker"] => "docker",
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match live(runtime).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn with_causes(error: &(dyn Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Says what happens and how long it takes.
struct Step(Instant);

impl Step {
    fn begin(what: &str) -> Self {
        use std::io::Write as _;
        print!("{what:<58}");
        // A step that is not seen while it runs is seen when it ends.
        let _ = std::io::stdout().flush();
        Self(Instant::now())
    }

    fn end(self, outcome: &str) {
        println!("{:>7.0} ms   {outcome}", self.0.elapsed().as_secs_f64() * 1000.0);
    }
}

async fn live(runtime: &str) -> Result<()> {
    let step = Step::begin("Build the echo server");
    let server = until_interrupted(Server::build(runtime)).await?;
    step.end(server.reference());

    let folder = tempfile::tempdir()?;
    let manager = manager(folder.path())?;
    let name = WorkloadName::new(format!("quickstart-{}", std::process::id()))?;
    let done = until_interrupted(Box::pin(story(&manager, &name, &server, runtime))).await;
    // Also a story that broke off leaves nothing behind, and its own error is the one that counts.
    let cleaned = until_interrupted(Box::pin(clean(&manager, &name, &server))).await;
    match (done, cleaned) {
        (Err(error), Err(other)) => {
            eprintln!("Cleaning up failed too: {}", with_causes(&*other));
            Err(error)
        }
        (done, cleaned) => done.and(cleaned),
    }
}

/// Ctrl-C ends what goes on.
async fn until_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut terminated = signal(SignalKind::terminate())?;
    let word = tokio::select! {
        done = work => return done,
        _ = tokio::signal::ctrl_c() => "interrupted",
        _ = terminated.recv() => "terminated",
    };
    // The line of the step that was under way.
    println!();
    Err(word.into())
}

/// Takes everything away, however far the story came.
async fn clean(manager: &Manager, name: &WorkloadName, server: &Server) -> Result<()> {
    let deleted = manager.delete(name, StopOptions::default()).await;
    let ended = manager.shutdown(ShutdownMode::Stop).await;
    let removed = server.remove();
    deleted?;
    ended?;
    removed
}

/// The usual parts, in a folder of its own. Engines are still found where the user has them.
fn manager(folder: &std::path::Path) -> Result<Manager> {
    let env = Env::from_vars(std::env::vars_os().filter(|(name, _)| name != "TOOLHIVE_RUNTIME"));
    let mut dirs = Dirs::under(folder);
    if let Ok(own) = Dirs::from_env(&env) {
        (dirs.home, dirs.runtime) = (own.home, own.runtime);
    }
    Ok(thv::manager_in(dirs, env)?
        .launcher_id("thv.quickstart")
        .build()?)
}

async fn story(manager: &Manager, name: &WorkloadName, server: &Server, runtime: &str) -> Result<()> {
    let mut request = RunRequest::new(server.reference());
    request.name = Some(name.to_string());
    request.transport = Some(TransportType::Stdio);
    request.runtime = Some(runtime.into());
    let patient = WaitFor::Ready(std::time::Duration::from_mins(1));

    let step = Step::begin("Run it as a workload, until it answers `initialize`");
    let options = RunOptions {
        wait: patient,
        ..RunOptions::default()
    };
    let up = Box::pin(manager.run(request, options)).await?;
    step.end(&up.url);
    for notice in &up.notices {
        println!("  note: {notice}");
    }
    call(&up.url, "hello").await?;

    let step = Step::begin("List");
    let listed = list(manager, name).await?;
    step.end(&format!("{} workload(s)", listed.len()));
    for workload in &listed {
        println!("  {}  {}  {}", workload.name, workload.status, workload.url);
    }

    let step = Step::begin("Read its log");
    let mut lines = manager
        .logs(
            name,
            LogRequest {
                tail: Some(5),
                follow: false,
            },
        )
        .await?;
    let mut shown = Vec::new();
    while let Some(line) = lines.next().await {
        shown.push(String::from_utf8_lossy(&line?).trim_end().to_owned());
    }
    step.end(&format!("{} line(s)", shown.len()));
    for line in shown {
        println!("  {line}");
    }

    let step = Step::begin("Stop");
    manager.stop(name, StopOptions::default()).await?;
    step.end(manager.get(name).await?.status.as_str());

    let step = Step::begin("Start again, until it answers");
    let again = manager
        .start(
            name,
            StartOptions {
                wait: patient,
                ..StartOptions::default()
            },
        )
        .await?;
    step.end(if again.url == up.url {
        "on the same port"
    } else {
        "on another port"
    });
    call(&again.url, "hello again").await?;

    let step = Step::begin("Remove");
    manager.delete(name, StopOptions::default()).await?;
    let left = list(manager, name).await?;
    step.end(&format!("{} workload(s) left", left.len()));
    Ok(())
}

/// What `list --all` has of ours; an engine has other containers too.
async fn list(manager: &Manager, name: &WorkloadName) -> Result<Vec<Workload>> {
    let all = ListOptions {
        all: true,
        ..ListOptions::default()
    };
    let mut workloads = manager.list(all).await?.workloads;
    workloads.retain(|workload| workload.name == name.as_str());
    Ok(workloads)
}

async fn call(url: &str, text: &str) -> Result<()> {
    let step = Step::begin("Connect as a client through the proxy");
    let client = Client::connect(url).await?;
    step.end(client.server());
    let step = Step::begin(&format!("Call the tool `echo` with \"{text}\""));
    let answer = client.call("echo", text).await?;
    step.end(&format!("\"{answer}\""));
    // What the server writes to its standard error is its log.
    client.call("stderr", &format!("somebody said {text:?}")).await?;
    if answer == text {
        Ok(())
    } else {
        Err(format!("the tool answered {answer:?}").into())
    }
}
