//! The numbers that the environment may set, read once for all workloads of a manager.

use std::time::Duration;

use thv_core::{Env, InvalidVariable};
use thv_runtime::LogRotation;

use crate::supervisor::Health;

/// How long a request may take; a Go duration.
const REQUEST_TIMEOUT: &str = "TOOLHIVE_PROXY_REQUEST_TIMEOUT";
/// Largest request body and longest line of a server, in bytes, where the run configuration says nothing.
const MAX_BODY: &str = "TOOLHIVE_PROXY_MAX_BODY_BYTES";
const MAX_LINE: &str = "TOOLHIVE_PROXY_MAX_LINE_BYTES";

/// `None`: as the proxy has it.
#[derive(Debug, Default)]
pub(crate) struct Tuning {
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) max_body: Option<usize>,
    pub(crate) max_line: Option<usize>,
    pub(crate) log_rotation: LogRotation,
    pub(crate) health: Health,
    /// Which variables of ToolHive's have no value that means something. It goes on with the default then, and says so.
    pub(crate) warnings: Vec<String>,
}

impl Tuning {
    /// What `env` says.
    ///
    /// # Errors
    /// When a variable of ours is no such number.
    pub(crate) fn from_env(env: &Env) -> Result<Self, InvalidVariable> {
        let bytes = |variable| {
            let bytes = env.number(variable, 1..=i64::MAX.unsigned_abs())?;
            Ok(bytes.and_then(|bytes| usize::try_from(bytes).ok()))
        };
        let mut warnings = Vec::new();
        Ok(Self {
            max_body: bytes(MAX_BODY)?,
            max_line: bytes(MAX_LINE)?,
            log_rotation: LogRotation::from_env(env)?,
            request_timeout: or_default(env.duration(REQUEST_TIMEOUT), &mut warnings),
            health: Health::from_env(env, &mut warnings),
            warnings,
        })
    }
}

/// The value of one of ToolHive's variables; where it is none, that is said in `warnings`.
pub(crate) fn or_default<T>(
    value: Result<Option<T>, InvalidVariable>,
    warnings: &mut Vec<String>,
) -> Option<T> {
    value.unwrap_or_else(|invalid| {
        warnings.push(format!("{invalid}; the default is used"));
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_ours_that_is_none_is_an_error_and_one_of_toolhives_a_warning() {
        for variable in [
            MAX_BODY,
            MAX_LINE,
            "TOOLHIVE_LOG_MAX_SIZE",
            "TOOLHIVE_LOG_MAX_FILES",
        ] {
            for value in ["much", "0", "-1"] {
                let error = Tuning::from_env(&Env::from_vars([(variable, value)])).unwrap_err();
                assert_eq!(error.variable, variable);
            }
        }
        let tuning = Tuning::from_env(&Env::from_vars([(MAX_BODY, "1000"), (REQUEST_TIMEOUT, "soon")]));
        let tuning = tuning.unwrap();
        assert_eq!((tuning.max_body, tuning.request_timeout), (Some(1000), None));
        let [warning] = &tuning.warnings[..] else {
            panic!("{:?}", tuning.warnings);
        };
        assert!(
            warning.starts_with(&format!("{REQUEST_TIMEOUT} is \"soon\": ")),
            "{warning}"
        );
        assert!(warning.ends_with("; the default is used"), "{warning}");
    }
}
