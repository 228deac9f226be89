//! The suite that every [`Runtime`] passes.
//!
//! An implementor describes in a [`Fixture`] how to get a runtime and what to deploy for each [`Server`], and
//! calls [`run`] from `tests/contract.rs`. Each promise is a function in [`promises`]; one that the runtime's
//! capabilities or the fixture leave out is in [`Report::skipped`]. A broken promise panics with its name, after
//! all were checked and what the suite made was removed.

mod bench;
mod dropped;
mod events;
pub mod promises;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, stream};
use thv_core::WorkloadName;

pub use bench::Bench;

use crate::{DeploySpec, Runtime};

/// What [`Server::Echo`], [`Server::IgnoresTerm`] and [`Server::Http`] write to standard error first.
pub const READY_LINE: &str = "thv-contract ready";

/// What [`Server::ExitsAtOnce`] writes to standard error before it ends with [`EXIT_CODE`].
pub const LAST_WORDS: &str = "thv-contract last words";

/// How [`Server::ExitsAtOnce`] ends.
pub const EXIT_CODE: i64 = 3;

/// The servers that the suite deploys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Server {
    /// Stdio: writes [`READY_LINE`] to standard error, sends each line of its input back, ends with 0 at its end
    /// (`echo 'thv-contract ready' >&2; exec cat`).
    Echo,
    /// As `Echo`, but ignores SIGTERM.
    IgnoresTerm,
    /// Stdio: writes [`LAST_WORDS`] to standard error and ends with [`EXIT_CODE`].
    ExitsAtOnce,
    /// HTTP: writes [`READY_LINE`] to standard error and runs until SIGTERM. `target` is set, on a free port. It
    /// need not listen.
    Http,
    /// A program or image that does not exist.
    Missing,
}

/// How the suite gets a runtime and what to deploy on it.
pub trait Fixture: fmt::Debug + Send + Sync {
    /// A runtime; the same backing each time.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// Another value over the same backing, as another process would make it; `None` when there is no such thing.
    fn second(&self) -> Option<Arc<dyn Runtime>> {
        None
    }

    /// What to deploy; `None` when the runtime cannot have such a server.
    fn spec(&self, name: WorkloadName, server: Server) -> Option<DeploySpec>;

    /// Another image or program under which [`Server::Echo`] runs; `None` when there is no such thing.
    fn another_image(&self) -> Option<String> {
        None
    }

    /// A name that the runtime cannot take.
    fn refused_name(&self) -> Option<WorkloadName> {
        None
    }
}

/// What the suite did.
#[derive(Debug, Default)]
pub struct Report {
    /// The promises that held.
    pub held: Vec<&'static str>,
    /// The promises that do not apply, with the reason.
    pub skipped: Vec<(&'static str, String)>,
}

/// A promise does not apply, because.
#[derive(Debug)]
pub struct Skip(pub(crate) String);

/// Whether a promise applied.
pub type Outcome = std::result::Result<(), Skip>;

/// How many promises are checked at a time: each mostly waits, and a runtime serves several workloads at once anyway.
const AT_A_TIME: usize = 6;

/// Checks every promise, each with workloads of its own.
///
/// # Panics
/// With the name of a promise that is broken, after all were checked.
pub async fn run(fixture: &dyn Fixture) -> Report {
    macro_rules! checks {
        ($($promise:ident),* $(,)?) => {[$(
            async {
                let bench = Bench::new(fixture, stringify!($promise));
                let outcome = AssertUnwindSafe(promises::$promise(&bench)).catch_unwind().await;
                bench.clean_up().await;
                (stringify!($promise), outcome)
            }
            .boxed(),
        )*]};
    }
    // Those that take longest first, so that none is left alone in the end.
    let checks = checks![
        a_dropped_deploy_is_healed,
        a_dropped_remove_is_healed,
        a_different_instance_is_replaced,
        a_dropped_stop_does_not_reach_the_next_deploy,
        a_dropped_remove_does_not_reach_the_next_deploy,
        a_dropped_stop_is_healed,
        a_dropped_attach_is_healed,
        answers_a_ping,
        nothing_is_there_before_a_deploy,
        a_deployed_instance_is_inspected_and_listed,
        stop_and_remove_are_safe_to_repeat,
        expecting_absence_conflicts_with_what_is_there,
        of_deploys_at_once_one_makes_the_instance,
        expecting_an_instance_conflicts_with_absence,
        a_wrong_id_is_a_conflict_and_nothing_is_done,
        an_identical_instance_is_reused,
        lines_go_round_through_an_attachment,
        one_attachment_at_a_time,
        a_dropped_attachment_ends_the_server,
        attach_refuses_what_does_not_run,
        a_server_that_ignores_sigterm_is_stopped_in_time,
        standard_error_is_in_the_logs,
        private_output_is_for_who_attaches_alone,
        logs_follow_until_removal,
        events_tell_the_life_of_an_instance,
        events_of_one_workload_are_no_other_ones,
        a_server_that_exits_at_once_is_reported,
        a_missing_image_leaves_nothing,
        values_of_the_environment_are_in_no_view,
        what_cannot_be_enforced_is_refused,
        a_refused_name_touches_nothing,
        a_second_value_sees_and_acts,
    ];
    let mut checked = stream::iter(checks).buffer_unordered(AT_A_TIME);
    let mut report = Report::default();
    let mut broken = None;
    while let Some((promise, outcome)) = checked.next().await {
        match outcome {
            Ok(Ok(())) => report.held.push(promise),
            Ok(Err(Skip(why))) => report.skipped.push((promise, why)),
            Err(panic) => {
                tracing::error!(promise, "broken promise");
                broken.get_or_insert(panic);
            }
        }
    }
    if let Some(panic) = broken {
        std::panic::resume_unwind(panic);
    }
    report
}
