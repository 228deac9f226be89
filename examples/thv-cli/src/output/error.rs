//! Errors for people.

use std::error::Error;

use thv::core::Json;

use super::json::Object;

/// The message and its causes on one line; a cause that the message says already is left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// What the manager said, with the last lines of a server that failed.
pub(crate) fn report(error: &thv::manager::Error) -> String {
    let mut text = chain(error);
    if let thv::manager::Error::StartFailed { last_lines, .. } = error
        && !last_lines.is_empty()
    {
        text.push_str("\n  its last lines:");
        for line in last_lines {
            text.push_str("\n    ");
            text.extend(
                line.chars()
                    .map(|c| if c.is_control() && c != '\t' { ' ' } else { c }),
            );
        }
    }
    text
}

/// The line for one workload of several: its name stands in it once.
pub(crate) fn of_workload(name: &str, error: &thv::manager::Error) -> String {
    let text = report(error);
    if text.contains(&format!("\"{name}\"")) {
        format!("Error: {text}")
    } else {
        format!("Error: {name}: {text}")
    }
}

/// The same for programs.
pub(crate) fn object(error: &thv::manager::Error) -> Json {
    Object::default()
        .with("code", error.code())
        .with("message", chain(error))
        .into()
}
