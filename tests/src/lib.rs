//! Fixtures of the end-to-end tests: a machine of one's own, real servers, real clients.
//!
//! A test makes a [`Machine`], runs the command line on it and talks to what it started:
//!
//! ```no_run
//! use serde_json::json;
//! use thv_tests::{Client, Machine, echo_server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let machine = Machine::new();
//! let name = machine.name("echo");
//! let server = format!("exec://{}", echo_server().display());
//! machine.thv(["run", &server, "--name", &name, "--transport", "stdio"]).await.ok();
//! let client = Client::connect(&machine.workload(&name).await.url).await;
//! assert_eq!(client.call("echo", json!({ "text": "hello" })).await, "hello");
//! # }
//! ```
//!
//! What a machine started ends with it, also when the test fails. A test that needs what this host lacks asks for it
//! ([`docker`], [`python`], [`node`], [`conformance`]) and returns when there is none; `THV_REQUIRE` turns that into a failure.

mod machine;
mod output;

mod binaries;
mod docker;
mod image;
mod image_store;
mod oci_registry;
mod offers;
mod private_engine;
mod registry;
mod requirements;
mod signing;
mod small_disk;
mod terminal;

mod client;
mod events;
mod held_port;
mod http;
mod upstream;

mod eventually;

pub use binaries::{echo_server, embed, quickstart, thv, thv_crash_points};
pub use client::Client;
pub use docker::{Docker, docker};
pub use events::SseSession;
pub use eventually::{WAIT, eventually};
pub use held_port::HeldPort;
pub use http::{Response, exchange, post, request};
pub use image_store::{ImageStore, Trouble};
pub use machine::Machine;
pub use oci_registry::{OciRegistry, oci_registry};
pub use offers::Offers;
pub use output::Output;
pub use private_engine::PrivateEngine;
pub use registry::{Registry, RegistryAnswer};
pub use requirements::{conformance, node, python, static_egress, systemd_analyze};
pub use signing::{Authority, Form, Signature, Workflow};
pub use small_disk::{SmallDisk, small_disk};
pub use terminal::{Terminal, terminal};
pub use upstream::Upstream;
