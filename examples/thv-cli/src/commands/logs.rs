//! `thv logs`.

use std::pin::pin;
use std::process::ExitCode;

use futures_util::StreamExt as _;
use thv::core::{Json, WorkloadName};
use thv::manager::LogRequest;
use thv::process::output::reader_has_gone;

use super::{Done, Failure, manager};
use crate::cli::{Format, LogsArgs};
use crate::output::{self, json};

/// Lines that are written at one time at most.
const AT_ONCE: usize = 256;

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
    let lines = if args.proxy {
        manager.proxy_logs(&name, request).await?
    } else {
        manager.logs(&name, request).await?
    };
    let terminal = output::is_on_terminal();
    // Lines that are there go out together; none waits for another.
    let mut lines = lines.ready_chunks(AT_ONCE);
    let mut reader_has_gone = pin!(reader_has_gone(std::io::stdout()));
    loop {
        let next = tokio::select! {
            next = lines.next() => next,
            () = &mut reader_has_gone => None,
        };
        let Some(some) = next else { break };
        let (mut shown, mut failure) = (Vec::new(), None);
        for line in some {
            match line {
                Ok(line) => shown.extend(output::foreign_line(&line, terminal)),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let is_read = output::print_some(&shown)?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        if !is_read {
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
