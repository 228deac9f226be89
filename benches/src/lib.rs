//! What benchmarks share; each bench target is one comparison.

pub mod bare;
pub mod contestants;
pub mod engine;
pub mod programs;
pub mod session;

use std::time::Duration;

/// The one in the middle.
///
/// # Panics
/// When there is none.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
