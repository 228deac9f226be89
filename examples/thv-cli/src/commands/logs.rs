//! `thv logs`.

use std::process::ExitCode;

use futures_util::StreamExt as _;
use thv::core::{Json, WorkloadName};
use thv::manager::LogRequest;

use super::{Done, Failure, manager};
use crate::cli::{Format, LogsArgs};
use crate::output::{self, json};

pub(super) async fn run(args: &LogsArgs) -> Done {
    if args.name == "prune" {
        return prune(args).await;
    }
    if args.format.is_some() {
        return Err(Failure::new(
            "--format is for logs prune: a log is what the server wrote",
        ));
    }
    let name = WorkloadName::new(args.name.as_str())?;
    let manager = manager()?;
    let request = LogRequest {
        tail: args.tail,
        follow: args.follow,
    };
    let mut lines = if args.proxy {
        manager.proxy_logs(&name, request).await?
    } else {
        manager.logs(&name, request).await?
    };
    let terminal = output::is_on_terminal();
    while let Some(line) = lines.next().await {
        if !output::print_some(&output::foreign_line(&line?, terminal))? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the logs of workloads that do not exist.
async fn prune(args: &LogsArgs) -> Done {
    if args.follow || args.proxy || args.tail.is_some() {
        return Err(Failure::new(
            "logs prune takes no flag but --format: leave them out",
        ));
    }
    let removed = manager()?.prune_logs().await?;
    if args.format == Some(Format::Json) {
        let paths = removed.iter().map(|path| Json::from(&*path.to_string_lossy()));
        json::print(&paths.collect())?;
        return Ok(ExitCode::SUCCESS);
    }
    for path in &removed {
        output::print(&format!("{}\n", path.display()))?;
    }
    output::note(&match removed.len() {
        0 => "No logs to remove".to_owned(),
        1 => "Removed 1 log".to_owned(),
        count => format!("Removed {count} logs"),
    });
    Ok(ExitCode::SUCCESS)
}
