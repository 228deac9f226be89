//! `thv logs`.

use std::io::Write as _;
use std::process::ExitCode;

use futures_util::StreamExt as _;
use thv::core::WorkloadName;
use thv::manager::LogRequest;

use super::{Done, Failure, manager};
use crate::cli::LogsArgs;

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
    let mut out = std::io::stdout();
    while let Some(line) = lines.next().await {
        let line = line?;
        let written = out.write_all(&line).and_then(|()| {
            if line.ends_with(b"\n") {
                Ok(())
            } else {
                out.write_all(b"\n")
            }
        });
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            other => other?,
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
