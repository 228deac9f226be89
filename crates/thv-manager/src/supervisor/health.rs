//! How a server that speaks HTTP is watched: the numbers, from the environment, and what they mean.

use std::fmt::Display;
use std::time::Duration;

use thv_core::Env;
use thv_core::gojson::GoDuration;
use thv_process::Processes;
use tokio::time::Instant;

/// When and how often a server is looked at.
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
    /// `TOOLHIVE_HEALTH_CHECK_FAILURE_THRESHOLD`: how many in a row, each repeated, make it unhealthy.
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
            threshold: env.non_empty(threshold).map_or(5, |text| {
                let parsed = text.parse().ok().filter(|number| *number > 0);
                parsed.unwrap_or_else(|| {
                    tracing::warn!(
                        variable = threshold,
                        "not a number above zero, the default is used"
                    );
                    5
                })
            }),
        }
    }

    /// Looks again and again until so many looks in a row have failed, and their repetitions too; what was wrong with the
    /// last. Waits with the machine's timer: a proxy that is idle otherwise is woken up once for each look, and once more
    /// by the answer. Cancel-safe.
    pub(super) async fn watch<E, F>(&self, machine: &dyn Processes, look: impl Fn() -> F) -> E
    where
        E: Display,
        F: Future<Output = Result<(), E>>,
    {
        let mut failures = 0;
        let mut last = Instant::now();
        loop {
            // A look that took longer than the interval is followed by one at once, and not by several.
            machine.sleep(self.interval.saturating_sub(last.elapsed())).await;
            last = Instant::now();
            let mut looked = look().await;
            if looked.is_err() {
                machine.sleep(self.retry_delay.min(self.interval)).await;
                looked = look().await;
            }
            let Err(error) = looked else {
                failures = 0;
                continue;
            };
            failures += 1;
            tracing::warn!(%error, failures, "the server does not answer");
            if failures >= self.threshold {
                return error;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::Mutex;

    use thv_process::MemoryProcesses;

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

    #[tokio::test(start_paused = true)]
    async fn so_many_looks_in_a_row_fail_each_of_them_twice() {
        let health = Health::from_env(&Env::default());
        let machine = MemoryProcesses::new();
        let (began, looks) = (Instant::now(), Mutex::new(Vec::new()));
        // Of the first three looks and their repetitions one repetition succeeds.
        let answers = Mutex::new([false, false, false, false, false, true].into_iter());
        let error = health.watch(&machine, || {
            looks.lock().unwrap().push(began.elapsed().as_secs());
            let well = answers.lock().unwrap().next().unwrap_or(false);
            ready(well.then_some(()).ok_or("it is away"))
        });
        assert_eq!(error.await, "it is away");
        let looks = looks.into_inner().unwrap();
        let expected = (1..=8).flat_map(|tick| [10 * tick, 10 * tick + 5]);
        assert_eq!(looks, expected.collect::<Vec<u64>>());
    }
}
