//! What came of a verb for several names.

use std::process::ExitCode;

use thv::core::Json;
use thv::manager::BatchResult;

use super::Done;
use crate::cli::Format;
use crate::output::{error, json, note};

/// A line for each name that failed, or an object for every name; the exit code is 1 if one failed.
pub(super) fn write<T>(
    results: &[BatchResult<T>],
    format: Format,
    outcome: impl Fn(&T) -> json::Object,
) -> Done {
    if format == Format::Json {
        let objects = results.iter().map(|one| {
            let named = json::Object::default().with("name", one.name.as_str());
            Json::from(match &one.result {
                Ok(done) => named.with("ok", true).with("result", outcome(done)),
                Err(error) => named.with("ok", false).with("error", error::object(error)),
            })
        });
        json::print(&objects.collect())?;
    }
    let mut failed = false;
    for one in results {
        if let Err(error) = &one.result {
            failed = true;
            note(&error::of_workload(&one.name, error));
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
