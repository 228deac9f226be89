//! `thv logs`.

use std::process::ExitCode;

use futures_util::StreamExt as _;
use thv::core::WorkloadName;
use thv::manager::LogRequest;

use super::{Done, Failure, manager};
use crate::cli::LogsArgs;
use crate::output;

pub(super) async fn run(args: &LogsArgs) -> Done {
    if args.name == "prune" {
        return Err(Failure::new("logs prune is not built yet"));
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
    while let Some(line) = lines.next().await {
        let mut line = line?.to_vec();
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        if !output::print_some(&line)? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}
