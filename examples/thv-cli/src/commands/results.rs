//! What came of a verb for several names.

use std::process::ExitCode;

use thv::core::Json;
use thv::manager::{BatchResult, Error};

use super::Done;
use crate::cli::Format;
use crate::output::{error, json, note};

/// For whom a verb was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// For these names.
    Named,
    /// For all that are ours, or those of a group: what is not ours is left out, and said, and so is what was removed since
    /// they were looked up.
    Ours,
}

impl Whom {
    pub(super) fn of(names: &[String]) -> Self {
        if names.is_empty() { Self::Ours } else { Self::Named }
    }

    fn leaves_out(self, error: &Error) -> bool {
        self == Self::Ours && matches!(error, Error::AnotherInstallation { .. } | Error::NotFound { .. })
    }
}

/// A line for each name that failed or was left out, or an object for every name; the exit code is 1 if one failed.
pub(super) fn write<T>(
    results: &[BatchResult<T>],
    whom: Whom,
    format: Format,
    outcome: impl Fn(&T) -> json::Object,
) -> Done {
    if format == Format::Json {
        let objects = results.iter().map(|one| {
            Json::from(match &one.result {
                Ok(done) => json::Object::default()
                    .with("name", one.name.as_str())
                    .with("ok", true)
                    .with("result", outcome(done)),
                Err(error) if whom.leaves_out(error) => failed(&one.name, error).with("left_out", true),
                Err(error) => failed(&one.name, error),
            })
        });
        json::print(&objects.collect())?;
    }
    let mut has_failed = false;
    for one in results {
        match &one.result {
            Ok(_) => {}
            Err(error) if whom.leaves_out(error) => {
                note(&error::left_out(&one.name, error));
            }
            Err(error) => {
                has_failed = true;
                note(&error::of_workload(&one.name, error));
            }
        }
    }
    Ok(if has_failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What a verb for the workload `name` failed with, for programs.
pub(super) fn failed(name: &str, error: &Error) -> json::Object {
    json::Object::default()
        .with_text("name", name)
        .with("ok", false)
        .with("error", error::object(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_or_gone_fails_only_whom_it_was_asked_for() {
        let result = |result| BatchResult {
            name: "theirs".into(),
            result,
        };
        let theirs = || Error::AnotherInstallation {
            name: "theirs".into(),
            detail: "its instance is theirs".into(),
        };
        let missing = || Error::NotFound {
            name: "theirs".into(),
        };
        for (whom, error, succeeds) in [
            (Whom::Named, theirs(), false),
            (Whom::Ours, theirs(), true),
            (Whom::Named, missing(), false),
            (Whom::Ours, missing(), true),
        ] {
            let text = error.to_string();
            let results = [result(Err::<(), _>(error))];
            let code = write(&results, whom, Format::Text, |()| json::Object::default()).expect("it is said");
            let expected = if succeeds {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
            assert_eq!(format!("{code:?}"), format!("{expected:?}"), "{whom:?} {text}");
        }
        assert_eq!(Whom::of(&[]), Whom::Ours);
        assert_eq!(Whom::of(&["theirs".into()]), Whom::Named);
    }
}
