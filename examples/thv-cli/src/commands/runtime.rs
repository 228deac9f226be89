//! `thv runtime check`.

use std::process::ExitCode;
use std::time::Duration;

use thv::runtime::RuntimeKind;

use super::{Done, Failure, manager};
use crate::cli::{Format, RuntimeCommand};
use crate::output::{self, json, progress};

pub(super) async fn run(command: &RuntimeCommand) -> Done {
    let RuntimeCommand::Check {
        timeout,
        runtime,
        format,
    } = command;
    let manager = manager()?;
    let runtimes = manager.runtimes();
    let kind = match runtime {
        Some(kind) => RuntimeKind::new(kind.as_str()),
        None => runtimes
            .default_kind()
            .cloned()
            .ok_or_else(|| Failure::new("no runtime is configured"))?,
    };
    let asked = runtimes.get(&kind).map_err(thv::manager::Error::from)?;
    let answer = tokio::time::timeout(Duration::from_secs(*timeout), asked.ping());
    match progress::during("asking the runtime", answer).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(thv::manager::Error::from(error).into()),
        Err(_) => {
            return Err(Failure::new(format!(
                "runtime \"{kind}\" did not answer within {timeout} s"
            )));
        }
    }
    match format {
        Format::Text if asked.images().is_some() => output::print("Container runtime is responsive\n")?,
        Format::Text => output::print(&format!("Runtime {kind} is responsive\n"))?,
        Format::Json => {
            json::print(
                &json::Object::default()
                    .with("runtime", kind.as_str())
                    .with("responsive", true)
                    .into(),
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
