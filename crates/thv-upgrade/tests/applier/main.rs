//! The path to a newer version: its order, its faults, and what it keeps.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail loudly")]

mod every_field;
mod faults;
mod managed;
mod support;
