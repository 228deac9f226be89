//! The proxy's port: bound before anything else happens, so that a busy one is found by the verb itself.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use thv_process::Processes;

use crate::{Error, Result};

/// Free ports are searched from here, as ToolHive does.
const FIRST_FREE: u16 = 10_000;
const RANDOM_TRIES: u32 = 10;

/// Parses the address that a proxy binds.
pub(crate) fn bind_address(host: &str) -> Result<IpAddr> {
    if host.is_empty() || host == "localhost" {
        return Ok(IpAddr::from([127, 0, 0, 1]));
    }
    host.parse().map_err(|_| Error::Invalid {
        what: "host".into(),
        detail: format!("\"{host}\" is not an IP address"),
    })
}

/// Binds `port`, or a free one for 0.
///
/// # Errors
/// `PortTaken` naming who has it.
pub(crate) fn bind(host: &str, port: u16, processes: &dyn Processes) -> Result<TcpListener> {
    let address = bind_address(host)?;
    if port != 0 {
        return TcpListener::bind(SocketAddr::new(address, port)).map_err(|source| match source.kind() {
            ErrorKind::AddrInUse => Error::PortTaken {
                port,
                holder: holder(port, processes),
            },
            _ => Error::Io {
                action: format!("listen on {address}:{port}"),
                source,
            },
        });
    }
    let mut last = None;
    for port in candidates() {
        match TcpListener::bind(SocketAddr::new(address, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => last = Some(error),
            Err(source) => {
                return Err(Error::Io {
                    action: format!("listen on {address}"),
                    source,
                });
            }
        }
    }
    let source = last.unwrap_or_else(|| ErrorKind::AddrInUse.into());
    Err(Error::Io {
        action: format!("find a free port on {address}"),
        source,
    })
}

/// A few random ports, then all of them in order.
fn candidates() -> impl Iterator<Item = u16> {
    let random = (0..RANDOM_TRIES).filter_map(|_| {
        let bits = getrandom::u32().ok()?;
        let span = u32::from(u16::MAX) - u32::from(FIRST_FREE);
        u16::try_from(u32::from(FIRST_FREE) + bits % span).ok()
    });
    random.chain(FIRST_FREE..=u16::MAX)
}

/// A free port for a server. It is not held: the server binds it itself.
pub(crate) fn free_port(processes: &dyn Processes) -> Result<u16> {
    port_of(&bind("", 0, processes)?)
}

/// The port that a listener has.
pub(crate) fn port_of(listener: &TcpListener) -> Result<u16> {
    let address = listener.local_addr().map_err(|source| Error::Io {
        action: "read a socket's address".into(),
        source,
    })?;
    Ok(address.port())
}

/// Waits until `port` can be bound; `false` when it cannot within `limit`.
pub(crate) async fn wait_free(host: &str, port: u16, limit: Duration) -> bool {
    const STEP: Duration = Duration::from_millis(20);
    let Ok(address) = bind_address(host) else {
        return true;
    };
    let deadline = tokio::time::Instant::now() + limit;
    // The kernel has no event for a port becoming free.
    while TcpListener::bind(SocketAddr::new(address, port)).is_err() {
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(STEP).await;
    }
    true
}

fn holder(port: u16, processes: &dyn Processes) -> String {
    match processes.port_holder(port) {
        Ok(Some(holder)) => format!("it is held by {holder}"),
        Ok(None) => "it is held by a process that cannot be seen".into(),
        Err(error) => format!("who holds it cannot be found out ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_names_its_holder() {
        let processes = thv_process::system().unwrap();
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = busy.local_addr().unwrap().port();
        let error = bind("127.0.0.1", port, &*processes).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("process {}", std::process::id())),
            "{error}"
        );
    }

    #[test]
    fn a_free_port_is_at_least_ten_thousand() {
        let processes = thv_process::system().unwrap();
        let listener = bind("", 0, &*processes).unwrap();
        assert!(listener.local_addr().unwrap().port() >= FIRST_FREE);
    }
}
