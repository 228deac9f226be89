//! `thv run`.

use std::path::Path;
use std::process::ExitCode;

use thv::core::{RunConfig, RunConfigError};
use thv::manager::{Error, ForegroundOptions, RunOptions, RunOutcome};

use super::{Done, Failure, foreground, here, manager, outcome, questions};
use crate::cli::RunArgs;
use crate::output::progress;

pub(super) async fn run(args: &RunArgs, debug: bool) -> Done {
    let manager = manager()?;
    let options = RunOptions {
        wait: outcome::wait_for(&args.wait),
        replace: args.replace,
    };
    let done = if let Some(path) = &args.from_config {
        let config = read_config(path).await?;
        progress::during(
            "starting",
            Box::pin(manager.run_config(config, args.explicit_runtime(), options)),
        )
        .await
    } else {
        let request = questions::completed(&manager, args.request(debug), args.accept_permissions).await?;
        let what = format!("starting {}", request.server);
        progress::during(&what, Box::pin(manager.run(request, options))).await
    };
    outcome::write(&done.map_err(taken)?, args.format)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn foreground(args: &RunArgs, debug: bool) -> Done {
    let options = ForegroundOptions {
        keep: args.keep,
        replace: args.replace,
    };
    let mut name = String::new();
    let mut told = |up: &RunOutcome| {
        up.name.as_str().clone_into(&mut name);
        // What cannot be written to a closed terminal is not worth ending the server for.
        let _ = outcome::write(up, args.format);
    };
    let end = if let Some(path) = &args.from_config {
        let config = read_config(path).await?;
        let (named, runtime) = (config.name.clone(), args.explicit_runtime());
        let end = foreground::until_signal(|cancel| {
            Box::pin(here::run_config(config, runtime, options, cancel, &mut told))
        });
        let end = end.await?;
        name = named;
        end
    } else {
        let manager = manager()?;
        let request = questions::completed(&manager, args.request(debug), args.accept_permissions).await?;
        let named = request.name.clone().unwrap_or_default();
        let end = foreground::until_signal(|cancel| {
            Box::pin(manager.run_foreground(request, options, cancel, |up| told(&up)))
        });
        let end = end.await.map_err(taken)?;
        if name.is_empty() {
            name = named;
        }
        end
    };
    Ok(foreground::write(&name, end))
}

/// What can be done about a name that is taken is said by those who know the flags.
fn taken(error: Error) -> Failure {
    match error {
        Error::AlreadyExists { name, hint } if hint.is_empty() => Failure::new(format!(
            "workload with name \"{name}\" already exists; \"thv start {name}\" starts it, --replace replaces it"
        )),
        other => other.into(),
    }
}

async fn read_config(path: &Path) -> Result<RunConfig, Failure> {
    let shown = path.display();
    let bytes = tokio::fs::read(path)
        .await
        .map_err(|error| Failure::new(format!("cannot read {shown}: {error}")))?;
    RunConfig::from_json(&bytes)
        .map_err(|error: RunConfigError| Failure::new(format!("{shown} is not a run configuration: {error}")))
}
