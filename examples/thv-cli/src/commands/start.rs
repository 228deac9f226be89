//! `thv start` and `thv restart`.

use std::process::ExitCode;

use thv::core::WorkloadName;
use thv::manager::{Manager, StartOptions, StopOptions};

use super::{Done, Given, foreground, is_detached, manager_given, names, outcome, results};
use crate::cli::{Format, StartArgs};
use crate::output::{note, progress};

pub(super) async fn run(args: &StartArgs, restart: bool) -> Done {
    let manager = manager_given(Given::password(&args.password)?)?;
    let options = options(args);
    let Some(name) = &args.name else {
        return several(&manager, args, restart).await;
    };
    let name = WorkloadName::new(name.as_str())?;
    let done = if restart {
        progress::during(
            "restarting",
            Box::pin(manager.restart(&name, StopOptions::default(), options)),
        )
        .await
    } else {
        progress::during("starting", Box::pin(manager.start(&name, options))).await
    };
    outcome::write_result(name.as_str(), done, args.format)
}

async fn several(manager: &Manager, args: &StartArgs, restart: bool) -> Done {
    let names = names::startable(manager, args.group.as_ref(), args.take_over).await?;
    let verb = if restart { "Restarting" } else { "Starting" };
    if args.format == Format::Text {
        for name in &names {
            note(&format!("{verb} {name}..."));
        }
    }
    let results = if restart {
        let batch = manager.restart_all(names, StopOptions::default(), options(args));
        progress::during_batch("restarting", batch).await
    } else {
        progress::during_batch("starting", manager.start_all(names, options(args))).await
    };
    let code = results::write(&results, results::Whom::Ours, args.format, outcome::object)?;
    if args.format == Format::Text {
        let failed = results.iter().filter(|one| one.result.is_err()).count();
        let verb = if restart { "Restart" } else { "Start" };
        note(&format!(
            "{verb} summary: {} succeeded, {failed} failed",
            results.len() - failed
        ));
    }
    Ok(code)
}

/// In the foreground: for a user, or as the detached proxy that a launcher started with a socket on standard input.
pub(super) async fn foreground(args: &StartArgs, restart: bool) -> Done {
    let text = args.name.as_deref().unwrap_or_default();
    let name = WorkloadName::new(text)?;
    let manager = manager_given(Given::password(&args.password)?)?;
    if is_detached() {
        foreground::until_signal(|cancel| manager.run_detached_child(&name, cancel)).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if restart {
        manager.stop(&name, StopOptions::default()).await?;
    }
    let end = foreground::until_signal(|cancel| {
        Box::pin(manager.start_foreground(&name, options(args), cancel, |up| {
            // What cannot be written to a closed terminal is not worth ending the server for.
            let _ = outcome::write(&up, args.format);
        }))
    })
    .await?;
    Ok(foreground::write(text, end))
}

fn options(args: &StartArgs) -> StartOptions {
    StartOptions {
        wait: outcome::wait_for(&args.wait),
        take_over: args.take_over,
    }
}
