//! An MCP server with everything that the official conformance suite asks for, over stdio and over streamable HTTP.
//!
//! `MCP_TRANSPORT` says which (by default stdio), `MCP_HOST` and `MCP_PORT` where it listens; the address is told on
//! standard error. Nothing of the crates under test is in it.

mod catalogue;
mod http;
mod session;
mod stdio;
mod tools;

use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    match std::env::var("MCP_TRANSPORT").as_deref() {
        Ok("streamable-http") => http::serve().await,
        _ => stdio::serve().await,
    }
}
