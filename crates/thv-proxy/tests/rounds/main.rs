//! An older server asks a client of the revision without sessions: in the answer to its call, round by round.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../common/mod.rs"]
mod common;

mod asking;
mod client;
mod kept;
