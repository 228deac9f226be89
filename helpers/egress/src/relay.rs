//! What passes between the two helpers: one socket for all that goes out, one for each port of the workload.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use crate::options::Ingress;
use crate::streams::{join, serve};

/// Where programs expect a proxy; on loopback of the workload's network.
const PROXY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 3128);
const EGRESS: &str = "/run/thv/egress.sock";

fn ingress_socket(port: u16) -> String {
    format!("/run/thv/ingress-{port}.sock")
}

/// Listens anew: a helper that was started again finds what the one before left.
fn listen(path: impl AsRef<Path>) -> io::Result<UnixListener> {
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Where the outer helper is asked for connections.
pub(crate) fn egress_outside() -> io::Result<UnixListener> {
    listen(EGRESS)
}

/// Passes what the workload sends to its proxy on, without end.
pub(crate) fn egress_inside() -> io::Result<()> {
    for client in TcpListener::bind(PROXY)?.incoming() {
        let Ok(client) = client else { continue };
        serve(move || {
            client.set_nodelay(true)?;
            join(client, UnixStream::connect(EGRESS)?)
        });
    }
    Ok(())
}

/// Passes on to a port of the workload what comes for it.
pub(crate) fn ingress_inside(port: u16) -> io::Result<()> {
    let listener = listen(ingress_socket(port))?;
    let accepting = move || {
        for client in listener.incoming().flatten() {
            serve(move || {
                // One that does not listen yet: the client sees the connection end, and tries again.
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
                server.set_nodelay(true)?;
                join(client, server)
            });
        }
    };
    thread::Builder::new().spawn(accepting).map(drop)
}

/// Takes what comes for a port of the workload. Unless the port is open, only the engine's host is served, whose
/// connections come from the gateway: others are on the same network.
pub(crate) fn ingress_outside(port: Ingress, gateway: Option<Ipv4Addr>) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.number))?;
    let accepting = move || {
        for client in listener.incoming().flatten() {
            let from_host = match client.peer_addr() {
                Ok(SocketAddr::V4(peer)) => gateway == Some(*peer.ip()),
                _ => false,
            };
            if port.open || from_host {
                serve(move || {
                    client.set_nodelay(true)?;
                    join(client, UnixStream::connect(ingress_socket(port.number))?)
                });
            }
        }
    };
    thread::Builder::new().spawn(accepting).map(drop)
}
