//! Asking over the network: which addresses, how long, how much.

mod address;
mod client;
mod resolve;
mod rules;

pub(crate) use client::{Client, Limits};
pub(crate) use rules::Rules;
