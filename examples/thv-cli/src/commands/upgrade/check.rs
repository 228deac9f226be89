//! `thv upgrade check`.

use std::process::ExitCode;

use thv::core::{RunConfig, WorkloadName};
use thv::manager::Manager;
use thv::upgrade::{CheckResult, Checker};

use super::{configs, report};
use crate::cli::{Format, UpgradeCheckArgs};
use crate::commands::registry::registry;
use crate::commands::{Done, Failure, manager};
use crate::output::{has_colours, json, print, progress};

/// What `--exit-code` says of a newer version.
const AVAILABLE: u8 = 2;

pub(super) async fn run(args: &UpgradeCheckArgs) -> Done {
    let manager = manager()?;
    let results = match &args.name {
        Some(name) => {
            let config = manager.export(&WorkloadName::new(name.as_str())?).await?;
            of(&[config]).await?
        }
        None => of_all(&manager).await?,
    };
    match (args.format, &args.name, &results[..]) {
        (Format::Json, ..) => json::print(&results.iter().map(report::json).collect())?,
        (Format::Text, _, []) => print("No MCP servers found\n")?,
        (Format::Text, Some(_), [one]) => print(&report::one(one))?,
        (Format::Text, ..) => print(&report::table(&results, has_colours()))?,
    }
    let available = args.exit_code && results.iter().any(CheckResult::is_available);
    Ok(if available {
        ExitCode::from(AVAILABLE)
    } else {
        ExitCode::SUCCESS
    })
}

/// All workloads, in the order of their names.
pub(in crate::commands) async fn of_all(manager: &Manager) -> Result<Vec<CheckResult>, Failure> {
    of(&configs(manager).await?).await
}

async fn of(configs: &[RunConfig]) -> Result<Vec<CheckResult>, Failure> {
    let checker = Checker::new(registry()?);
    Ok(progress::during("asking the registry", checker.check_all(configs)).await)
}
