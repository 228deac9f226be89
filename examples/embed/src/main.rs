//! An application that embeds the workload manager: `embed exec:///path/of/a/stdio/server`.
#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use futures_util::StreamExt as _;
use thv::core::{Env, TransportType, WorkloadName};
use thv::manager::{self, RunOptions, RunRequest, ShutdownMode, StartOptions, WatchFrom};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args()
        .nth(1)
        .ok_or("usage: embed exec:///path/of/a/stdio/server")?;
    let manager = thv::manager_from_env(Env::from_vars(std::env::vars_os()))?
        .launcher_id("com.example.embed")
        .build()?;
    let mut changes = manager.watch(WatchFrom::Now).await?;
    // What an earlier run of this application left behind comes back first.
    for found in manager.reconcile(StartOptions::default()).await? {
        println!("reconciled {}: {:?}", found.name, found.action);
    }
    let name = WorkloadName::new("embedded")?;
    let up = match manager.start(&name, StartOptions::default()).await {
        Err(manager::Error::NotFound { .. }) => {
            let mut request = RunRequest::new(server);
            request.name = Some(name.to_string());
            request.transport = Some(TransportType::Stdio);
            Box::pin(manager.run(request, RunOptions::default())).await?
        }
        started => started?,
    };
    println!("{name} serves at {}; Ctrl-C ends", up.url);
    loop {
        tokio::select! {
            Some(changed) = changes.next() => println!("{:?}", changed.event),
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    Ok(manager.shutdown(ShutdownMode::Stop).await?)
}
