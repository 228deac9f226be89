//! Engines that stall, break off, or refuse a part: no call hangs, and nothing half-made stays.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod cut;
mod half_made;
mod helper_images;
mod nonsense;
mod refused;
mod stopping;

use std::time::Duration;

use thv_runtime::StopOptions;

const SHORT: StopOptions = StopOptions {
    grace: Duration::from_secs(2),
};
