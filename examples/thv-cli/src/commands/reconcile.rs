//! `thv reconcile`.

use std::process::ExitCode;

use thv::core::Json;
use thv::manager::{ReconcileAction, StartOptions};

use super::{Done, manager_with_password};
use crate::cli::{Format, ReconcileArgs};
use crate::output::{error, json, note, progress};

pub(super) async fn run(args: &ReconcileArgs) -> Done {
    let options = StartOptions {
        take_over: args.take_over,
        ..StartOptions::default()
    };
    let manager = manager_with_password(&args.password)?;
    let done = progress::during("reconciling", Box::pin(manager.reconcile(options))).await?;
    if args.format == Format::Json {
        let objects = done.iter().map(|one| {
            let named = json::Object::default().with("name", one.name.as_str());
            Json::from(match &one.action {
                ReconcileAction::Started => named.with("action", "started"),
                ReconcileAction::Removed => named.with("action", "removed"),
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
            ReconcileAction::Started => format!("{name}: started"),
            ReconcileAction::Removed => format!("{name}: removed, as was begun"),
            ReconcileAction::BelongsElsewhere { launcher } => {
                format!("{name}: belongs to {launcher}, which does not run")
            }
            ReconcileAction::Failed(error) => {
                failed = true;
                format!("Error: {name}: {}", error::report(error))
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
