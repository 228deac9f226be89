//! What happens to the command line, its servers and the engine in life, promise by promise: `README.md` says which is where.
//! One program, so that it is built once and its drills wait beside each other. They share nothing but the engine.

#[path = "../drill/mod.rs"]
mod drill;

mod batch;
mod cut_off;
mod dropped_stop;
mod embedding;
mod engine_restart;
mod events;
mod fencing;
mod killed_proxy;
mod killed_server;
mod killed_upgrade;
mod reads;
mod secrets;
mod standstill;
mod stopped;
mod stopped_docker;
mod strangers;
mod toolhive;
