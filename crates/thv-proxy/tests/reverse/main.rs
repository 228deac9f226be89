//! A server that speaks HTTP, behind the reverse proxy.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../common/mod.rs"]
mod common;

mod availability;
mod bodies;
mod fixture;
mod hangs_up;
mod requests;
mod sessions;
mod sse;
mod standstill;
