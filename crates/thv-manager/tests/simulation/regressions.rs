//! Histories that once failed, as small as they get.

use std::time::Duration;

use crate::history::{History, NAMES, Program, Step, Verb};
use crate::machine;
use crate::mortal::Fault;

fn step(after: u64, verb: Verb, fault: Option<(usize, Fault)>) -> Step {
    Step {
        after: Duration::from_millis(after),
        verb,
        name: NAMES[0],
        fault,
        proxy_fault: None,
        slow_read: None,
    }
}

fn application(steps: Vec<Step>) -> Program {
    Program { apart: false, steps }
}

#[track_caller]
fn assert_sound(programs: impl Into<Vec<Vec<Step>>>) {
    let history = History {
        seed: 0,
        programs: programs.into().into_iter().map(application).collect(),
        reboot: false,
    };
    assert_eq!(machine::happens(&history), Ok(()));
}

/// A supervisor was killed and left its instance; then the other program wrote that the workload is stopped. `reconcile`
/// took its word for it.
#[test]
fn an_instance_left_under_a_foreign_stop_is_stopped() {
    assert_sound([
        vec![step(20, Verb::Replace, Some((16, Fault::Crash)))],
        vec![step(4_000, Verb::ToolHiveStops, None)],
    ]);
}

/// A replacement failed before it had ended what it was to replace, and was taken back: that went on, and was recorded as
/// stopped.
#[test]
fn what_was_not_replaced_is_not_recorded_as_stopped() {
    assert_sound([
        vec![step(4_000, Verb::Replace, Some((3, Fault::Fail)))],
        vec![step(300, Verb::Run, None)],
    ]);
}

/// A deployment was cut off before it was recorded, and a verb that came by took in a stop of the other program: the
/// instance ran, and nothing said so.
#[test]
fn an_instance_that_nobody_recorded_is_stopped() {
    let delay = Fault::Delay(Duration::from_secs(40));
    assert_sound([
        vec![step(1, Verb::Start, Some((7, delay)))],
        vec![
            step(0, Verb::Replace, Some((13, Fault::Crash))),
            step(4_000, Verb::ToolHiveStops, None),
        ],
    ]);
}

/// A replacement came by while a restart had its server down, failed, and was taken back to what was desired at that
/// moment. What gives way is to run again.
#[test]
fn what_is_taken_back_in_a_restart_runs() {
    assert_sound([
        vec![step(0, Verb::Run, None)],
        vec![step(20, Verb::Restart, None)],
        vec![step(20, Verb::Replace, Some((14, Fault::Fail)))],
    ]);
}

/// A restart that had waited for an update was killed: its journal entry was for the configuration before, so that it was
/// dropped, and the workload stayed stopped.
#[test]
fn a_restart_after_an_update_is_for_the_new_configuration() {
    assert_sound([
        vec![step(0, Verb::Replace, None), step(0, Verb::Update, None)],
        vec![step(0, Verb::Restart, Some((10, Fault::Crash)))],
    ]);
}
