//! `thv group`.

use std::process::ExitCode;

use thv::core::{GroupName, Json};
use thv::manager::{GroupMembers, Manager};

use super::{Done, Failure, manager, names, results};
use crate::cli::{Format, GroupCommand, GroupDeleteArgs, GroupMoveArgs};
use crate::output::table::{Cell, layout};
use crate::output::{has_colours, json, note, print, progress, prompt};

pub(super) async fn run(command: &GroupCommand) -> Done {
    match command {
        GroupCommand::Create { name } => {
            manager()?.create_group(&group(name)?).await?;
            Ok(ExitCode::SUCCESS)
        }
        GroupCommand::List { format } => list(*format).await,
        GroupCommand::Rm(args) => delete(args).await,
        GroupCommand::Move(args) => move_workloads(args).await,
    }
}

async fn list(format: Format) -> Done {
    let listed = manager()?.groups().await?;
    for warning in &listed.warnings {
        note(&format!("Warning: {warning}"));
    }
    let shown = listed.groups.iter().filter(|group| !group.name.is_internal());
    if format == Format::Json {
        let objects = shown.map(|group| {
            let clients = group
                .registered_clients
                .iter()
                .map(|client| Json::from(client.as_str()));
            Json::from(
                json::Object::default()
                    .with("name", group.name.as_str())
                    .with("registered_clients", clients.collect::<Json>()),
            )
        });
        json::print(&objects.collect())?;
    } else {
        let mut rows = vec![vec![Cell::from("NAME")]];
        rows.extend(shown.map(|group| vec![Cell::from(group.name.as_str())]));
        print(&layout(&rows, has_colours()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn delete(args: &GroupDeleteArgs) -> Done {
    let manager = manager()?;
    let name = group(&args.name)?;
    if !args.yes && !agreed(&manager, &name, args.with_workloads).await? {
        note("Nothing is deleted");
        return Ok(ExitCode::SUCCESS);
    }
    let members = if args.with_workloads {
        GroupMembers::Delete
    } else {
        GroupMembers::Move
    };
    let what = format!("deleting group \"{name}\"");
    let done = progress::during(&what, Box::pin(manager.delete_group(&name, members))).await?;
    let verb = if args.with_workloads { "removed" } else { "moved" };
    let code = results::write(&done.workloads, results::Whom::Named, args.format, |()| {
        json::Object::default().with(verb, true)
    });
    if !done.deleted {
        note(&format!(
            "Error: group \"{name}\" is kept, because some of its servers could not be {verb}"
        ));
    }
    code
}

/// Whether the group is to be deleted with what is in it. Where nobody can be asked, servers are only deleted with --yes.
async fn agreed(manager: &Manager, name: &GroupName, with_workloads: bool) -> Result<bool, Failure> {
    let members = manager.workloads_in_group(name).await?;
    if members.is_empty() {
        return Ok(true);
    }
    let servers = members.join(", ");
    if !prompt::has_somebody_to_ask() {
        if with_workloads {
            return Err(Failure::new(format!(
                "group \"{name}\" has {servers}: say --yes to delete them"
            )));
        }
        return Ok(true);
    }
    let becomes = if with_workloads {
        "will be deleted"
    } else {
        "will go to group \"default\""
    };
    let question = format!("Delete group \"{name}\"? {servers} {becomes} [y/N]: ");
    let answer = prompt::ask(&question, false).await?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

async fn move_workloads(args: &GroupMoveArgs) -> Done {
    let manager = manager()?;
    let to = group(&args.to)?;
    let names = names::chosen(&manager, &args.names, None).await?;
    let what = format!("moving {}", names.join(", "));
    let moved = manager.move_all_to_group(names, &to).into_future();
    let moved = progress::during(&what, moved).await;
    results::write(&moved, results::Whom::Named, args.format, |moved| {
        json::Object::default().with("moved", *moved)
    })
}

fn group(name: &str) -> Result<GroupName, Failure> {
    GroupName::new(name).map_err(|error| Failure::new(error.to_string()))
}
