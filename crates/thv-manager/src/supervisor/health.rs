//! How a remote server is watched: the numbers, from the environment.

use std::time::Duration;

use thv_core::Env;
use thv_core::gojson::GoDuration;

/// When and how often a remote server is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Health {
    /// `TOOLHIVE_REMOTE_HEALTHCHECKS=false` switches it off.
    pub(super) enabled: bool,
    /// `TOOLHIVE_HEALTH_CHECK_INTERVAL`: from one look to the next.
    pub(super) interval: Duration,
    /// `TOOLHIVE_HEALTH_CHECK_RETRY_DELAY`: how soon a look that failed is repeated.
    pub(super) retry_delay: Duration,
    /// `TOOLHIVE_HEALTH_CHECK_PING_TIMEOUT`: how long a look may take.
    pub(super) timeout: Duration,
    /// `TOOLHIVE_HEALTH_CHECK_FAILURE_THRESHOLD`: how many in a row make it unhealthy.
    pub(super) threshold: u32,
}

impl Health {
    pub(super) fn from_env(env: &Env) -> Self {
        let duration = |name: &str, default: u64| {
            let default = Duration::from_secs(default);
            let Some(text) = env.non_empty(name) else {
                return default;
            };
            let parsed = text.parse::<GoDuration>().ok().and_then(GoDuration::to_std);
            parsed.filter(|duration| !duration.is_zero()).unwrap_or_else(|| {
                tracing::warn!(variable = name, "not a duration above zero, the default is used");
                default
            })
        };
        let threshold = "TOOLHIVE_HEALTH_CHECK_FAILURE_THRESHOLD";
        Self {
            enabled: !matches!(
                env.get("TOOLHIVE_REMOTE_HEALTHCHECKS"),
                Some("0" | "false" | "False" | "FALSE")
            ),
            interval: duration("TOOLHIVE_HEALTH_CHECK_INTERVAL", 10),
            retry_delay: duration("TOOLHIVE_HEALTH_CHECK_RETRY_DELAY", 5),
            timeout: duration("TOOLHIVE_HEALTH_CHECK_PING_TIMEOUT", 5),
            threshold: env
                .non_empty(threshold)
                .and_then(|text| text.parse().ok())
                .filter(|n| *n > 0)
                .unwrap_or(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_how_often_and_nonsense_changes_nothing() {
        let default = Health::from_env(&Env::default());
        assert_eq!(
            (default.enabled, default.interval, default.threshold),
            (true, Duration::from_secs(10), 5)
        );
        let env = Env::from_vars([
            ("TOOLHIVE_HEALTH_CHECK_INTERVAL", "250ms"),
            ("TOOLHIVE_HEALTH_CHECK_RETRY_DELAY", "soon"),
            ("TOOLHIVE_HEALTH_CHECK_FAILURE_THRESHOLD", "0"),
            ("TOOLHIVE_REMOTE_HEALTHCHECKS", "false"),
        ]);
        let health = Health::from_env(&env);
        assert_eq!(health.interval, Duration::from_millis(250));
        assert_eq!(
            (health.retry_delay, health.threshold),
            (default.retry_delay, default.threshold)
        );
        assert!(!health.enabled);
    }
}
