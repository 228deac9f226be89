//! How a server that speaks HTTP is watched: the numbers, from the environment, and what they mean.

use std::fmt::Display;
use std::time::Duration;

use thv_core::Env;
use thv_process::Processes;
use tokio::time::Instant;

use crate::tuning::or_default;

/// When and how often a server is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
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

impl Default for Health {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(10),
            retry_delay: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            threshold: 5,
        }
    }
}

impl Health {
    /// What `env` says, and the default where that means nothing, as ToolHive has it.
    pub(crate) fn from_env(env: &Env, warnings: &mut Vec<String>) -> Self {
        let default = Self::default();
        let mut duration = |name, default| or_default(env.duration(name), warnings).unwrap_or(default);
        let interval = duration("TOOLHIVE_HEALTH_CHECK_INTERVAL", default.interval);
        let retry_delay = duration("TOOLHIVE_HEALTH_CHECK_RETRY_DELAY", default.retry_delay);
        let timeout = duration("TOOLHIVE_HEALTH_CHECK_PING_TIMEOUT", default.timeout);
        let threshold = env.number("TOOLHIVE_HEALTH_CHECK_FAILURE_THRESHOLD", 1..=u32::MAX.into());
        let threshold = or_default(threshold, warnings).and_then(|number| u32::try_from(number).ok());
        Self {
            enabled: !matches!(
                env.get("TOOLHIVE_REMOTE_HEALTHCHECKS"),
                Some("0" | "false" | "False" | "FALSE")
            ),
            interval,
            retry_delay,
            timeout,
            threshold: threshold.unwrap_or(default.threshold),
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
        let (default, mut warnings) = (Health::default(), Vec::new());
        assert_eq!(Health::from_env(&Env::default(), &mut warnings), default);
        assert_eq!(warnings, [""; 0]);
        let env = Env::from_vars([
            ("TOOLHIVE_HEALTH_CHECK_INTERVAL", "250ms"),
            ("TOOLHIVE_HEALTH_CHECK_RETRY_DELAY", "soon"),
            ("TOOLHIVE_HEALTH_CHECK_FAILURE_THRESHOLD", "0"),
            ("TOOLHIVE_REMOTE_HEALTHCHECKS", "false"),
        ]);
        let health = Health::from_env(&env, &mut warnings);
        for (warning, said) in warnings
            .iter()
            .zip(["RETRY_DELAY is \"soon\"", "THRESHOLD is \"0\""])
        {
            assert!(warning.contains(said), "{warning}");
        }
        assert_eq!(warnings.len(), 2);
        assert_eq!(health.interval, Duration::from_millis(250));
        assert_eq!(
            (health.retry_delay, health.threshold),
            (default.retry_delay, default.threshold)
        );
        assert!(!health.enabled);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_looks_in_a_row_fail_each_of_them_twice() {
        let health = Health::default();
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
