//! The proxy's port: bound before anything else happens, so that a busy one is found by the verb itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::time::Duration;

use thv_process::Processes;

use crate::{Error, Result};

/// Free ports are searched from here, as ToolHive does.
const FIRST_FREE: u16 = 10_000;
const RANDOM_TRIES: u32 = 20;
/// From which ports the kernel takes those of connections that go out, and its default.
const OUTGOING_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const OUTGOING_DEFAULT: RangeInclusive<u16> = 32_768..=60_999;

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

/// The ports and addresses of a machine. Asked where a call may block for a moment.
pub trait Ports: Debug + Send + Sync + 'static {
    /// Listens at `address`; `AddrInUse` when somebody does.
    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener>;

    /// Ports to try, in this order, when nobody asked for one.
    fn candidates(&self) -> Box<dyn Iterator<Item = u16> + '_>;

    /// The addresses of a host name.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;

    /// Whether it never waits, as [`Files::never_waits`](crate::Files::never_waits).
    fn never_waits(&self) -> bool {
        false
    }
}

/// The ports of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemPorts;

impl Ports for SystemPorts {
    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address)
    }

    /// A few random ports, then all of them in order; last those that a connection of anybody's may take while the
    /// workload is stopped, so that it could not start again on its port.
    fn candidates(&self) -> Box<dyn Iterator<Item = u16> + '_> {
        let outgoing = outgoing_ports();
        let all = || FIRST_FREE..=u16::MAX;
        let random = (0..RANDOM_TRIES).filter_map(|_| {
            let bits = getrandom::u32().ok()?;
            let span = u32::from(u16::MAX) - u32::from(FIRST_FREE);
            u16::try_from(u32::from(FIRST_FREE) + bits % span).ok()
        });
        let (lasting, others) = (outgoing.clone(), outgoing);
        let first = random.chain(all()).filter(move |port| !lasting.contains(port));
        Box::new(first.chain(all().filter(move |port| others.contains(port))))
    }

    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok((host, 0).to_socket_addrs()?.map(|found| found.ip()).collect())
    }
}

/// The ports of connections that go out.
fn outgoing_ports() -> RangeInclusive<u16> {
    let read = std::fs::read_to_string(OUTGOING_PORTS).ok().and_then(|text| {
        let mut ends = text.split_whitespace().map(str::parse);
        Some(ends.next()?.ok()?..=ends.next()?.ok()?)
    });
    read.unwrap_or(OUTGOING_DEFAULT)
}

/// Ports as a test says: some are taken, and names have the addresses that they are given. What is free is bound on the
/// machine, as a proxy is to be reached there.
#[derive(Debug, Clone, Default)]
pub struct MemoryPorts {
    taken: BTreeSet<u16>,
    candidates: Vec<u16>,
    hosts: BTreeMap<String, Vec<IpAddr>>,
}

impl MemoryPorts {
    /// With a port that somebody has.
    #[must_use]
    pub fn with_taken(mut self, port: u16) -> Self {
        self.taken.insert(port);
        self
    }

    /// With these ports to try first.
    #[must_use]
    pub fn with_candidates(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.candidates.extend(ports);
        self
    }

    /// With a host name; what is no address is left out.
    #[must_use]
    pub fn with_host<'a>(mut self, name: &str, addresses: impl IntoIterator<Item = &'a str>) -> Self {
        let addresses = addresses.into_iter().filter_map(|text| text.parse().ok());
        self.hosts.insert(name.to_owned(), addresses.collect());
        self
    }
}

impl Ports for MemoryPorts {
    fn never_waits(&self) -> bool {
        true
    }

    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        if self.taken.contains(&address.port()) {
            return Err(ErrorKind::AddrInUse.into());
        }
        SystemPorts.bind(address)
    }

    fn candidates(&self) -> Box<dyn Iterator<Item = u16> + '_> {
        Box::new(self.candidates.iter().copied().chain(SystemPorts.candidates()))
    }

    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.hosts
            .get(host)
            .cloned()
            .ok_or_else(|| ErrorKind::NotFound.into())
    }
}

