//! `thv run`.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;

use thv::core::{RunConfig, RunConfigError};
use thv::manager::{ForegroundOptions, RunOptions, RunRequest};

use super::{Done, Failure, foreground, manager, outcome};
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
        .await?
    } else {
        let request = request(args, debug).await?;
        let what = format!("starting {}", request.server);
        progress::during(&what, Box::pin(manager.run(request, options))).await?
    };
    outcome::write(&done, args.format)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn foreground(args: &RunArgs, debug: bool) -> Done {
    if args.from_config.is_some() {
        return Err(Failure::new(
            "--from-config with --foreground is not built yet: leave one of them out",
        ));
    }
    let manager = manager()?;
    let request = request(args, debug).await?;
    let options = ForegroundOptions {
        keep: args.keep,
        replace: args.replace,
    };
    let mut name = request.name.clone().unwrap_or_default();
    let end = foreground::until_signal(|cancel| {
        Box::pin(manager.run_foreground(request, options, cancel, |up| {
            up.name.as_str().clone_into(&mut name);
            // What cannot be written to a closed terminal is not worth ending the server for.
            let _ = outcome::write(&up, args.format);
        }))
    })
    .await?;
    Ok(foreground::write(&name, end))
}

/// A host name is looked up here: the manager binds addresses.
async fn request(args: &RunArgs, debug: bool) -> Result<RunRequest, Failure> {
    let mut request = args.request(debug);
    let Some(host) = request.host.clone() else {
        return Ok(request);
    };
    if host.parse::<std::net::IpAddr>().is_ok() || host == "localhost" {
        return Ok(request);
    }
    let found = tokio::net::lookup_host((host.as_str(), 0))
        .await
        .map_err(|error| Failure::new(format!("cannot look up --host \"{host}\": {error}")))?;
    let address: Option<Ipv4Addr> = found.into_iter().find_map(|address| match address.ip() {
        std::net::IpAddr::V4(address) => Some(address),
        std::net::IpAddr::V6(_) => None,
    });
    request.host = Some(
        address
            .ok_or_else(|| Failure::new(format!("--host \"{host}\" has no IPv4 address")))?
            .to_string(),
    );
    Ok(request)
}

async fn read_config(path: &Path) -> Result<RunConfig, Failure> {
    let shown = path.display();
    let bytes = tokio::fs::read(path)
        .await
        .map_err(|error| Failure::new(format!("cannot read {shown}: {error}")))?;
    RunConfig::from_json(&bytes)
        .map_err(|error: RunConfigError| Failure::new(format!("{shown} is not a run configuration: {error}")))
}
