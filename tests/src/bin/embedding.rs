//! An application that embeds the manager, for drills: `embedding NAME exec:///path/of/a/stdio/server`.
//!
//! It tells on its standard output what happens. A line `close` on its standard input ends its async runtime while the
//! process lives on; the end of standard input ends the process.

use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use futures_util::StreamExt as _;
use thv::core::{Env, TransportType, WorkloadName};
use thv::manager::{self, Manager, RunOptions, RunRequest, StartOptions, WaitFor, WatchEvent, WatchFrom};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(server)) = (args.next(), args.next()) else {
        return Err("usage: embedding NAME SERVER".into());
    };
    let name = WorkloadName::new(name)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let manager = thv::manager_from_env(Env::from_vars(std::env::vars_os()))?
        .launcher_id("com.example.drill")
        .build()?;
    let mut changes = runtime.block_on(manager.watch(WatchFrom::Now))?;
    runtime.spawn(async move {
        while let Some(changed) = changes.next().await {
            if let WatchEvent::Changed(workload) = changed.event {
                say(&format!("event {} {}", workload.name, workload.status));
            }
        }
    });
    runtime.block_on(up(&manager, &name, server))?;
    for line in std::io::stdin().lock().lines() {
        if line? == "close" {
            break;
        }
    }
    runtime.shutdown_timeout(Duration::from_secs(10));
    say("closed");
    // It lives on until it is killed or nobody has a word for it any more.
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    drop(manager);
    Ok(())
}

/// Brings back what an earlier run left, else runs `server`.
async fn up(manager: &Manager, name: &WorkloadName, server: String) -> Result<(), Box<dyn Error>> {
    let wait = WaitFor::Ready(Duration::from_secs(60));
    let options = StartOptions {
        wait,
        ..StartOptions::default()
    };
    for found in Box::pin(manager.reconcile(options)).await? {
        say(&format!("reconciled {} {:?}", found.name, found.action));
    }
    match manager.get(name).await {
        Err(manager::Error::NotFound { .. }) => {
            let mut request = RunRequest::new(server);
            request.name = Some(name.to_string());
            request.transport = Some(TransportType::Stdio);
            let options = RunOptions {
                wait,
                ..RunOptions::default()
            };
            Box::pin(manager.run(request, options)).await?;
        }
        found => say(&format!("found {}", found?.status)),
    }
    say("up");
    Ok(())
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever listened is gone: so will this process be.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
