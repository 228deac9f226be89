//! Histories that once failed, as small as they get.

use std::time::Duration;

use crate::history::{History, Step, Verb};
use crate::machine;
use crate::mortal::Fault;

/// A supervisor was killed and left its instance; then the other program wrote that the workload is stopped. `reconcile`
/// took its word for it.
#[test]
fn an_instance_left_under_a_foreign_stop_is_stopped() {
    let step = |after, verb, fault| Step {
        after: Duration::from_millis(after),
        verb,
        name: "other",
        fault,
    };
    let history = History {
        seed: 1_118,
        programs: vec![
            vec![step(20, Verb::Replace, Some((16, Fault::Crash)))],
            vec![step(4_000, Verb::ToolHiveStops, None)],
        ],
        reboot: false,
    };
    assert_eq!(machine::happens(&history), Ok(()));
}
