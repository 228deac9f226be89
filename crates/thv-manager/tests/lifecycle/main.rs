//! The life of workloads on in-memory implementations: what each verb promises, and what happens when it is cut off.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

#[allow(dead_code, reason = "shared with the simulation, which has more faults")]
mod mortal;
mod support;

mod run_and_start;
mod stop_and_delete;

mod beside;
mod cut_off;
mod escalation;
mod faults;
mod groups;
mod honoured;
mod late;
mod many;
mod old_secrets;
mod others;
mod races;
mod remote;
mod standstill;
mod supervision;
mod updates;
mod watching;
#[allow(dead_code, reason = "the simulation uses all of it")]
mod witness;
