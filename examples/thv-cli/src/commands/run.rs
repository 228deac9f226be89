//! `thv run`.

use std::path::Path;

use thv::core::{MAX_DOCUMENT_SIZE, RunConfig, RunConfigError};
use thv::manager::{ForegroundOptions, ImageTerms, RunOptions, RunOutcome};
use tokio::io::AsyncReadExt as _;

use super::{Done, Failure, Given, foreground, here, manager_given, outcome, password, questions};
use crate::cli::RunArgs;
use crate::output::progress;

pub(super) async fn run(args: &RunArgs, debug: bool) -> Done {
    let manager = manager_given(given(args).await?)?;
    let options = RunOptions {
        wait: outcome::wait_for(&args.wait),
        replace: args.replace,
        image: terms(args),
    };
    let (name, done) = if let Some(path) = args.config_file() {
        let config = read_config(path).await?;
        let name = config.name.clone();
        let run = Box::pin(manager.run_config(config, args.explicit_runtime(), options));
        (name, progress::during("starting", run).await)
    } else {
        let request = questions::completed(&manager, args.request(debug), args.accept_permissions).await?;
        let name = request.name.clone().unwrap_or_default();
        let what = format!("starting {}", request.server);
        let run = Box::pin(manager.run(request, options));
        (name, progress::during(&what, run).await)
    };
    outcome::write_result(&name, done, args.format)
}

pub(super) async fn foreground(args: &RunArgs, debug: bool) -> Done {
    let options = ForegroundOptions {
        keep: args.keep,
        replace: args.replace,
        image: terms(args),
    };
    let given = given(args).await?;
    let mut name = String::new();
    let mut told = |up: &RunOutcome| {
        up.name.as_str().clone_into(&mut name);
        // What cannot be written to a closed terminal is not worth ending the server for.
        let _ = outcome::write(up, args.format);
    };
    let end = if let Some(path) = args.config_file() {
        let config = read_config(path).await?;
        let (named, runtime) = (config.name.clone(), args.explicit_runtime());
        let end = foreground::until_signal(|cancel| {
            let run = here::Run {
                config,
                runtime,
                options,
                given,
            };
            Box::pin(here::run_config(run, cancel, &mut told))
        });
        let end = end.await?;
        name = named;
        end
    } else {
        let manager = manager_given(given)?;
        let request = questions::completed(&manager, args.request(debug), args.accept_permissions).await?;
        let named = request.name.clone().unwrap_or_default();
        let end = foreground::until_signal(|cancel| {
            Box::pin(manager.run_foreground(request, options, cancel, |up| told(&up)))
        });
        let end = end.await?;
        if name.is_empty() {
            name = named;
        }
        end
    };
    Ok(foreground::write(&name, end))
}

/// Which image may run.
fn terms(args: &RunArgs) -> ImageTerms {
    ImageTerms {
        policy: args.image_verification,
        ..ImageTerms::default()
    }
}

async fn given(args: &RunArgs) -> Result<Given, Failure> {
    Ok(Given {
        password: password::given(&args.password)?,
        ca_certificates: ca_certificates(args.ca_cert.as_deref()).await?,
    })
}

/// More certificates than a system has.
const MAX_CERTIFICATES: u64 = 4 << 20;

/// The certificates in the file that was named, if one was.
pub(super) async fn ca_certificates(path: Option<&Path>) -> Result<Option<Vec<u8>>, Failure> {
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(None);
    };
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!(
            "cannot read the certificates in {}: {error}",
            path.display()
        ))
    };
    let size = tokio::fs::metadata(path).await.map_err(|error| failed(&error))?;
    if !size.is_file() || size.len() > MAX_CERTIFICATES {
        return Err(failed(&"it is not a file of certificates"));
    }
    let bytes = tokio::fs::read(path).await.map_err(|error| failed(&error))?;
    Ok(Some(bytes))
}

async fn read_config(path: &Path) -> Result<RunConfig, Failure> {
    let shown = path.display();
    let failed = |error| Failure::new(format!("cannot read {shown}: {error}"));
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    // It may be a pipe, or without end.
    let mut bytes = Vec::new();
    let mut document = file.take(MAX_DOCUMENT_SIZE as u64 + 1);
    document.read_to_end(&mut bytes).await.map_err(failed)?;
    RunConfig::from_json(&bytes)
        .map_err(|error: RunConfigError| Failure::new(format!("{shown} is not a run configuration: {error}")))
}