/// Binds `port`, or a free one for 0.
///
/// # Errors
/// `PortTaken` naming who has it.
pub(crate) fn bind(
    host: &str,
    port: u16,
    ports: &dyn Ports,
    processes: &dyn Processes,
) -> Result<TcpListener> {
    let address = bind_address(host)?;
    if port != 0 {
        return ports
            .bind(SocketAddr::new(address, port))
            .map_err(|source| match source.kind() {
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
    for port in ports.candidates() {
        match ports.bind(SocketAddr::new(address, port)) {
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

/// A free port for a server. It is not held: the server binds it itself.
pub(crate) fn free_port(ports: &dyn Ports, processes: &dyn Processes) -> Result<u16> {
    port_of(&bind("", 0, ports, processes)?)
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
pub(crate) async fn wait_free(host: &str, port: u16, ports: &dyn Ports, limit: Duration) -> bool {
    const STEP: Duration = Duration::from_millis(20);
    let Ok(address) = bind_address(host) else {
        return true;
    };
    let deadline = tokio::time::Instant::now() + limit;
    // The kernel has no event for a port becoming free.
    while ports.bind(SocketAddr::new(address, port)).is_err() {
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(STEP).await;
    }
    true
}

/// Who holds a port, in words.
pub(crate) fn holder(port: u16, processes: &dyn Processes) -> String {
    match processes.port_holder(port) {
        Ok(Some(holder)) if holder.processes.is_empty() && holder.uid == processes.uid() => {
            "it is held by a process that is just ending, or cannot be seen".into()
        }
        Ok(Some(holder)) => format!("it is held by {holder}"),
        Ok(None) => "it is held by a process that cannot be seen".into(),
        Err(error) => format!("who holds it cannot be found out ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_a_connection_may_take_is_chosen_last() {
        let outgoing = outgoing_ports();
        let lasting = (FIRST_FREE..=u16::MAX)
            .filter(|port| !outgoing.contains(port))
            .count();
        let candidates: Vec<u16> = SystemPorts.candidates().collect();
        let first = candidates
            .iter()
            .take_while(|port| !outgoing.contains(port))
            .count();
        assert!(
            (lasting..=lasting + RANDOM_TRIES as usize).contains(&first),
            "{first} of {lasting}"
        );
        let each: BTreeSet<_> = candidates.into_iter().collect();
        assert_eq!(each, (FIRST_FREE..=u16::MAX).collect(), "none is left out");
    }

    #[test]
    fn a_busy_port_names_its_holder() {
        let processes = thv_process::system().unwrap();
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = busy.local_addr().unwrap().port();
        let error = bind("127.0.0.1", port, &SystemPorts, &*processes).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("process {}", std::process::id())),
            "{error}"
        );
    }

    #[test]
    fn a_holder_is_named_with_its_command_and_one_that_cannot_be_seen_by_its_user() {
        let processes = thv_process::MemoryProcesses::new();
        let nginx = processes.add(thv_process::MemoryProcess::new("/usr/sbin/nginx").args(["-g", "x"]));
        processes.listen(8080, nginx.pid);
        processes.listen_hidden(8081, 33);
        processes.listen_hidden(8083, processes.uid());
        let taken = |port| {
            let ports = MemoryPorts::default().with_taken(port);
            bind("", port, &ports, &processes).unwrap_err().to_string()
        };
        let start = "requested proxy port 8080 is not available: it is held by process ";
        let named = taken(8080);
        assert!(
            named.starts_with(start) && named.contains("nginx -g x"),
            "{named}"
        );
        assert_eq!(
            taken(8081),
            "requested proxy port 8081 is not available: it is held by another user's process (user 33)"
        );
        assert!(taken(8083).ends_with("it is held by a process that is just ending, or cannot be seen"));
        assert!(taken(8082).ends_with("it is held by a process that cannot be seen"));
    }

    #[test]
    fn a_free_port_is_at_least_ten_thousand() {
        let processes = thv_process::system().unwrap();
        let listener = bind("", 0, &SystemPorts, &*processes).unwrap();
        assert!(listener.local_addr().unwrap().port() >= FIRST_FREE);
    }
}
