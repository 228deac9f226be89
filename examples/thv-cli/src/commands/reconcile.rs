//! `thv reconcile`.

use std::process::ExitCode;

use thv::core::{Env, Json};
use thv::manager::{ReconcileAction, StartOptions};

use super::{Done, Failure, Given, manager_given, unit};
use crate::cli::{Format, ReconcileArgs};
use crate::output::{error, json, note, print, progress};

const STARTED: &str = "it should run and did not";
const STOPPED: &str = "as was asked for";
const REMOVED: &str = "as was begun";

pub(super) async fn run(args: &ReconcileArgs) -> Done {
    if args.print_unit {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(format!("cannot find the path of this program: {error}")))?;
        let env = Env::from_vars(std::env::vars_os());
        print(&unit::unit(&program, &env)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = StartOptions {
        take_over: args.take_over,
        ..StartOptions::default()
    };
    let manager = manager_given(Given::password(&args.password)?)?;
    if !args.wait_runtime.is_zero() {
        let waiting = manager.wait_for_runtimes(args.wait_runtime);
        for (kind, reason) in progress::during("waiting for container engines", waiting).await? {
            note(&format!("Warning: {kind} does not answer: {reason}"));
        }
    }
    let done = progress::during("reconciling", Box::pin(manager.reconcile(options))).await?;
    if args.format == Format::Json {
        let objects = done.iter().map(|one| {
            let named = json::Object::default().with("name", one.name.as_str());
            Json::from(match &one.action {
                ReconcileAction::Started => named.with("action", "started").with("reason", STARTED),
                ReconcileAction::Stopped => named.with("action", "stopped").with("reason", STOPPED),
                ReconcileAction::Removed => named.with("action", "removed").with("reason", REMOVED),
                ReconcileAction::BelongsElsewhere { launcher } => named
                    .with("action", "belongs_elsewhere")
                    .with("launcher", launcher.as_str()),
                ReconcileAction::Failed(error) => {
                    named.with("action", "failed").with("error", error::object(error))
                }
                _ => named.with("action", "other"),
            })
        });
        json::print(&objects.collect())?;
    }
    let mut failed = false;
    for one in &done {
        let name = &one.name;
        let line = match &one.action {
            ReconcileAction::Started => format!("{name}: started: {STARTED}"),
            ReconcileAction::Stopped => format!("{name}: stopped, {STOPPED}"),
            ReconcileAction::Removed => format!("{name}: removed, {REMOVED}"),
            ReconcileAction::BelongsElsewhere { launcher } => {
                format!("{name}: belongs to {launcher}, which does not run")
            }
            ReconcileAction::Failed(error) => {
                failed = true;
                error::of_workload(name.as_str(), error)
            }
            _ => continue,
        };
        if args.format == Format::Text || line.starts_with("Error") {
            note(&line);
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
