//! The helper of an isolated workload, twice: the workload shares the network of the inner one, which has nothing but
//! loopback; the outer one is on a network that leads out. Between them there is a folder with sockets, which the workload
//! does not see. So there is no interface, no address and no name by which the workload could reach anything but the
//! inner helper's proxy, and what goes through that the outer one decides.
//!
//! ```text
//! thv-egress outer --allow-host .example.com --allow-port 443 --ingress 8080
//! thv-egress inner --ingress 8080
//! ```
//!
//! It uses the standard library alone, so that it is one small static file. Names are asked for at the engine's resolver
//! by itself: a static program has no other way.

mod engine_host;
mod host_table;
mod options;
mod place;
mod proxy;
mod relay;
mod request;
mod resolver;
mod rules;
mod streams;

use std::io;
use std::process::ExitCode;

use options::{Options, Side};

fn main() -> ExitCode {
    let done = Options::parse(std::env::args().skip(1))
        .and_then(|options| serve(options).map_err(|error| error.to_string()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => failed(&problem),
    }
}

fn serve(options: Options) -> io::Result<()> {
    let place = place::Place::look();
    for port in options.ingress {
        match options.side {
            Side::Inner => relay::ingress_inside(port.number)?,
            Side::Outer => relay::ingress_outside(port, place.gateway)?,
        }
    }
    match options.side {
        Side::Inner => relay::egress_inside(),
        Side::Outer => proxy::serve(options.rules, place),
    }
}

#[expect(clippy::print_stderr, reason = "a program says on standard error why it ends")]
fn failed(problem: &str) -> ExitCode {
    eprintln!("thv-egress: {problem}");
    ExitCode::FAILURE
}
